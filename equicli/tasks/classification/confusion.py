"""Classes that a turn makes each other's, as 6 and 9."""

from collections.abc import Mapping

import torch
from torch import Tensor

from equicli.groups import PlanarGroup


def changing_classes(
    predictions: Tensor, targets: Tensor, elements: PlanarGroup, labels: Mapping[str, int]
) -> list[str]:
    """Say of which classes each one's turned images are mostly taken for the other.

    Args:
        predictions: int64 (n, |R|). targets: int64 (n,).
        labels: the output of each class.
    """
    taken = [_shares(predictions[:, g], targets, labels) for g in elements.elements()]
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


def _shares(predictions: Tensor, targets: Tensor, labels: Mapping[str, int]) -> Tensor:
    """How many of each class's images are taken for each class: (classes, classes)."""
    outputs = torch.tensor(list(labels.values()))
    hits = predictions[:, None] == outputs  # (n, classes)
    of_class = targets[:, None] == outputs
    counts = of_class.double().T @ hits.double()
    return counts / of_class.sum(dim=0).clamp(min=1)[:, None]
