"""Which output of a detector stands for which class of the data."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from equicli.errors import EquicliError, shown
from equicli.prediction.classes import match_classes
from equicli.prediction.network import PretrainedNetwork

REMEDY = "Say with --class-map FILE which output each class is."


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


def find_outputs(
    found: PretrainedNetwork, categories: Mapping[int, str], outputs: int | None
) -> tuple[dict[str, int], str]:
    """The output of each class, and how it was found: by its name; else by its number in the data, where the network
    has such outputs; else in the order of these numbers, from 1 on, as 0 is the background.

    Args:
        categories: the name of each class by its number in the data.
        outputs: how many the network has, the background among them; None where nothing says.

    Raises:
        EquicliError: the data has more classes than the network has outputs.
    """
    numbers = sorted(categories)
    names = [categories[number] for number in numbers]
    by_name = match_classes(names, found.class_names) if found.class_names else None
    if by_name is not None:
        return dict(zip(names, by_name, strict=True)), "by their names"
    if numbers[0] > 0 and (outputs is None or numbers[-1] < outputs):
        return dict(zip(names, numbers, strict=True)), "by their numbers in the annotations"
    if outputs is not None and len(names) >= outputs:
        raise EquicliError(
            f"--model: knows {outputs - 1} classes, and the data has {len(names)} ({shown(names[0])}, …). {REMEDY}"
        )
    return {name: index + 1 for index, name in enumerate(names)}, "in the order of their numbers, from 1 on"
