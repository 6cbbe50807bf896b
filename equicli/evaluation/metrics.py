"""From records to the versioned `metrics.json` document."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equicli.canonicalization.prior import Prior
from equicli.data.reencode import NONE
from equicli.evaluation.curve import curve_of
from equicli.evaluation.evaluate import Evaluation, FoundPoses
from equicli.groups import Group, PlanarGroup, as_finite
from equicli.groups.elements import Frame
from equicli.tasks.calibration import calibration_error
from equicli.tasks.intervals import paired_difference
from equicli.tasks.task import Task

SCHEMA = 1


def metrics_document(
    evaluation: Evaluation,
    task: Task,
    *,
    labels: Mapping[str, int] | None = None,
    lost: Sequence[Mapping[str, Any]] = (),
    rotate: str,
    reencode: str = NONE,
    split: str,
    prior: Prior,
    trained_base: bool = False,
    cost: Mapping[str, Any],
    warnings: Sequence[str] = (),
    near_chance: Sequence[str] = (),
    of: int | None = None,
    seen: int | None = None,
    elsewhere: bool = False,
    overrides: Mapping[str, Any] | None = None,
    precision: str = "fp32",
    unreadable: int,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the document that `--json` prints. Fractions, not percentages; `correct` are counts.

    Args:
        labels: the output of each class. lost: see `lost.lost_most`.
        rotate: `input` or `file`, what was turned. reencode: how it was compressed again, or `none`.
        split: which images: `test`, `validation` or `all`.
        prior: the poses that were expected of untouched images.
        trained_base: whether the prediction network was trained, too.
        cost: see `cost.cost_of`. warnings: a line on each thing that would mislead a reader.
        near_chance: see `warnings.near_chance_of`.
        of: of how many images of the split these are some; None where they are all.
        seen: how many of the images training saw; None where nothing says.
        elsewhere: whether the canonicalizer is known to have been trained on none of the folder.
        overrides: preprocessing in place of the artifact's own, by flag. precision: of the prediction network.
    """
    systems = {
        name: {**task.measure(records, evaluation.elements), "passes": evaluation.passes[name] * task.has_network}
        for name, records in evaluation.records.items()
    }
    for name, records in evaluation.records.items():
        if classes := task.per_class(records, labels or {}):
            systems[name]["per_class"] = classes
    systems["adapted"] |= {**equivariance(evaluation, prior), **_below_upright(evaluation, task)}
    return {
        "schema": SCHEMA,
        "task": task.name,
        "score": {"name": task.score, "title": task.title, "words": task.words or task.title},
        "things": task.things,
        "shown": [list(column) for column in task.shown],
        "outputs": task.signature.outputs if isinstance(task.signature.outputs, str) else "several",
        "group": evaluation.group.name,
        "rotations": evaluation.elements.n,
        "elements": evaluation.elements.name,
        "rotate": rotate,
        "reencode": reencode,
        "split": split,
        "prior": dict(zip(prior.poses, prior.shares, strict=True)) if prior.shares else list(prior.poses),
        "labels": "agreement" if evaluation.agreement and task.has_network else task.labels_from,
        "network": task.has_network,
        "n": evaluation.n,
        "of": of,
        "seen_in_training": seen,
        "elsewhere": elsewhere,
        "unreadable": unreadable,
        "overrides": dict(overrides or {}),
        "precision": precision,
        "trained_base": trained_base,
        **systems,
        "lost_most": [dict(one) for one in lost],
        "facts": [list(fact) for fact in task.facts(systems["adapted"], evaluation.agreement)],
        "cost": dict(cost),
        "curve": None if evaluation.ways is None else curve_of(evaluation.ways, task.score, cost["relative_time"]),
        "warnings": list(warnings),
        "near_chance": list(near_chance),
        "provenance": dict(provenance),
    }


def _below_upright(evaluation: Evaluation, task: Task) -> dict[str, Any]:
    """What the network scores on untouched images at their true pose, less what the adapted model does on average over
    all turns, and its interval over images. None where scores are no mean over images, where labels are what the
    network says upright, and in space, where only some turns are averaged."""
    means = task.signature.outputs == "logits" and isinstance(evaluation.elements, PlanarGroup)
    if not means or evaluation.agreement or "oracle" not in evaluation.records:
        return {"below_upright": None, "below_upright_ci": None}
    oracle, adapted = (evaluation.records[name][task.score].double() for name in ("oracle", "adapted"))
    below, interval = paired_difference(oracle[:, 0][None].numpy(), adapted.mean(dim=1)[None].numpy())
    return {"below_upright": below, "below_upright_ci": list(interval)}


