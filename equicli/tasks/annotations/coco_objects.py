"""What COCO's files say of single objects, and which of them cannot be used."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equicli.errors import EquicliError, reason, shown
from equicli.groups.elements import Frame
from equicli.tasks.annotations.objects import Objects, Rle, covers, mask_areas, outline, runs

# Why an object is left out.
NO_BOX = "whose box is no four finite numbers"
NO_SIZE = "whose box has no width or no height"
OUTSIDE = "whose box lies outside of the picture"
NO_OUTLINE = "whose outline is broken"
EMPTY = "whose outline covers nothing of the picture"
NO_PICTURE = "of pictures that the file does not list"
REPEATED = "that repeat an id"


class Entry(NamedTuple):
    """One object. number: its id. box: left, top, right and bottom. shape: polygons or run lengths; None of neither."""

    number: int
    category: int
    box: tuple[float, float, float, float]
    area: float | None
    crowd: bool
    shape: Any


@dataclass(frozen=True)
class CocoAnnotation:
    """What a file says of one picture; frame: (height, width) that it gives the picture."""

    file: Path
    categories: Mapping[int, str]
    frame: Frame
    entries: tuple[Entry, ...]

    @property
    def outlined(self) -> Sequence[bool]:
        return [entry.shape is not None for entry in self.entries]

    def objects(self, frame: Frame, outputs: Mapping[str, int]) -> Objects:
        if frame != self.frame:
            raise EquicliError(
                f"{self.file}: says {self.frame[1]}x{self.frame[0]} pixels of a picture that has {frame[1]}x{frame[0]}"
                " as it is opened, camera rotation applied. Annotate what is shown, or mend the sizes."
            )
        entries = self.entries
        masks = [self._mask(entry) for entry in entries]
        boxes = np.array([entry.box for entry in entries], dtype=np.float64).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        areas = [
            entry.area or (of_box if mask is None else float(mask_areas([mask])[0]))
            for entry, mask, of_box in zip(entries, masks, sides.prod(axis=1).tolist(), strict=True)
        ]
        return Objects(
            boxes,
            np.array([outputs[self.categories[entry.category]] for entry in entries], dtype=np.int64),
            np.array(areas, dtype=np.float64),
            np.ones(len(entries)),
            np.array([entry.crowd for entry in entries], dtype=bool),
            None if any(mask is None for mask in masks) else tuple(mask for mask in masks if mask is not None),
        )

    def _mask(self, entry: Entry) -> Rle | None:
        if entry.shape is None:
            return None
        try:
            if isinstance(entry.shape, Mapping):
                return runs(entry.shape["counts"], self.frame)
            return outline(entry.shape, self.frame)
        except Exception as error:  # of a library in C, on what people wrote
            raise EquicliError(
                f"{self.file}: the outline of object {entry.number} cannot be drawn ({reason(error)}). Mend it."
            ) from error


def read_entries(
    content: Mapping[str, Any],
    frames: Mapping[int, Frame],
    categories: Mapping[int, str],
    path: Path,
    remarks: list[str],
) -> dict[int, list[Entry]]:
    """The objects of each picture by its id; those that are left out are told."""
    left: Counter[str] = Counter()
    entries: dict[int, list[Entry]] = defaultdict(list)
    seen: set[Any] = set()
    for each in content["annotations"]:
        raw: Mapping[str, Any] = each if isinstance(each, Mapping) else {}
        number, picture = (raw.get(key) if isinstance(raw.get(key), int) else None for key in ("id", "image_id"))
        if picture is None or picture not in frames:
            left[NO_PICTURE] += 1
        elif number is not None and number in seen:
            left[REPEATED] += 1
        else:
            entry = _entry(raw, frames[picture], categories, path)
            if isinstance(entry, Entry):
                entries[picture].append(entry)
            else:
                left[entry] += 1
        seen.add(number)
    remarks += [f"objects of {path.name} {why}: {count} left out" for why, count in left.items()]
    return entries


def _entry(raw: Mapping[str, Any], frame: Frame, categories: Mapping[int, str], path: Path) -> Entry | str:
    """One object, or why it is left out."""
    number, category = raw.get("id"), raw.get("category_id")
    if not isinstance(category, int) or category not in categories:
        raise EquicliError(f"{path}: object {number} is of category {shown(category)}, which is not listed. Mend it.")
    sides = raw.get("bbox")
    if not isinstance(sides, list) or len(sides) != 4 or not all(map(_finite, sides)):
        return NO_BOX
    left, top, width, height = map(float, sides)
    if width <= 0 or height <= 0:
        return NO_SIZE
    if left >= frame[1] or top >= frame[0] or left + width <= 0 or top + height <= 0:
        return OUTSIDE
    shape = _shape(raw.get("segmentation"), frame)
    if isinstance(shape, str):
        return shape
    area: Any = raw.get("area")
    return Entry(
        number if isinstance(number, int) else 0,
        category,
        (left, top, left + width, top + height),
        float(area) if _finite(area) and area > 0 else None,
        bool(raw.get("iscrowd")),
        shape,
    )


def _shape(raw: Any, frame: Frame) -> Any:
    """Polygons or run lengths; None where there are neither, and why an object is left out where they are broken."""
    if raw is None or raw == []:
        return None
    if isinstance(raw, dict):
        try:
            fits = tuple(raw["size"]) == frame
            covered = mask_areas([runs(raw["counts"], frame)])[0]
        except (KeyError, TypeError, ValueError):
            return NO_OUTLINE
        return EMPTY if fits and not covered else {"counts": raw["counts"]} if fits else NO_OUTLINE
    if not isinstance(raw, list) or not all(isinstance(polygon, list) for polygon in raw):
        return NO_OUTLINE
    if not all(len(polygon) % 2 == 0 and all(map(_finite, polygon)) for polygon in raw):
        return NO_OUTLINE
    drawn = [polygon for polygon in raw if len(polygon) >= 6]
    if not drawn:
        return NO_OUTLINE
    return drawn if any(covers(polygon, frame) for polygon in drawn) else EMPTY


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
