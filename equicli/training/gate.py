"""Fitting a gate: from which certainty on one pass is enough, and how the likeliest poses are weighed, for one network.

All is chosen on validation pictures, of which the network is asked about the likeliest poses once.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer, Pose, posterior
from equicli.canonicalization.prior import Prior
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.decode import Decoder
from equicli.data.folders import Sample
from equicli.data.loading import Loader
from equicli.groups import Group, is_finite
from equicli.groups.transport import Kinds
from equicli.policy import Gate, One, ranked_elements
from equicli.prediction.evidence import evidence_of
from equicli.prediction.inputs import Views, stays
from equicli.prediction.signature import asking, split_batch
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
CERTAIN = 2.0  # standard errors by which a gain is told from chance
SPREAD = 0.5  # that a temperature's logarithm is expected to have: most lie between 0.4 and 2.7
# What is tried.
MOST = (2, 3, 4)
WEIGHTS = (0.5, 1.0)
OF_INFORMATION = (16.0, 64.0)  # poses differ by hundredths of it


@dataclass(frozen=True)
class Answers:
    """What is known of n validation pictures.

    pose: what the canonicalizer found. outputs: what the network says from the likeliest poses, the likeliest first:
        logits (n, k) each; of outputs that cannot be averaged n mappings with the evidence in them (see
        `prediction.evidence`) and their `score`. targets: what is right for each.
    """

    pose: Pose
    outputs: Sequence[Any]
    targets: Sequence[Any]


@dataclass(frozen=True)
class FittedGate:
    """policy: `One` where more passes gain nothing beyond chance.
    score: the mean over the pictures, each scored by what the others chose. alone: that of one pass. passes: the mean.
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
    temperature: float | None = None,
    decoder: Decoder | CloudDecoder,
    progress: Progress,
) -> Gate | One:
    """Fit a gate for a trained model on some validation pictures, and say what it gains.

    Args:
        targets: what is right for each of these; None where nothing says, and right is what the network says of a
            picture in the pose that it expects.
        passes, temperature: see `fit_gate`.

    Raises:
        EquicliError: none of the pictures can be read.
    """
    group = model.canonicalizer.group
    chosen = torch.randperm(len(validation), generator=torch.Generator().manual_seed(0))[:IMAGES].sort().values.tolist()
    right = None if targets is None else [targets[i] for i in chosen]
    samples = [validation[i] for i in chosen]
    count = min(max(MOST), group.order if is_finite(group) else model.canonicalizer.ranks(group))
    progress.say(
        f"gate: asking the network about the {count} likeliest poses of {len(samples)} validation images, "
        f"{count * len(samples):,} passes; --passes 1 does without"
    )
    answers = _ask(model, task, samples, right, prior, count, decoder, progress)
    fitted = fit_gate(answers, group, prior, task, passes, temperature)
    if isinstance(fitted.policy, One):
        progress.say("gate: more than one pass gains nothing beyond chance on these, so each image takes one")
        return fitted.policy
    progress.say(
        f"gate: where the pose found is less than {fitted.policy.threshold:.0%} sure, the {fitted.policy.most} "
        f"likeliest are asked about: {fitted.passes:.2f} passes an image, {task.title} {fitted.score:.1%} instead of "
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
    decoder: Decoder | CloudDecoder,
    progress: Progress,
) -> Answers:
    """Ask the network about the `count` likeliest poses of each picture."""
    ask, group = asking(model.prediction_network, model.signature), model.canonicalizer.group
    expected = group.find(*prior.main)
    assert expected is not None
    scores: list[Tensor] = []
    candidates: list[Tensor] = []
    outputs: list[list[Any]] = [[] for _ in range(count)]
    right: list[Any] = []
    batch_size = 1 if model.signature.lists else BATCH
    loader = Loader(samples, lambda picture: picture, batch_size, decoder=decoder)
    for batch in progress.track(loader, "asking about poses", len(samples), size=lambda batch: len(batch.indices)):
        inputs = model.pictures(batch.items)
        pose = model.find_pose(inputs, ask)
        assert pose is not None and pose.scores is not None
        scores.append(pose.scores.cpu())
        candidates += [] if pose.candidates is None else [pose.candidates.cpu()]
        views = Views(inputs, group, ask, model.signature.outputs)
        _, poses = posterior(pose.scores)
        known = task.targets_of(views.at(expected)) if targets is None else [targets[i] for i in batch.indices.tolist()]
        right += known
        for element, batches in zip(ranked_elements(pose, poses, count), outputs, strict=True):
            said = views.at(element)
            kinds = model.signature.outputs
            batches.append(said.cpu() if isinstance(said, Tensor) else _judged(task, said, kinds, known))
    every = torch.cat(scores)
    compared = torch.cat(candidates) if candidates else None
    joined = [torch.cat(of) if isinstance(of[0], Tensor) else [one for part in of for one in part] for of in outputs]
    return Answers(Pose(every.argmax(dim=1), every, candidates=compared), joined, right)


