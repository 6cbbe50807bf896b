"""How many classes a detector knows."""

from typing import Any

from torch import nn


def count_outputs(network: nn.Module) -> int | None:
    """How many labels torchvision's detectors know, the background 0 among them; None of other networks."""
    for module in network.modules():
        of_boxes = getattr(module, "cls_score", None)
        if isinstance(of_boxes, nn.Linear):
            return of_boxes.out_features
        found: Any = getattr(module, "num_classes", None)
        if isinstance(found, int):
            return found
    return None
