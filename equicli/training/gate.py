"""Fitting a gate: from which certainty on one pass is enough, and how the likeliest poses are weighed, for one network.

All is chosen on validation pictures, each of which the network is asked about once from every pose.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.prior import Prior
from equicli.groups import Group, as_finite
from equicli.policy import ONE, Gate, One
from equicli.prediction.evidence import EVIDENCE
from equicli.prediction.inputs import Inputs, Views
from equicli.prediction.signature import asking, join_batch, split_batch
from equicli.tasks.task import Task

# Validation pictures that a gate is fitted on, at most.
IMAGES = 500
# The mean passes that are allowed where nobody says, of which as few are used as give this share of the gain.
DEFAULT_PASSES, KNEE = 1.25, 0.9
# What is tried.
MOST = (2, 3, 4)
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)


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


@torch.inference_mode()
def ask_about_all_poses(
    model: AdaptedModel, batches: Iterable[tuple[Inputs, Sequence[Any] | None]], task: Task, upright: Callable[..., Any]
) -> Answers:
    """Ask the network about every view of some pictures.

    Args:
        batches: inputs, and what is right for each; None where nothing says, and right is what the network says of the
            picture in the pose that it expects.
        upright: asks the network about inputs in that pose.
    """
    ask, group = asking(model.prediction_network, model.signature), as_finite(model.canonicalizer.group)
    scores: list[Tensor] = []
    outputs: list[list[Any]] = [[] for _ in range(group.order)]
    targets: list[Any] = []
    for inputs, right in batches:
        pose = model.find_pose(inputs, ask)
        assert pose is not None and pose.scores is not None
        scores.append(pose.scores)
        views = Views(inputs, group, ask, model.signature.outputs)
        for g in range(group.order):
            outputs[g] += split_batch(views.at(g))
        targets += task.targets_of(upright(inputs, ask)) if right is None else right
    every = torch.cat(scores)
    return Answers(Pose(every.argmax(dim=1), every), [join_batch(of) for of in outputs], targets)


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
        for shape in _shapes(as_finite(group).order, task, temperature)
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


def _shapes(order: int, task: Task, temperature: float) -> Iterator[Gate]:
    """The gates that are tried, but for their thresholds."""
    averaged = task.signature.outputs == "logits"
    for most in (m for m in MOST if m <= order):
        if not averaged:
            yield Gate(0.0, most, temperature, combine="best")
            continue
        for weight, evidence in itertools.product(WEIGHTS, EVIDENCE):
            if weight == 0 and evidence != next(iter(EVIDENCE)):
                continue
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
