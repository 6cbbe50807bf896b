"""Fitting a gate: from which certainty on one pass is enough, and how the likeliest poses are weighed, for one network.

All is chosen on validation pictures, each of which the network is asked about once from every pose.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
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
from equicli.policy import ONE, Gate, One, posterior
from equicli.prediction.evidence import EVIDENCE
from equicli.prediction.inputs import Views
from equicli.prediction.signature import asking
from equicli.progress import Progress
from equicli.tasks.task import Task

# Validation pictures that a gate is fitted on, at most.
IMAGES = 500
BATCH = 32
# The mean passes that are allowed where nobody says, of which as few are used as give this share of the gain.
DEFAULT_PASSES, KNEE = 1.25, 0.9
# Mean passes are tried in such steps: finer ones follow the chance of single pictures.
STEP = 0.05
FOLDS = 5
# What is tried.
MOST = (2, 3, 4)
WEIGHTS = (0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Answers:
    """What is known of n validation pictures.

    pose: what the canonicalizer found. outputs: what the network says from the likeliest poses, the likeliest first:
        logits (n, k) each. targets: what is right for each.
    """

    pose: Pose
    outputs: Sequence[Tensor]
    targets: Sequence[Any]


@dataclass(frozen=True)
class FittedGate:
    """policy: `One` where more passes gain nothing beyond chance.
    score, passes: means over the pictures, each scored by what the others chose. alone: the score of one pass.
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
    count = min(max(MOST), group.order)
    progress.say(
        f"gate: asking the network about the {count} likeliest poses of {len(samples)} validation images, "
        f"{count * len(samples):,} passes; --passes 1 does without"
    )
    answers = _ask(model, task, samples, right, prior, count, decoder, progress)
    fitted = fit_gate(answers, group, prior, task, passes)
    if isinstance(fitted.policy, One):
        progress.say("gate: more than one pass gains nothing beyond chance on these, so each image takes one")
        return fitted.policy
    progress.say(
        f"gate: where the pose found is less than {fitted.policy.threshold:.0%} sure, the {fitted.policy.most} "
        f"likeliest are asked about: {fitted.passes:.2f} passes an image, {fitted.score:.1%} right instead of "
        f"{fitted.alone:.1%}, each by what the others chose"
    )
    return fitted.policy


@torch.inference_mode()
def _ask(
    model: AdaptedModel,
    task: Task,
    samples: Sequence[Sample],
    targets: Sequence[Any] | None,
    prior: Prior,
    count: int,
    decoder: Decoder,
    progress: Progress,
) -> Answers:
    """Ask the network about the `count` likeliest poses of each picture."""
    ask, group = asking(model.prediction_network, model.signature), as_finite(model.canonicalizer.group)
    expected = group.find(*prior.main)
    assert expected is not None
    scores: list[Tensor] = []
    outputs: list[list[Tensor]] = [[] for _ in range(count)]
    right: list[Any] = []
    loader = Loader(samples, lambda picture: picture, BATCH, decoder=decoder)
    for batch in progress.track(loader, "asking about poses", len(samples), size=lambda batch: len(batch.indices)):
        inputs = model.pictures(batch.items)
        pose = model.find_pose(inputs, ask)
        assert pose is not None and pose.scores is not None
        scores.append(pose.scores.cpu())
        views = Views(inputs, group, ask, model.signature.outputs)
        _, poses = posterior(pose.scores)
        for rank, batches in enumerate(outputs):
            batches.append(views.at(poses[:, rank]).cpu())
        if targets is None:
            right += task.targets_of(views.at(expected))
        else:
            right += [targets[i] for i in batch.indices.tolist()]
    every = torch.cat(scores)
    return Answers(Pose(every.argmax(dim=1), every), [torch.cat(batches) for batches in outputs], right)


def fit_gate(answers: Answers, group: Group, prior: Prior, task: Task, passes: float | None) -> FittedGate:
    """Choose the gate that scores best at the mean passes allowed.

    The best of many flatters itself on the pictures that chose it. So what it gains is measured on other pictures: the
    same choice is made on all folds but one and scored on that one, fold by fold. Where that is not more than its
    standard error, one pass stays.

    Args:
        passes: mean passes of the prediction network that are allowed; None takes as few up to DEFAULT_PASSES as give
            most of the gain.
    """
    assert answers.pose.scores is not None
    temperature = fit_temperature(group, prior, answers.pose)
    p, _ = posterior(answers.pose.scores, temperature)
    sure, alone = p[:, 0], _score(task, answers.outputs[0], answers.targets)
    gains = {
        shape: _score(task, shape.combined(answers.outputs[: shape.most], p[:, : shape.most]), answers.targets) - alone
        for shape in _shapes(len(answers.outputs), temperature)
    }
    held_out, folds = torch.zeros_like(alone), torch.arange(len(alone)) % FOLDS
    for fold in range(FOLDS):
        rest, own = folds != fold, folds == fold
        gate = _choose({shape: gain[rest] for shape, gain in gains.items()}, sure[rest], passes)
        if gate is not None:
            held_out[own] = (gains[replace(gate, threshold=0.0)] * (sure < gate.threshold))[own]
    gate, score, gain = _choose(gains, sure, passes), float(alone.mean()), float(held_out.mean())
    if gate is None or gain <= float(held_out.std()) / len(held_out) ** 0.5:
        return FittedGate(ONE, score, score, 1.0)
    opened = float((sure < gate.threshold).double().mean())
    return FittedGate(gate, score + gain, score, 1 + (gate.most - 1) * opened)


def _choose(gains: Mapping[Gate, Tensor], sure: Tensor, passes: float | None) -> Gate | None:
    """The gate by which some pictures gain most; None where they gain nothing.

    Args:
        gains: by shape what each picture gains where the gate is open. sure: p(ĝ | x) of each. passes: see `fit_gate`.
    """
    n, (ranked, order) = len(sure), sure.double().sort()
    allowed = passes or DEFAULT_PASSES
    steps = [1 + STEP * step for step in range(1, math.ceil((allowed - 1) / STEP - 1e-9))]
    candidates = []
    for shape, gain in gains.items():
        total = gain[order].cumsum(0)
        for mean in (*steps, allowed):
            count = min(n - 1, int((mean - 1) / (shape.most - 1) * n))
            if count > 0:
                gate = replace(shape, threshold=float(ranked[count - 1] + ranked[count]) / 2)
                candidates.append((float(total[count - 1]) / n, 1 + (shape.most - 1) * count / n, gate))
    most = max((gained for gained, *_ in candidates), default=0.0)
    if most <= 0:
        return None
    enough = most if passes else KNEE * most
    return min((c for c in candidates if c[0] >= enough), key=lambda c: (c[1], -c[0]))[2]


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


def _score(task: Task, output: Any, targets: Sequence[Any]) -> Tensor:
    return task.record(output, targets)[task.score].double()
