"""COCO's files of annotations: which pictures they name, and what they say of the objects in them."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equicli.data.folders import Dataset, Sample
from equicli.errors import EquicliError, reason, shown
from equicli.groups.elements import Frame
from equicli.tasks.annotations.annotation import annotated
from equicli.tasks.annotations.objects import Objects, Rle, outline, runs

# In a folder with more files of this kind each is beside one picture, and only those named so are looked into.
_MANY = 20
_NAMES = ("annotation", "coco", "instances")
# Why an object is left out.
NO_BOX = "whose box is no four finite numbers"
NO_SIZE = "whose box has no width or no height"
OUTSIDE = "whose box lies outside of the picture"
NO_OUTLINE = "whose outline is broken"
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
        given = [math.nan if entry.area is None else entry.area for entry in entries]
        areas = np.where(np.isnan(given), sides[:, 0] * sides[:, 1], given)
        return Objects(
            boxes,
            np.array([outputs[self.categories[entry.category]] for entry in entries], dtype=np.int64),
            areas.astype(np.float64),
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


def find_coco(data: Dataset) -> dict[Path, Mapping[str, Any]]:
    """COCO's files beside the pictures of a folder, read: those named `instances…` where there are any.

    Raises:
        EquicliError: one named so is no JSON.
    """
    places = {data.root, *data.root.glob("annotations*")}
    for sample in data.samples:
        places |= {sample.path.parent, sample.path.parent.parent}
    found = {}
    for place in sorted(place for place in places if place.is_dir() and data.root in (place, *place.parents)):
        files = sorted(place.glob("*.json"))
        for path in files:
            named = any(name in path.name.lower() for name in _NAMES)
            if (named or len(files) <= _MANY) and (content := _read(path, named=named)) is not None:
                found[path] = content
    instances = {path: content for path, content in found.items() if path.name.lower().startswith("instances")}
    return instances or found


def read_coco(data: Dataset, files: Mapping[Path, Mapping[str, Any]]) -> Dataset:
    """The pictures of a folder with what COCO's files say of them.

    What cannot be used is counted and told: nothing of it may make another figure in silence.

    Raises:
        EquicliError: a file contradicts itself or another, or names a class that it does not list.
    """
    categories: dict[int, str] = {}
    targets: dict[Path, CocoAnnotation] = {}
    remarks: list[str] = []
    for path, content in files.items():
        own = _categories(content, path)
        if categories and own != categories:
            raise EquicliError(f"{path}: lists other classes than {next(iter(files))}. Give all files the same.")
        categories = own
        for sample, target in _targets(content, path, own, data, remarks):
            if sample.path in targets:
                raise EquicliError(
                    f"{sample.path}: both {targets[sample.path].file} and {path} say what is in it. Remove one of them."
                )
            targets[sample.path] = target
    return annotated(data, lambda sample: targets.get(sample.path), files, remarks)


def _read(path: Path, *, named: bool) -> Mapping[str, Any] | None:
    """A file's content, where it is one of COCO's with objects."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        if named:
            raise EquicliError(f"{path}: cannot be read as JSON ({reason(error)}). Mend or remove it.") from error
        return None
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        return None
    objects = content["annotations"]
    return content if not objects or any(isinstance(o, dict) and "category_id" in o for o in objects) else None


def _categories(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for entry in content["categories"]:
        number, name = _number(entry, "id", path), str(entry.get("name", ""))
        if number in found or name in found.values() or not name:
            raise EquicliError(f"{path}: category {number} ('{shown(name)}') has no name, or is there twice. Mend it.")
        found[number] = name
    if not found:
        raise EquicliError(f"{path}: lists no categories. Add them, or remove the file.")
    return found


def _targets(
    content: Mapping[str, Any], path: Path, categories: Mapping[int, str], data: Dataset, remarks: list[str]
) -> Iterable[tuple[Sample, CocoAnnotation]]:
    frames, names = _pictures(content, path)
    entries = _objects(content, frames, categories, path, remarks)
    samples = _samples(names, path, data)
    missing = [name for number, name in names.items() if number not in samples]
    if samples and missing:
        remarks.append(
            f"{len(missing)} of {len(names)} pictures that {path.name} lists are not here ({shown(missing[0])})"
        )
    for number, sample in samples.items():
        yield sample, CocoAnnotation(path, categories, frames[number], tuple(entries.get(number, ())))


def _pictures(content: Mapping[str, Any], path: Path) -> tuple[dict[int, Frame], dict[int, str]]:
    """Frame and name of each picture by its id."""
    frames: dict[int, Frame] = {}
    names: dict[int, str] = {}
    for image in content["images"]:
        number = _number(image, "id", path)
        if number in frames:
            raise EquicliError(f"{path}: two pictures have the id {number}. Give each its own.")
        frames[number] = (_number(image, "height", path), _number(image, "width", path))
        names[number] = str(image.get("file_name", ""))
    return frames, names


def _objects(
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
    _same_shapes(entries, path, remarks)
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
            runs(raw["counts"], frame)
        except (KeyError, TypeError, ValueError):
            return NO_OUTLINE
        return {"counts": raw["counts"]} if fits else NO_OUTLINE
    if not isinstance(raw, list) or not all(isinstance(polygon, list) for polygon in raw):
        return NO_OUTLINE
    if not all(len(polygon) % 2 == 0 and all(map(_finite, polygon)) for polygon in raw):
        return NO_OUTLINE
    return [polygon for polygon in raw if len(polygon) >= 6] or NO_OUTLINE


def _same_shapes(entries: dict[int, list[Entry]], path: Path, remarks: list[str]) -> None:
    """Drop outlines where only some objects have one: masks cannot be compared then."""
    every = [entry for of in entries.values() for entry in of]
    without = sum(entry.shape is None for entry in every)
    if 0 < without < len(every):
        remarks.append(f"{without} of {len(every)} objects of {path.name} have no outline: only boxes are evaluated")
        for number, of in entries.items():
            entries[number] = [entry._replace(shape=None) for entry in of]


def _samples(names: Mapping[int, str], path: Path, data: Dataset) -> dict[int, Sample]:
    """The sample of each picture that a file names."""
    alike: dict[str, list[Sample]] = defaultdict(list)
    for each in data.samples:
        alike[each.path.name].append(each)
    found: dict[int, Sample] = {}
    taken: dict[Path, int] = {}
    for number, name in names.items():
        if (sample := _choose(alike.get(Path(name).name, []), Path(name), path)) is None:
            continue
        if sample.path in taken:
            raise EquicliError(f"{path}: lists {shown(name)} twice, as {taken[sample.path]} and as {number}. Mend it.")
        taken[sample.path] = number
        found[number] = sample
    return found


def _choose(samples: Sequence[Sample], name: Path, file: Path) -> Sample | None:
    """Of pictures of one name the one that is meant: by its folder, or by the part that the file is named for."""
    longest = [s for s in samples if s.path.parts[-len(name.parts) :] == name.parts]
    for chosen in (
        longest,
        [s for s in samples if file.parent in s.path.parents and file.parent == s.path.parent],
        [s for s in longest or samples if s.path.parent.name and s.path.parent.name in file.stem],
    ):
        if len(chosen) == 1:
            return chosen[0]
    if len(samples) > 1:
        raise EquicliError(
            f"{file}: {shown(name)} may be {samples[0].path} or {samples[1].path}. Write its folder, too."
        )
    return samples[0] if samples else None


def _number(entry: Any, key: str, path: Path) -> int:
    value = entry.get(key) if isinstance(entry, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise EquicliError(f"{path}: '{key}' of {shown(entry)} is no whole number. Mend it.")
    return value


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
