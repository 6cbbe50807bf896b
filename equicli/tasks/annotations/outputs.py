"""Which output of a network stands for which class of annotated objects."""

from collections.abc import Mapping
from pathlib import Path

from equicli.data.folders import Dataset
from equicli.errors import EquicliError, shown
from equicli.prediction.classes import match_classes
from equicli.prediction.network import PretrainedNetwork
from equicli.tasks.classification.class_map import read_class_map

REMEDY = "Say with --class-map FILE which output each class is."


def check_known(data: Dataset, labels: Mapping[str, int]) -> None:
    """Refuse classes of the data that no output stands for.

    Raises:
        EquicliError: there are any; names the first.
    """
    unknown = [name for name in data.classes if name not in labels]
    if unknown:
        raise EquicliError(
            f"class '{unknown[0]}' ({len(unknown)} such) is none of the {len(labels)} classes that this model was "
            "adapted to. Leave them out, or adapt to them."
        )


def bind_outputs(
    found: PretrainedNetwork,
    categories: Mapping[int, str],
    outputs: int | None,
    class_map: str | None,
    first: int = 1,
) -> tuple[dict[str, int], str]:
    """The output of each class, and how it was found: as a file of the user's says, else see `find_outputs`.

    Raises:
        UsageError: see `read_class_map`. EquicliError: see `find_outputs`.
    """
    if class_map is None:
        return find_outputs(found, categories, outputs, first)
    classes = [categories[number] for number in sorted(categories)]
    return read_class_map(class_map, classes, outputs or 1 << 30), f"as {Path(class_map).name} says"


def find_outputs(
    found: PretrainedNetwork, categories: Mapping[int, str], outputs: int | None, first: int = 1
) -> tuple[dict[str, int], str]:
    """The output of each class, and how it was found: by its name; else by its number in the data, where the network
    has such outputs; else in the order of these numbers, from 1 on, as 0 is the background.

    Args:
        categories: the name of each class by its number in the data.
        outputs: how many the network has, the background among them; None where nothing says.
        first: the first of a class; 0 of a network without a background, which numbers of data say nothing of.

    Raises:
        EquicliError: the data has more classes than the network has outputs.
    """
    numbers = sorted(categories)
    names = [categories[number] for number in numbers]
    by_name = match_classes(names, found.class_names) if found.class_names else None
    if by_name is not None:
        return dict(zip(names, by_name, strict=True)), "by their names"
    if first and numbers[0] > 0 and (outputs is None or numbers[-1] < outputs):
        return dict(zip(names, numbers, strict=True)), "by their numbers in the annotations"
    if outputs is not None and len(names) > outputs - first:
        raise EquicliError(
            f"--model: knows {outputs - first} classes, and the data has {len(names)} ({shown(names[0])}, …). {REMEDY}"
        )
    return {name: index + first for index, name in enumerate(names)}, f"in the order of their numbers, from {first} on"