def _judged(task: Task, output: Any, kinds: Kinds, targets: Sequence[Any]) -> list[dict[str, Tensor]]:
    """Of each answer what a gate is fitted on: the rest of it, such as masks, would fill the memory."""
    assert isinstance(kinds, Mapping)  # a gate wants evidence, which is a part of the output
    right = task.record(output, targets)[task.score]
    kept = [name for name, kind in kinds.items() if stays(kind)]
    return [
        {name: one[name].cpu() for name in kept} | {"score": score}
        for one, score in zip(split_batch(output), right, strict=True)
    ]


def fit_gate(
    answers: Answers, group: Group, prior: Prior, task: Task, passes: float | None, temperature: float | None = None
) -> FittedGate:
    """Choose the gate that scores best at the mean passes allowed.

    Its shape is that by which right answers are likeliest (by the task's loss, where it has one), as the best score of
    so many is luck; then as many pictures are asked about further as score best. What this gains is measured on other
    pictures: the same is done on all folds but one and scored on that one, fold by fold. Where that is no more than
    CERTAIN of its standard errors, one pass stays; unless it is a gain, and the loss of these pictures falls by more
    than CERTAIN of its own, which of a few hundred tells more than how many are right.

    Args:
        passes: mean passes of the prediction network that are allowed; None takes as few up to DEFAULT_PASSES as give
            most of the gain.
        temperature: what scores are divided by; None fits it to the prior.
    """
    assert answers.pose.scores is not None
    temperature = temperature or fit_temperature(group, prior, answers.pose)
    p, _ = posterior(answers.pose.scores, temperature)
    n, sure, likeliest = len(p), p[:, 0], answers.outputs[0]
    alone = _score(task, likeliest, answers.targets)
    folds = torch.arange(n) % FOLDS
    chosen_on = [torch.arange(n), *((folds != fold).nonzero()[:, 0] for fold in range(FOLDS))]
    nothing = torch.zeros_like(alone)
    best: list[tuple[float, Gate | None, Tensor, Any]] = [(0.0, None, nothing, likeliest)] * len(chosen_on)
    for shape in _shapes(len(answers.outputs), temperature, task.signature.outputs):
        said = shape.combined(answers.outputs[: shape.most], p[:, : shape.most])
        gain = _score(task, said, answers.targets) - alone
        for i, rows in enumerate(chosen_on):
            share = ((passes or DEFAULT_PASSES) - 1) / (shape.most - 1)
            unsure = rows[sure[rows].argsort()[: int(min(share, 1) * len(rows))]]
            better = _better(task, said, likeliest, gain, answers.targets, unsure)
            best[i] = max(best[i], (better, shape, gain, said), key=lambda choice: choice[0])
    gates = [
        None if shape is None else _open(shape, gain[rows], sure[rows], passes)
        for (_, shape, gain, _), rows in zip(best, chosen_on, strict=True)
    ]
    held_out, of_loss = nothing.clone(), nothing.clone()
    for fold, (gate, (_, _, gain, said)) in enumerate(zip(gates[1:], best[1:], strict=True)):
        if gate is not None:
            opened = (folds == fold) & (sure < gate.threshold)
            held_out += gain * opened
            for row in opened.nonzero():
                of_loss[row] = _better(task, said, likeliest, gain, answers.targets, row)
    gate, score, gained = gates[0], float(alone.mean()), float(held_out.mean())
    if gate is None or not (_is_certain(held_out) or (gained > 0 and _is_certain(of_loss))):
        return FittedGate(One(temperature), score, score, 1.0)
    share = float((sure < gate.threshold).double().mean())
    return FittedGate(gate, score + gained, score, 1 + (gate.most - 1) * share)


