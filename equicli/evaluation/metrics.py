"""From counts to the versioned `metrics.json` document."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from equicli.canonicalization.prior import Prior
from equicli.evaluation.evaluate import Evaluation
from equicli.evaluation.intervals import bootstrap, wilson
from equicli.groups import Group, as_finite

SCHEMA = 1
_POSES = "identity_rate pose_accuracy pose_consistency pose_consistency_off_grid poses".split()
_NO_POSES = {"ties": 0, **dict.fromkeys(_POSES)}


def metrics_document(
    evaluation: Evaluation,
    *,
    rotate: str,
    split: str,
    prior: Prior,
    passes: int = 1,
    finds_poses: bool = True,
    trained_base: bool = False,
    cost: Mapping[str, float],
    unreadable: int,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the document that `--json` prints. Fractions, not percentages; `correct` are counts.

    Args:
        rotate: `input` or `file`, what was turned.
        split: which images: `test`, `validation` or `all`.
        prior: the poses that were expected of untouched images.
        passes: of the prediction network, for each image.
        finds_poses: whether the adapted model chooses a pose; else nothing is said of poses.
        trained_base: whether the prediction network was trained, too.
    """
    systems = {name: _system(evaluation, name) for name in evaluation.correct}
    counts = {"vanilla": 1, "adapted": float(passes), "symmetrized": evaluation.views.order, "oracle": 1}
    for name, count in counts.items():
        systems[name]["passes"] = count
    systems["adapted"] |= equivariance(evaluation, prior) | ({} if finds_poses else _NO_POSES)
    return {
        "schema": SCHEMA,
        "task": "classification",
        "group": evaluation.group.name,
        "rotations": evaluation.elements.n,
        "elements": evaluation.elements.name,
        "rotate": rotate,
        "split": split,
        "prior": dict(zip(prior.poses, prior.shares, strict=True)) if prior.shares else list(prior.poses),
        "labels": "agreement" if evaluation.agreement else "folders",
        "n": len(evaluation.predictions),
        "unreadable": unreadable,
        "trained_base": trained_base,
        **systems,
        "cost": dict(cost),
        "provenance": dict(provenance),
    }


def accuracies(evaluation: Evaluation, system: str) -> dict[str, float]:
    """Of one system: `acc`, `top5_acc` and `ece` of untouched images, and the same over all turns, `avg_acc`, …"""
    correct, top, sure = (of[system] for of in (evaluation.correct, evaluation.correct_top, evaluation.confidence))
    return {
        "acc": _share(correct[:, 0]),
        "avg_acc": _share(correct),
        "worst_acc": float(correct.double().mean(dim=0).min()),
        "top5_acc": _share(top[:, 0]),
        "avg_top5_acc": _share(top),
        "ece": calibration_error(sure[:, 0], correct[:, 0]),
        "avg_ece": calibration_error(sure.flatten(), correct.flatten()),
    }


def _system(evaluation: Evaluation, name: str) -> dict[str, Any]:
    """Accuracies of one system, with their intervals."""
    elements, correct = evaluation.elements, evaluation.correct[name]
    n = len(correct)
    counts = [int(c) for c in correct.sum(dim=0)]
    return {
        **accuracies(evaluation, name),
        "acc_ci": wilson(counts[0], n),
        "avg_acc_ci": bootstrap(correct.numpy()),
        "per_element": [
            {
                "element": elements.label(g),
                "angle": elements.angle(g),
                "mirror": elements.mirrored(g),
                "acc": counts[g] / n,
                "acc_ci": wilson(counts[g], n),
                "correct": counts[g],
            }
            for g in elements.elements()
        ],
    }


def equivariance(evaluation: Evaluation, prior: Prior) -> dict[str, Any]:
    """What is said of the adapted model's poses, and how far it is from invariant."""
    elements = evaluation.elements
    turns = [g for g in elements.elements() if g != 0]
    off_grid = [g for g in turns if elements.angle(g) % 90 != 0]
    quarters = [g for g in turns if g not in off_grid]
    # Elements of R that the adapted group lacks say nothing about its poses.
    shared = [c for c, g in enumerate(evaluation.shared) if g != 0]
    shared_off_grid = [c for c in shared if evaluation.shared[c] in off_grid]
    poses = evaluation.poses
    identity = evaluation.expected[:, 0] if poses is None or not prior.shares else poses == 0
    return {
        **_residual(evaluation, turns),
        "quarter_turns": _residual(evaluation, quarters) if quarters else None,
        "off_grid": _residual(evaluation, off_grid) if off_grid else None,
        "ties": int(evaluation.ties.sum()),
        "identity_rate": _share(identity),
        # Of a distribution, any pose may be right.
        "pose_accuracy": None if prior.shares else _share(evaluation.expected),
        "pose_consistency": _share(evaluation.consistent[:, shared]) if shared else None,
        "pose_consistency_off_grid": _share(evaluation.consistent[:, shared_off_grid]) if shared_off_grid else None,
        "poses": None if poses is None else _pose_shares(evaluation.group, poses),
    }


def _residual(evaluation: Evaluation, turns: list[int]) -> dict[str, float]:
    """How far the adapted model is from invariant under some of the elements."""
    predictions = evaluation.predictions
    changed = (predictions[:, turns] != predictions[:, :1]).any(dim=1)
    delta = evaluation.max_logit_delta[turns]
    return {"invariance_residual": _share(changed), "max_logit_delta": float(delta.max()) if turns else 0.0}


def _pose_shares(group: Group, poses: Tensor) -> dict[str, float]:
    """How often each pose was found in untouched images."""
    group = as_finite(group)
    counts = poses.bincount(minlength=group.order).tolist()
    return {group.label(g): count / len(poses) for g, count in enumerate(counts)}


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Expected calibration error in [0, 1], of 15 equal bins (Guo et al., arXiv 1706.04599).

    Args:
        confidence: the probability of each prediction; correct: bool, whether it was right. Both (n,).
    """
    from torchmetrics.functional.classification import binary_calibration_error

    return float(binary_calibration_error(confidence.contiguous(), correct.int(), n_bins=15))


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