def equivariance(evaluation: Evaluation, prior: Prior) -> dict[str, Any]:
    """How far the adapted model is from invariant, and what is said of its poses."""
    elements, found = evaluation.elements, evaluation.found
    turns = [g for g in elements.elements() if g != 0]
    if not isinstance(elements, PlanarGroup):  # of space, nothing is interpolated
        poses = _NO_POSES if found is None else _poses(found, evaluation, prior, [])
        return {**_residual(evaluation, turns), "quarter_turns": None, "off_grid": None, **poses}
    off_grid = [g for g in turns if elements.angle(g) % 90 != 0]
    quarters = [g for g in turns if g not in off_grid]
    return {
        **_residual(evaluation, turns),
        "quarter_turns": _residual(evaluation, quarters) if quarters else None,
        "off_grid": _residual(evaluation, off_grid) if off_grid else None,
        **(_NO_POSES if found is None else _poses(found, evaluation, prior, off_grid)),
    }


_NO_POSES: dict[str, Any] = {
    "ties": 0,
    "identity_rate": None,
    "identity_rate_by_shape": None,
    "pose_accuracy": None,
    "pose_ece": None,
    "pose_temperature": None,
    "pose_consistency": None,
    "pose_consistency_off_grid": None,
    "poses": None,
}


def _poses(found: FoundPoses, evaluation: Evaluation, prior: Prior, off_grid: list[int]) -> dict[str, Any]:
    # Elements of R that the adapted group lacks say nothing about its poses.
    shared = [c for c, g in enumerate(found.shared) if g != 0]
    shared_off_grid = [c for c in shared if found.shared[c] in off_grid]
    return {
        "ties": int(found.ties.sum()),
        "identity_rate": _share(found.identity),
        "identity_rate_by_shape": _by_shape(found.identity, evaluation.frames),
        # Of a distribution, any pose may be right.
        "pose_accuracy": None if prior.shares else _share(found.expected),
        "pose_ece": _pose_ece(found, evaluation, prior),
        "pose_temperature": None if found.confidence is None else found.temperature,
        "pose_consistency": _share(found.consistent[:, shared]) if shared else None,
        "pose_consistency_off_grid": _share(found.consistent[:, shared_off_grid]) if shared_off_grid else None,
        "poses": None if found.poses is None else _pose_shares(evaluation.group, found.poses),
    }


def _pose_ece(found: FoundPoses, evaluation: Evaluation, prior: Prior) -> float | None:
    """The calibration error of p(ĝ | x) over all inputs and turns on the grid; None where several poses may be right,
    as a probability is shared between them."""
    if found.confidence is None or len(prior.poses) > 1:
        return None
    on_grid = [c for c, g in enumerate(found.shared) if evaluation.elements.angle(g) % 90 == 0]
    return calibration_error(found.confidence[:, on_grid].flatten(), found.expected[:, on_grid].flatten())


def _by_shape(identity: Tensor, frames: tuple[Frame, ...]) -> dict[str, dict[str, Any]] | None:
    """The identity rate of landscape, portrait and square pictures, where there are several."""
    shapes = {
        "landscape": torch.tensor([h < w for h, w in frames]),
        "portrait": torch.tensor([h > w for h, w in frames]),
        "square": torch.tensor([h == w for h, w in frames]),
    }
    found = {
        name: {"n": int(rows.sum()), "identity_rate": _share(identity[rows])}
        for name, rows in shapes.items()
        if rows.any()
    }
    return found if len(found) > 1 else None


def _residual(evaluation: Evaluation, turns: list[int]) -> dict[str, float]:
    """How far the adapted model is from invariant under some of the elements."""
    delta = evaluation.max_delta[turns]
    return {
        "invariance_residual": _share(evaluation.changed[:, turns].any(dim=1)),
        "max_logit_delta": float(delta.max()) if turns else 0.0,
    }


def _pose_shares(group: Group, poses: Tensor) -> dict[str, float]:
    """How often each pose was found in untouched images."""
    group = as_finite(group)
    counts = poses.bincount(minlength=group.order).tolist()
    return {group.label(g): count / len(poses) for g, count in enumerate(counts)}


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
