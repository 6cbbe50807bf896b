"""Fitting a gate: from which certainty on one pass is enough, and how the likeliest poses are weighed, for one network.

All is chosen on validation pictures, each of which the network is asked about once from every pose.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.prior import Prior
from equicli.data.decode import Decoder
from equicli.data.folders import Sample
from equicli.data.loading import Loader
from equicli.groups import Group, as_finite
from equicli.policy import ONE, Gate, One
from equicli.prediction.evidence import EVIDENCE
from equicli.prediction.inputs import Views
from equicli.prediction.signature import asking, join_batch, split_batch
from equicli.progress import Progress
from equicli.tasks.task import Task

# Validation pictures that a gate is fitted on, at most.
IMAGES = 500
BATCH = 32
# The mean passes that are allowed where nobody says, of which as few are used as give this share of the gain.
DEFAULT_PASSES, KNEE = 1.25, 0.9
# What is tried.
MOST = (2, 3, 4)
WEIGHTS = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Answers:
    """What is known of n validation pictures.

    pose: what the canonicalizer found. outputs: what the network says from each pose, in the order of the group.
    targets: what is right for each.
    """

    pose: Pose
    outputs: Sequence[Any]
    targets: Sequence[Any]


@dataclass(frozen=True)
class FittedGate:
    """policy: `One` where more passes gain nothing.
    score, passes: means over the pictures that it was fitted on. alone: the score of one pass.
    """

    policy: Gate | One
    score: float
    alone: float
    passes: float


def make_gate(
    model: AdaptedModel,
    task: Task,
    validation: Sequence[Sample],
    targets: Sequence[Any] | None,
    prior: Prior,
    *,
    passes: float | None,
    decoder: Decoder,
    progress: Progress,
) -> Gate | One:
    """Fit a gate for a trained model on some validation pictures, and say what it gains.

    Args:
        targets: what is right for each of these; None where nothing says, and right is what the network says of a
            picture in the pose that it expects.
        passes: see `fit_gate`.

    Raises:
        EquicliError: none of the pictures can be read.
    """
    group = as_finite(model.canonicalizer.group)
    chosen = torch.randperm(len(validation), generator=torch.Generator().manual_seed(0))[:IMAGES].sort().values.tolist()
    right = None if targets is None else [targets[i] for i in chosen]
    samples = [validation[i] for i in chosen]
    progress.say(f"gate: asking the network about {len(samples)} validation images from all {group.order} poses")
    answers = _ask_about_all_poses(model, task, samples, right, prior, decoder, progress)
    fitted = fit_gate(answers, group, prior, task, passes)
    if isinstance(fitted.policy, One):
        progress.say("gate: more than one pass gains nothing on these, so each image takes one")
        return fitted.policy
    progress.say(
        f"gate: where the pose found is less than {fitted.policy.threshold:.0%} sure, the {fitted.policy.most} "
        f"likeliest are asked about: {fitted.passes:.2f} passes an image, {fitted.score:.1%} right of these instead of "
        f"{fitted.alone:.1%}"
    )
    return fitted.policy


@torch.inference_mode()
def _ask_about_all_poses(
    model: AdaptedModel,
    task: Task,
    samples: Sequence[Sample],
    targets: Sequence[Any] | None,
    prior: Prior,
    decoder: Decoder,
    progress: Progress,
) -> Answers:
    ask, group = asking(model.prediction_network, model.signature), as_finite(model.canonicalizer.group)
    expected = group.find(*prior.main)
    assert expected is not None
    scores: list[Tensor] = []
    outputs: list[list[Any]] = [[] for _ in range(group.order)]
    right: list[Any] = []
    loader = Loader(samples, lambda picture: picture, BATCH, decoder=decoder)
    for batch in progress.track(loader, "asking about poses", len(samples), size=lambda batch: len(batch.indices)):
        inputs = model.pictures(batch.items)
        pose = model.find_pose(inputs, ask)
        assert pose is not None and pose.scores is not None
        scores.append(pose.scores.cpu())
        views = Views(inputs, group, ask, model.signature.outputs)
        said = [views.at(g) for g in range(group.order)]
        for g, output in enumerate(said):
            outputs[g] += split_batch(output)
        right += task.targets_of(said[expected]) if targets is None else [targets[i] for i in batch.indices.tolist()]
    every = torch.cat(scores)
    return Answers(Pose(every.argmax(dim=1), every), [join_batch(of) for of in outputs], right)


def fit_gate(answers: Answers, group: Group, prior: Prior, task: Task, passes: float | None) -> FittedGate:
    """Choose the gate that scores best at the mean passes allowed.

    Args:
        passes: mean passes of the prediction network that are allowed; None takes as few up to DEFAULT_PASSES as give
            most of the gain.
    """
    scores = answers.pose.scores
    assert scores is not None
    temperature = fit_temperature(group, prior, answers.pose)
    p, _ = Gate(0.0, 2, temperature).posterior(scores)
    ranked = _ranked_outputs(answers, min(max(MOST), as_finite(group).order))
    alone = _score(task, ranked[0], answers.targets)

    def score_all(shape: Gate) -> Tensor:
        """The score of each picture, were all asked about at `most` poses."""
        return _score(task, shape.combined(ranked[: shape.most], p[:, : shape.most]), answers.targets)

    candidates = [
        gate
        for shape in _shapes(as_finite(group).order, temperature)
        for gate in _thresholds(shape, p[:, 0], score_all(shape), alone, passes or DEFAULT_PASSES)
    ]
    one = FittedGate(ONE, float(alone.mean()), float(alone.mean()), 1.0)
    best = max(candidates, key=lambda fitted: (fitted.score, -fitted.passes), default=one)
    if best.score <= one.score:
        return one
    if passes is None:
        enough = one.score + KNEE * (best.score - one.score)
        best = min((c for c in candidates if c.score >= enough), key=lambda fitted: (fitted.passes, -fitted.score))
    return best


def fit_temperature(group: Group, prior: Prior, pose: Pose) -> float:
    """What scores are divided by so that poses of untouched pictures are most likely under the prior."""
    assert pose.scores is not None
    scores = pose.scores.double()

    def loss(log_temperature: float) -> float:
        scaled = pose._replace(scores=scores / torch.tensor(log_temperature).exp().item())
        return float(prior.loss(group, scaled))

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    return float(torch.tensor(found.x).exp())


def _shapes(order: int, temperature: float) -> Iterator[Gate]:
    """The gates that are tried, but for their thresholds."""
    for most in (m for m in MOST if m <= order):
        yield Gate(0.0, most, temperature)
        for weight, evidence in itertools.product(WEIGHTS, EVIDENCE):
            yield Gate(0.0, most, temperature, weight, evidence, "mean")
            yield Gate(0.0, most, temperature, weight, evidence, "best")


def _thresholds(shape: Gate, p: Tensor, gated: Tensor, alone: Tensor, allowed: float) -> Iterator[FittedGate]:
    """A gate of this shape for every share of the pictures that may be asked about further.

    Args:
        p: p(ĝ | x) of each picture. gated, alone: the score of each, asked about so and at one pose.
    """
    n = len(p)
    order = p.argsort()
    gain = torch.cat([torch.zeros(1, dtype=torch.float64), (gated - alone)[order].cumsum(0)])
    most = min(n - 1, int((allowed - 1) / (shape.most - 1) * n))
    for count in range(max(1, n // 100), most + 1, max(1, n // 100)):
        threshold = float((p[order[count - 1]].double() + p[order[count]].double()) / 2)
        passes = 1 + (shape.most - 1) * count / n
        score = float(alone.mean() + gain[count] / n)
        yield FittedGate(replace(shape, threshold=threshold), score, float(alone.mean()), passes)


def _ranked_outputs(answers: Answers, count: int) -> list[Any]:
    """What the network says from the likeliest poses of each picture, the likeliest first."""
    assert answers.pose.scores is not None
    _, poses = Gate(0.0, 2).posterior(answers.pose.scores)
    rows = [split_batch(output) for output in answers.outputs]
    return [join_batch([rows[g][i] for i, g in enumerate(poses[:, rank].tolist())]) for rank in range(count)]


def _score(task: Task, output: Any, targets: Sequence[Any]) -> Tensor:
    return task.record(output, targets)[task.score].double()
