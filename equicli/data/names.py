"""What names of folders say: which part of a dataset, or nothing about classes at all."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

# The words by which folders name a part of a dataset, in any case; `names_part` says what may stand beside them.
PARTS = {
    "train": "train training trn trainval",
    "validation": "val valid validation validate dev devel development",
    "test": "test testing tst eval evaluation evaluate holdout heldout",
    "unlabelled": "pred predict prediction predictions unlabeled unlabelled unsup",
}
_PART_OF = {word: part for part, words in PARTS.items() for word in words.split()}
# Words that say nothing of a part, or of a class.
_FILLERS = frozenset(
    "set sets data dataset datasets image images img imgs picture pictures pic pics photo photos sample samples split "
    "splits folder folders dir part seg file files jpg jpeg png".split()
)
PICTURES = frozenset("images image imgs img jpegimages pngimages pictures photos".split())
# Folders that only wrap the pictures, or the dataset.
WRAPPERS = PICTURES | {"data", "dataset", "archive"}
# Beside a folder of pictures these hold what belongs to them, also where that is pictures.
BESIDE_PICTURES = frozenset(
    "annotation annotations labels label masks mask pedmasks groundtruth gt segmentation segmentations "
    "segmentationclass segmentationobject bboxes".split()
)
_SYSTEM = frozenset(
    "__macosx @eadir lost+found thumbs.db desktop.ini $recycle.bin recycler #recycle __pycache__ node_modules".split()
) | {"system volume information"}


def is_hidden(name: str) -> bool:
    """Whether systems and tools made this file or folder for themselves."""
    return name.startswith(".") or name.lower() in _SYSTEM


def normal(name: str) -> str:
    """A name as it is compared: the same whether its accents are composed or not."""
    return unicodedata.normalize("NFC", name)


def class_name(folder: str) -> str:
    r"""The class that a folder stands for: bytes that are no UTF-8 are written as `\xe9`, which every file can hold."""
    return normal(os.fsencode(folder).decode("utf-8", "backslashreplace"))


def plain(name: str) -> str:
    """Letters and digits of a name, for comparing it with known words."""
    return "".join(re.findall(r"[^\W_]+", normal(name).casefold()))


def names_part(folder: str) -> tuple[str, str] | None:
    """Which part of a dataset a folder's name says it is, and what else it says.

    `train`, `Training Data`, `01_train`, `train2017`, `seg_train` and `trainSet` are train and say nothing else;
    `flowers_train` is train, and says flowers. None for a name without a part, or with two.
    """
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", normal(folder))
    words = [word for found in re.findall(r"[^\W\d_]+", apart.casefold()) for word in _unglue(found)]
    parts = {_PART_OF[word] for word in words if word in _PART_OF}
    if len(parts) != 1:
        return None
    return parts.pop(), " ".join(word for word in words if word not in _PART_OF and word not in _FILLERS)


def parts_of(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Folders by the part that they name: those that say nothing else, or the same beside it (`flowers_train`,
    `flowers_test`)."""
    said: dict[str, dict[str, list[Path]]] = {}
    for folder in folders:
        if (named := names_part(folder.name)) is not None:
            said.setdefault(named[1], {}).setdefault(named[0], []).append(folder)
    if "" in said:
        return said[""]
    together = [parts for parts in said.values() if len(parts) > 1]
    return together[0] if len(together) == 1 else {}


def _unglue(word: str) -> list[str]:
    """`trainset` and `imgtrain` as two words."""
    for part in _PART_OF:
        if word.startswith(part) and word[len(part) :] in _FILLERS:
            return [part, word[len(part) :]]
        if word.endswith(part) and word[: -len(part)] in _FILLERS:
            return [word[: -len(part)], part]
    return [word]
