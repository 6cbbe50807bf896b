"""Folders of point clouds: class folders or plain ones of single files, or ModelNet40's and ScanObjectNN's h5 files."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from equicli.data.clouds.decode import ROWS, SUFFIXES
from equicli.data.folders import Dataset, Sample, open_folder
from equicli.data.layouts import FLAGS, SplitNames
from equicli.data.names import is_hidden, names_part
from equicli.data.tree import FileTree, Holds, LeftOut
from equicli.errors import EquicliError, UsageError, reason

CLOUDS = Holds("point clouds", lambda path: path.suffix.lower() in SUFFIXES)
# Where the names of the classes stand, one in a line.
_NAMES = ("shape_names.txt", "modelnet40_shape_names.txt", "classes.txt", "class_names.txt")
# Text beside clouds that is none.
_LISTS = {"modelnet40_train.txt", "modelnet40_test.txt", "train_files.txt", "test_files.txt", "filelist.txt", *_NAMES}


def open_clouds(root: Path, names: SplitNames | None = None) -> Dataset:
    """Read a folder of point clouds, however it is laid out.

    Raises:
        UsageError: there is no such folder, or parts are named of one with h5 files. EquicliError: it holds no point
            clouds; see `open_folder`.
    """
    inside = root.glob("*") if root.is_dir() else ()
    archives = sorted(p for p in inside if p.suffix.lower() in ROWS and p.is_file() and not is_hidden(p.name))
    if not archives:
        return _without_names(open_folder(root, names, CLOUDS))
    for part, flag in FLAGS.items():
        if (name := getattr(names, part, None)) is not None:
            raise UsageError(f"{flag} {name}: {root} has h5 files, whose names say their parts; leave it out.")
    parts: dict[str, list[Sample]] = {"train": [], "validation": [], "test": []}
    for path in archives:
        named = names_part(path.stem)
        labels = _labels(path)
        parts[named[0] if named and named[0] in parts else "train"] += [
            Sample(path / f"{row:06}", label, label) for row, label in enumerate(labels)
        ]
    samples = [sample for part in parts.values() for sample in part]
    if not samples:
        raise EquicliError(f"{root}: no clouds in its h5 files ({archives[0].name}). Mend or remove them.")
    classes, left_out = _class_names(root, [sample.target for sample in samples]), _left_out(root, archives)
    train, test, validation = (tuple(parts[part]) for part in ("train", "test", "validation"))
    if train and test:
        return Dataset(root, classes, train, test, validation or None, left_out=left_out)
    lacking = "test" if train else "training"
    remarks = [f"no h5 file here has {lacking} clouds: all are divided anew"] if test or validation else []
    return Dataset(root, classes, tuple(samples), None, left_out=left_out, remarks=tuple(remarks))


def _left_out(root: Path, archives: Collection[Path]) -> LeftOut:
    """Clouds and archives that are not read, and all other files."""
    tree = FileTree(root, Holds(CLOUDS.things, lambda path: CLOUDS.takes(path) or path.suffix.lower() in ROWS))
    left = tree.left_out(tree.without_pictures(root))
    files = {
        why: tuple(path for path in paths if path not in archives and path.name not in _LISTS)
        for why, paths in left.files.items()
    }
    return replace(left, files={why: paths for why, paths in files.items() if paths})


def _without_names(found: Dataset) -> Dataset:
    """ModelNet40 in text has lists of its files and classes beside them: no clouds."""

    def kept(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(sample for sample in samples if sample.path.name not in _LISTS)

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
            values = [value.item() for value in (label[:] if label.ndim == 1 else label[:, 0])]
            labels = [int(value) for value in values]
            if labels != values or min(labels, default=0) < 0:
                raise ValueError("labels are no whole numbers from 0 on")
            return labels
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