def _is_certain(gain: Tensor) -> bool:
    return float(gain.mean()) > CERTAIN * float(gain.std()) / math.sqrt(len(gain))


def _better(task: Task, said: Any, before: Any, gain: Tensor, targets: Sequence[Any], rows: Tensor) -> float:
    """How much better what is said of some pictures is than what was said before."""
    if not len(rows):
        return 0.0
    if not task.has_loss:
        return float(gain[rows].sum())
    right = [targets[row] for row in rows.tolist()]
    return len(rows) * float(task.loss(before[rows], right) - task.loss(said[rows], right))


def _open(shape: Gate, gain: Tensor, sure: Tensor, passes: float | None) -> Gate | None:
    """The gate of a shape by which some pictures gain most; None where they gain nothing.

    Args:
        gain: of each picture where the gate is open. sure: p(ĝ | x) of each. passes: see `fit_gate`.
    """
    n, (ranked, order) = len(sure), sure.double().sort()
    total = gain[order].cumsum(0)
    allowed = passes or DEFAULT_PASSES
    steps = [1 + STEP * step for step in range(1, math.ceil((allowed - 1) / STEP - 1e-9))]
    counts = [min(n - 1, int((mean - 1) / (shape.most - 1) * n)) for mean in (*steps, allowed)]
    gained = {count: float(total[count - 1]) for count in counts if count > 0}
    most = max(gained.values(), default=0.0)
    if most <= 0:
        return None
    count = min(count for count, of in gained.items() if of >= (most if passes else KNEE * most))
    return replace(shape, threshold=float(ranked[count - 1] + ranked[count]) / 2)


def fit_temperature(group: Group, prior: Prior, pose: Pose) -> float:
    """What scores are divided by so that poses of untouched pictures are most likely under the prior.

    Its logarithm is expected to be normal about 0 before any picture is seen: of a few that all are found, or all
    missed, the likeliest would be 0 or infinity.
    """
    assert pose.scores is not None
    scores = pose.scores.double()

    def loss(log_temperature: float) -> float:
        scaled = pose._replace(scores=scores / torch.tensor(log_temperature).exp().item())
        return float(prior.loss(group, scaled)) + (log_temperature / SPREAD) ** 2 / (2 * len(scores))

    found = minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded")
    return float(torch.tensor(found.x).exp())


@torch.inference_mode()
def calibrate(canonicalizer: Canonicalizer, looks: Tensor, prior: Prior) -> One:
    """One pass, with the temperature that fits what a canonicalizer is shown of validation images, (n, 3, s, s)."""
    poses = [canonicalizer(part) for part in looks.split(BATCH)]
    scores = [pose.scores for pose in poses if pose.scores is not None]
    if prior.shares or not scores or scores[0].ndim != 2:  # of a distribution or a continuous group none is known
        return One()
    every = torch.cat(scores)
    return One(fit_temperature(canonicalizer.group, prior, Pose(every.argmax(dim=1), every)))


def _shapes(order: int, temperature: float, outputs: Kinds) -> Iterator[Gate]:
    """The gates that are tried, but for their thresholds."""
    for most in (m for m in MOST if m <= order):
        if outputs == "logits":
            yield Gate(0.0, most, temperature)
        for evidence in evidence_of(outputs):
            for weight in OF_INFORMATION if evidence == "information" else WEIGHTS:
                if outputs == "logits":
                    yield Gate(0.0, most, temperature, weight, evidence, "mean")
                yield Gate(0.0, most, temperature, weight, evidence, "best")


def _score(task: Task, output: Any, targets: Sequence[Any]) -> Tensor:
    if isinstance(output, list):
        return torch.stack([one["score"] for one in output]).double()
    score: Tensor = task.record(output, targets)[task.score]
    return score.double()
