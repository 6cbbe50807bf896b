"""COCO's files of annotations, and which pictures they name."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equicli.data.folders import Dataset, Sample
from equicli.errors import EquicliError, reason, shown
from equicli.groups.elements import Frame
from equicli.tasks.annotations.annotation import annotated
from equicli.tasks.annotations.coco_objects import CocoAnnotation, read_entries

# In a folder with more files of this kind each is beside one picture, and only those named so are looked into.
_MANY = 20
_NAMES = ("annotation", "coco", "instances")


def find_coco(data: Dataset) -> dict[Path, Mapping[str, Any]]:
    """COCO's files beside the pictures of a folder, read: those named `instances…` where there are any.

    Raises:
        EquicliError: one named so is no JSON, or has no objects as COCO lists them.
    """
    places = {data.root, *data.root.glob("annotations*")}
    for sample in data.samples:
        places |= {sample.path.parent, sample.path.parent.parent}
    found, others = {}, []
    for place in sorted(place for place in places if place.is_dir() and data.root in (place, *place.parents)):
        files = sorted(place.glob("*.json"))
        for path in files:
            named = any(name in path.name.lower() for name in _NAMES)
            if not (named or len(files) <= _MANY):
                continue
            if (content := _read(path, named=named)) is not None:
                found[path] = content
            elif named:
                others.append(path)
    wrong = [path for path in others if _is_main(path) or not found]
    if wrong:
        raise EquicliError(
            f"{wrong[0]}: is named as COCO's annotations, but does not list images, annotations of objects, and "
            "categories. Mend, rename or remove it."
        )
    return {path: content for path, content in found.items() if _is_main(path)} or found


def _is_main(path: Path) -> bool:
    return path.name.lower().startswith("instances")


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
    entries = read_entries(content, frames, categories, path, remarks)
    samples = _samples(names, path, data)
    missing = [name for number, name in names.items() if number not in samples]
    if missing:
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
        names[number] = str(image.get("file_name", "")).replace("\\", "/")
    return frames, names


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
