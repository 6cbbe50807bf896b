"""From counts to the versioned `metrics.json` document."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equicli.evaluation.evaluate import Evaluation
from equicli.evaluation.intervals import bootstrap, wilson
from equicli.groups import PlanarGroup

SCHEMA = 1


def metrics_document(
    evaluation: Evaluation,
    *,
    rotate: str,
    split: str,
    poses: Sequence[int] = (0,),
    cost: Mapping[str, float],
    unreadable: int,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the document that `--json` prints. Fractions, not percentages; `correct` are counts.

    Args:
        rotate: `input` or `file`, what was turned.
        split: which images: `test`, `validation` or `all`.
        poses: the prior's set, elements of the adapted group.
    """
    systems = {name: _system(evaluation.elements, hits) for name, hits in evaluation.correct.items()}
    passes = {"vanilla": 1, "adapted": 1.0, "symmetrized": evaluation.group.order, "oracle": 1}
    for name, count in passes.items():
        systems[name]["passes"] = count
    systems["adapted"] |= _equivariance(evaluation, poses)
    return {
        "schema": SCHEMA,
        "task": "classification",
        "group": evaluation.group.name,
        "rotations": evaluation.elements.n,
        "elements": evaluation.elements.name,
        "rotate": rotate,
        "split": split,
        "labels": "agreement" if evaluation.agreement else "folders",
        "n": len(evaluation.predictions),
        "unreadable": unreadable,
        **systems,
        "cost": dict(cost),
        "provenance": dict(provenance),
    }


def _system(elements: PlanarGroup, correct: Tensor) -> dict[str, Any]:
    """Accuracies of one system: bool (n, |R|)."""
    n = len(correct)
    counts = [int(c) for c in correct.sum(dim=0)]
    return {
        "acc": counts[0] / n,
        "acc_ci": wilson(counts[0], n),
        "avg_acc": sum(counts) / (n * len(counts)),
        "avg_acc_ci": bootstrap(correct.numpy()),
        "worst_acc": min(counts) / n,
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


def _equivariance(evaluation: Evaluation, poses: Sequence[int]) -> dict[str, Any]:
    changed = (evaluation.predictions != evaluation.predictions[:, :1]).any(dim=1)
    identity = torch.isin(evaluation.poses[:, 0], torch.tensor(poses))
    return {
        "invariance_residual": float(changed.double().mean()),
        "max_logit_delta": evaluation.max_logit_delta,
        "ties": int(evaluation.ties.sum()),
        "identity_rate": float(identity.double().mean()),
        "pose_accuracy": _pose_accuracy(evaluation, poses),
    }


def _pose_accuracy(evaluation: Evaluation, poses: Sequence[int]) -> float:
    """Share of pairs (image, h) with ĝ(h·x) = h·s for an s of the set prior, over the h that the adapted group has."""
    elements, group = evaluation.elements, evaluation.group
    expected = {g: group.find(elements.angle(g), elements.mirrored(g)) for g in elements.elements()}
    hits = [
        torch.isin(evaluation.poses[:, g], torch.tensor([group.compose(h, s) for s in poses]))
        for g, h in expected.items()
        if h is not None
    ]
    return float(sum(h.double().mean() for h in hits) / len(hits))
