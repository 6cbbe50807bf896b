"""Folders of point clouds: class folders or plain ones of single files, or ModelNet40's and ScanObjectNN's h5 files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from equicli.data.clouds.decode import ROWS, SUFFIXES
from equicli.data.folders import Dataset, Sample, open_folder
from equicli.data.layouts import SplitNames
from equicli.data.names import names_part
from equicli.data.tree import Holds
from equicli.errors import EquicliError, reason

CLOUDS = Holds("point clouds", lambda path: path.suffix.lower() in SUFFIXES)
# Where the names of the classes stand, one in a line.
_NAMES = ("shape_names.txt", "modelnet40_shape_names.txt", "classes.txt", "class_names.txt")


def open_clouds(root: Path, names: SplitNames | None = None) -> Dataset:
    """Read a folder of point clouds, however it is laid out.

    Raises:
        UsageError: there is no such folder. EquicliError: it holds no point clouds; see `open_folder`.
    """
    archives = sorted(path for path in root.glob("*") if path.suffix.lower() in ROWS) if root.is_dir() else []
    if not archives:
        return _without_names(open_folder(root, names, CLOUDS))
    parts: dict[str, list[Sample]] = {"train": [], "validation": [], "test": []}
    for path in archives:
        named = names_part(path.stem)
        labels = _labels(path)
        parts[named[0] if named and named[0] in parts else "train"] += [
            Sample(path / f"{row:06}", label, label) for row, label in enumerate(labels)
        ]
    known = sorted({sample.target for samples in parts.values() for sample in samples})
    classes = _class_names(root, known)
    train, test = parts["train"], parts["test"]
    if not train:
        train, test = test, []
    return Dataset(
        root, classes, tuple(train), tuple(test) or None, tuple(parts["validation"]) or None if test else None
    )


def _without_names(found: Dataset) -> Dataset:
    """ModelNet40 in text has lists of its files and classes beside them: no clouds."""
    listed = {"modelnet40_train.txt", "modelnet40_test.txt", "filelist.txt", *_NAMES}

    def kept(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(sample for sample in samples if sample.path.name not in listed)

    test, validation = found.test, found.validation
    return replace(
        found,
        train=kept(found.train),
        test=None if test is None else kept(test),
        validation=None if validation is None else kept(validation),
    )


def _labels(path: Path) -> list[int]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            data, label = file["data"], file["label"]
            if data.ndim != 3 or data.shape[2] < 3 or len(label) != len(data):
                raise ValueError(f"data {data.shape} and label {label.shape}")
            return [int(value) for value in label[:].reshape(len(data), -1)[:, 0]]
    except Exception as error:  # of h5py, on any file
        raise EquicliError(
            f"{path}: no h5 file with data (n, points, 3) and label (n, 1) ({reason(error)})."
        ) from error


def _class_names(root: Path, known: list[Any]) -> tuple[str, ...]:
    """The names of all classes up to the last, from a list beside the files, or by their numbers."""
    listed = next((root / name for name in _NAMES if (root / name).is_file()), None)
    count = max(known) + 1
    names = listed.read_text(encoding="utf-8").split() if listed else [f"{number:02}" for number in range(count)]
    if len(names) < count:
        raise EquicliError(f"{listed}: names {len(names)} classes, but labels go up to {count - 1}.")
    return tuple(names)
