"""YOLO's text files: one beside each picture, a line an object: its class, then a box or an outline."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equicli.data.folders import Dataset
from equicli.errors import EquicliError, shown
from equicli.groups.elements import Frame
from equicli.recipes import read_yaml
from equicli.tasks.annotations.annotation import annotated
from equicli.tasks.annotations.coco_objects import EMPTY, NO_SIZE, OUTSIDE
from equicli.tasks.annotations.objects import Objects, covers, mask_areas, outline

BROKEN = "that are no class with a box or an outline"
NO_SHARES = "whose numbers are no shares of the picture"
REPEATED = "that repeat another"


@dataclass(frozen=True)
class YoloAnnotation:
    """The lines of one picture: class and numbers in [0, 1], centre x and y, width and height, or x and y in turns."""

    categories: Mapping[int, str]
    lines: tuple[tuple[int, tuple[float, ...]], ...]

    @property
    def outlined(self) -> Sequence[bool]:
        return [len(values) > 4 for _, values in self.lines]

    def objects(self, frame: Frame, outputs: Mapping[str, int]) -> Objects:
        height, width = frame
        boxes, drawn = [], []
        for _, values in self.lines:
            if len(values) == 4:
                x, y, w, h = (v * side for v, side in zip(values, (width, height, width, height), strict=True))
                boxes.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
                continue
            points = np.array(values).reshape(-1, 2) * (width, height)
            boxes.append((*points.min(axis=0).tolist(), *points.max(axis=0).tolist()))
            drawn.append(outline([points.flatten().tolist()], frame))
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        sides = corners[:, 2:] - corners[:, :2]
        masks = tuple(drawn) if len(drawn) == len(boxes) else None
        return Objects(
            corners,
            np.array([outputs[self.categories[category]] for category, _ in self.lines], dtype=np.int64),
            sides[:, 0] * sides[:, 1] if masks is None else mask_areas(masks),
            np.ones(len(boxes)),
            np.zeros(len(boxes), dtype=bool),
            masks,
        )


def find_yolo(data: Dataset) -> dict[Path, Path]:
    """The text file of each picture that has one: in `labels` where the picture is in `images`, or beside it."""
    found = {}
    for sample in data.samples:
        parts = list(sample.path.with_suffix(".txt").parts)
        places = [sample.path.with_suffix(".txt")]
        if "images" in parts[:-1]:
            at = len(parts) - 2 - parts[-2::-1].index("images")
            places.append(Path(*parts[:at], "labels", *parts[at + 1 :]))
        file = next((place for place in places if place.is_file()), None)
        found.update({} if file is None else {sample.path: file})
    return found


def read_yolo(data: Dataset, files: Mapping[Path, Path]) -> Dataset:
    """The pictures of a folder with what YOLO's files say of them; a picture without a file, beside others that have
    one, is one without objects.

    Raises:
        EquicliError: lines name classes that `data.yaml` or `classes.txt` does not list.
    """
    left: Counter[str] = Counter()
    lines = {picture: _lines(file, left) for picture, file in files.items()}
    listed, source = _names([data.root, *sorted({file.parent for file in files.values()})])
    numbers = sorted({number for of in lines.values() for number, _ in of})
    unknown = [number for number in numbers if listed and number not in listed]
    if unknown:
        raise EquicliError(f"{source}: lists no class {unknown[0]}, which lines of the labels name. Mend one of them.")
    categories = listed or {number: str(number) for number in numbers} or {0: "0"}
    parts = {picture.parent for picture in files}
    without = sum(sample.path not in files and sample.path.parent in parts for sample in data.samples)
    remarks = [f"lines of YOLO's files {why}: {count} left out" for why, count in left.items()]
    remarks += [f"pictures without a file of labels, beside others: {without}, without objects"] if without else []
    used = {*files.values(), *([source] if source else [])}
    return annotated(
        data,
        lambda sample: YoloAnnotation(categories, lines.get(sample.path, ())) if sample.path.parent in parts else None,
        used,
        remarks,
    )


def _lines(file: Path, left: Counter[str]) -> tuple[tuple[int, tuple[float, ...]], ...]:
    found: list[tuple[int, tuple[float, ...]]] = []
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EquicliError(f"{file}: no readable text. Mend or remove it.") from error
    for line in filter(None, map(str.strip, text.splitlines())):
        read = _line(line)
        read = REPEATED if read in found else read
        if isinstance(read, str):
            left[read] += 1
        else:
            found.append(read)
    return tuple(found)


def _line(line: str) -> tuple[int, tuple[float, ...]] | str:
    """A class and its numbers, or why the line is left out."""
    first, *rest = line.split()
    try:
        values = tuple(map(float, rest))
    except ValueError:
        return BROKEN
    if not first.isdecimal() or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        return BROKEN
    if not all(-1 <= v <= 2 for v in values):  # nor what is no number
        return NO_SHARES
    if len(values) > 4:
        return (int(first), values) if covers(values, (1, 1)) else EMPTY
    x, y, width, height = values
    if width <= 0 or height <= 0:
        return NO_SIZE
    meets = abs(x - 0.5) < (1 + width) / 2 and abs(y - 0.5) < (1 + height) / 2
    return (int(first), values) if meets else OUTSIDE


def _names(places: Sequence[Path]) -> tuple[dict[int, str], Path | None]:
    """Classes by their numbers, and the file that lists them, in the first of these folders that has one."""
    for path in (path for place in places for path in sorted([*place.glob("*.yaml"), *place.glob("*.yml")])):
        content = read_yaml(path, "labels")
        names: Any = content.get("names") if isinstance(content, Mapping) else None
        if isinstance(names, Mapping) and all(isinstance(key, int) for key in names):
            return {key: str(name) for key, name in names.items()}, path
        if isinstance(names, Sequence) and not isinstance(names, str):
            return {number: str(name) for number, name in enumerate(names)}, path
    for path in (place / "classes.txt" for place in places if (place / "classes.txt").is_file()):
        listed = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
        return {number: shown(name.strip()) for number, name in enumerate(listed) if name.strip()}, path
    return {}, None
