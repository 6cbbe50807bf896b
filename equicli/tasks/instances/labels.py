"""How many classes a detector knows."""

from typing import Any

from torch import nn


def first_label(network: nn.Module) -> int:
    """The least label that stands for a class: 1, as 0 is the background, save in networks that have none."""
    return int(getattr(network, "first_label", 1))


def count_outputs(network: nn.Module) -> int | None:
    """How many labels torchvision's and transformers' detectors know, the background 0 among them where there is one;
    None of other networks."""
    for module in network.modules():
        of_boxes = getattr(module, "cls_score", None)
        if isinstance(of_boxes, nn.Linear):
            return of_boxes.out_features
        found: Any = getattr(module, "num_classes", None)
        if isinstance(found, int):
            return found
    config: Any = getattr(network, "config", None)
    return getattr(config, "num_labels", None)
