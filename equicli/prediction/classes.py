"""Matching a folder's class names to the outputs of a checkpoint."""

from collections.abc import Sequence


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

    Case, and whether words are joined by spaces, `_` or `-`, do not matter.
    """
    outputs: dict[str, set[int]] = {}
    for index, names in enumerate(class_names):
        for name in names:
            outputs.setdefault(_normal(name), set()).add(index)
    found = [outputs.get(_normal(folder), set()) for folder in folders]
    if any(len(indices) != 1 for indices in found):
        return None
    matched = [next(iter(indices)) for indices in found]
    return matched if len(set(matched)) == len(matched) else None


def _words(description: str) -> list[str]:
    return [word.strip() for word in description.split(",")]


def _normal(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()
