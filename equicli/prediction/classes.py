"""Matching a folder's class names to the outputs of a checkpoint."""

import re
from collections.abc import Iterable, Mapping, Sequence

from equicli.data.names import normal


def imagenet_class_names(outputs: int | None) -> tuple[tuple[str, ...], ...] | None:
    """For each ImageNet class its WordNet id and its words; None for a network with another number of outputs."""
    if outputs != 1000:
        return None
    # Here, so that checking a configuration imports no library of networks.
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return tuple((wordnet_id, *_words(info.index_to_description(i))) for i, wordnet_id in enumerate(info.label_names()))


def match_classes(folders: Sequence[str], class_names: Sequence[Sequence[str]]) -> list[int] | None:
    """Return the output that belongs to each folder, or None unless every folder has exactly one.

    Case, and whether words are joined by spaces, `_` or `-`, do not matter, nor how accents are encoded.
    """
    found = find_outputs(folders, class_names).values()
    if any(len(indices) != 1 for indices in found):
        return None
    matched = [next(iter(indices)) for indices in found]
    return matched if len(set(matched)) == len(matched) else None


def find_outputs(folders: Iterable[str], class_names: Sequence[Sequence[str]]) -> dict[str, set[int]]:
    """The outputs whose names include each folder's."""
    outputs: dict[str, set[int]] = {}
    for index, names in enumerate(class_names):
        for name in names:
            outputs.setdefault(_normal(name), set()).add(index)
    return {folder: outputs.get(_normal(folder), set()) for folder in folders}


def find_label(name: str, labels: Mapping[str, int]) -> int | None:
    """The output of a class; of one whose name differs in case or encoding alone, where all such have one output."""
    if name in labels:
        return labels[name]
    alike = {output for other, output in labels.items() if normal(other).casefold() == normal(name).casefold()}
    return alike.pop() if len(alike) == 1 else None


def natural_key(name: str) -> list[str | int]:
    """What timm sorts class folders by: numbers by their value, and letters whatever their case."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name.lower())]


def _words(description: str) -> list[str]:
    return [word.strip() for word in description.split(",")]


def _normal(name: str) -> str:
    return normal(name).casefold().replace("_", " ").replace("-", " ").strip()
