"""Masks as picture files: one beside each picture, whose values are numbers of objects or of classes, 0 for neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from equicli.data.folders import Dataset
from equicli.data.names import BESIDE_PICTURES, plain
from equicli.data.tree import IMAGE_SUFFIXES
from equicli.errors import EquicliError, reason
from equicli.groups.elements import Frame
from equicli.tasks.annotations.annotation import annotated
from equicli.tasks.annotations.objects import Objects, encode, mask_areas, mask_boxes

# Of files with a palette, as VOC has them, this number is a border that belongs to no object.
BORDER = 255
# What pixels get of which nothing is known.
VOID = -1


@dataclass(frozen=True)
class MaskAnnotation:
    """A file that numbers the objects of one picture, all of one class."""

    file: Path
    category: str

    @property
    def categories(self) -> Mapping[int, str]:
        return {1: self.category}

    @property
    def outlined(self) -> Sequence[bool]:
        return ()

    def objects(self, frame: Frame, outputs: Mapping[str, int]) -> Objects:
        numbers = torch.from_numpy(read_mask(self.file, frame))
        with Image.open(self.file) as image:
            each = numbers.unique()
            each = each[each != BORDER] if image.mode in ("P", "PA") else each
        masks = encode(numbers == each[each > 0][:, None, None])
        return Objects(
            mask_boxes(masks),
            np.full(len(masks), outputs[self.category], dtype=np.int64),
            mask_areas(masks),
            np.ones(len(masks)),
            np.zeros(len(masks), dtype=bool),
            masks,
        )


@dataclass(frozen=True)
class ClassFile:
    """A file that has the class of each pixel of one picture.

    offset: added to its numbers; below 0 nothing is known. void: the number where nothing is known.
    """

    file: Path
    offset: int
    void: int | None

    def classes(self, frame: Frame) -> Tensor:
        """int64 (h, w), VOID where nothing is known."""
        numbers = torch.from_numpy(read_mask(self.file, frame))
        classes = numbers + self.offset
        return classes.masked_fill((classes < 0) | (numbers == (VOID if self.void is None else self.void)), VOID)


def find_masks(data: Dataset) -> dict[Path, Path]:
    """The file of masks of each picture that has one: `masks/cat.png` or `masks/cat_mask.png` beside `images/cat.jpg`.

    Raises:
        EquicliError: a picture has two.
    """
    known: dict[Path, dict[str, list[Path]]] = {}

    def masks_of(folder: Path) -> dict[str, list[Path]]:
        """Files by the picture that they are named for."""
        if folder not in known:
            known[folder] = {}
            beside = [other for other in sorted(folder.parent.iterdir()) if plain(other.name) in BESIDE_PICTURES]
            for path in (path for other in beside if other.is_dir() for path in sorted(other.iterdir())):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    name = path.stem.removesuffix("_mask").removesuffix("-mask")
                    known[folder].setdefault(name, []).append(path)
        return known[folder]

    found = {}
    for sample in data.samples:
        files = masks_of(sample.path.parent).get(sample.path.stem, [])
        if len(files) > 1:
            raise EquicliError(f"{sample.path}: {files[0]} and {files[1]} are both named for it. Remove one of them.")
        found.update({sample.path: files[0]} if files else {})
    return found


def read_mask_files(data: Dataset, masks: Mapping[Path, Path], category: str) -> Dataset:
    """The pictures of a folder with the files that number the objects in them."""
    return annotated(
        data,
        lambda sample: MaskAnnotation(masks[sample.path], category) if sample.path in masks else None,
        set(masks.values()),
        [f"objects are those that {len(masks)} files of masks number, each of the class {category}"],
    )


def read_class_files(data: Dataset, masks: Mapping[Path, Path], offset: int, void: int | None) -> Dataset:
    """The pictures of a folder with the files that have the class of each pixel."""
    return annotated(
        data,
        lambda sample: ClassFile(masks[sample.path], offset, void) if sample.path in masks else None,
        set(masks.values()),
        [f"classes of pixels are the numbers in {len(masks)} files of masks"],
    )


def read_mask(path: Path, frame: Frame) -> NDArray[np.int64]:
    """The number at each pixel, int64 (h, w); of a file in colours red + 256·green + 65,536·blue.

    Raises:
        EquicliError: it cannot be read, or has another size than its picture.
    """
    try:
        with Image.open(path) as image:
            lossy = image.format == "JPEG"
            values = np.asarray(image.getchannel(0) if image.mode in ("LA", "PA") else image)  # without alpha
    except Exception as error:  # on broken files, Pillow's plugins raise nearly anything
        raise EquicliError(f"{path}: cannot be read ({reason(error)}). Mend or remove it, with its picture.") from error
    if lossy:
        raise EquicliError(f"{path}: a JPEG, in which numbers are not those that were drawn. Save masks as PNG.")
    if values.ndim not in (2, 3) or values.dtype.kind not in "biu":
        raise EquicliError(f"{path}: no numbers of objects or classes in it. Save it as a PNG of whole numbers.")
    numbers = values.astype(np.int64)
    if numbers.ndim == 3:
        numbers = (numbers[..., :3] * (1, 256, 65536)[: numbers.shape[2]]).sum(axis=2)
    if numbers.shape != frame:
        height, width = numbers.shape
        raise EquicliError(f"{path}: {width}x{height} pixels, but its picture has {frame[1]}x{frame[0]}. Mend one.")
    return numbers
