"""What would mislead a reader of the table."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from equicli.evaluation.evaluate import Evaluation

FEW_IMAGES = 500
LOST_POINTS = 0.01  # of accuracy, that the oracle loses to interpolation


def warnings_of(alone: Evaluation, labels: Mapping[str, int], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line on each; `alone` is the evaluation of the network alone, `labels` the output of each class."""
    lines = []
    n = len(alone.predictions)
    if n < FEW_IMAGES:
        lines.append(f"{n} test images are few: accuracies are uncertain by up to ±{98 / n**0.5:.1f} points")
    if len(alone.shared) < alone.elements.order:
        group, elements = alone.group.name.upper(), alone.elements.name.upper()
        lines.append(
            f"images are turned by {elements}, of which {group} has {len(alone.shared)}; the oracle undoes all"
        )
    if not alone.agreement:
        lines += changing_classes(alone, labels)
    if any(len(row["seeds"]) == 1 and row["mean"]["trainable_parameters"] for row in rows):
        lines.append("one seed: how much results vary from training to training is not known; --seeds 3 tells")
    oracle = next((row["mean"] for row in rows if row["system"] == "oracle"), None)
    if oracle is not None and oracle["acc"] - oracle["avg_acc"] > LOST_POINTS:
        lost = 100 * (oracle["acc"] - oracle["avg_acc"])
        lines.append(f"turning off the grid costs even the oracle {lost:.1f} points: compare with it, not with Acc")
    return lines


def changing_classes(alone: Evaluation, labels: Mapping[str, int]) -> list[str]:
    """Classes that a turn makes each other's, as 6 and 9: each one's turned images are mostly taken for the other.

    Args:
        labels: the output of each class.
    """
    elements = alone.elements
    taken = [_shares(alone, g, labels) for g in elements.elements()]
    names, found = list(labels), []
    for g in elements.elements():
        if g == 0:
            continue  # then outputs are named wrongly
        # Image and turned image the other way round, too: else the network is merely wrong about one of them.
        swapped = (taken[g] > 0.5) & (taken[elements.inverse(g)].T > 0.5)
        for a, b in swapped.nonzero().tolist():
            if a < b:
                found.append(f"{names[a]} turned by {elements.label(g)} looks like {names[b]}")
    return [f"labels change under rotation: {'; '.join(found)}"] if found else []


def _shares(alone: Evaluation, element: int, labels: Mapping[str, int]) -> Tensor:
    """How many of each class's images, turned, are taken for each class: (classes, classes)."""
    outputs = torch.tensor(list(labels.values()))
    hits = alone.predictions[:, element, None] == outputs  # (n, classes)
    of_class = alone.targets[:, None] == outputs
    counts = of_class.double().T @ hits.double()
    return counts / of_class.sum(dim=0).clamp(min=1)[:, None]
