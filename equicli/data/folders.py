"""What a user's dataset folder holds, and how it is split: seeded, stratified, recorded."""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from equicli.errors import EquicliError, UsageError

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jfif .png .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .jp2 .j2k .avif .tga".split()
)
# Names of split folders, in any case. Where there are several test folders, the first of these is the test set.
TRAIN_FOLDER = "train"
TEST_FOLDERS = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class Sample:
    """An image file and what is right for it: of a classification folder the index of its class in `Dataset.classes`.

    target: None where nothing says. stratum: splits keep the share of each.
    """

    path: Path
    target: Any = None
    stratum: Hashable = None


@dataclass(frozen=True)
class Dataset:
    """A dataset folder. `classes` are its class folders' names, sorted; empty where images carry no labels.

    `test` is None where the folder brings no test split of its own; then `train` holds every image. `validation` is
    None unless the folder has a test and a validation folder beside train.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] | None
    validation: tuple[Sample, ...] | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.train + (self.validation or ()) + (self.test or ())

    def with_targets(self, target: Callable[[Sample], Any]) -> "Dataset":
        """The same images, for a task to which class folders mean nothing, each with a target of its own or None."""

        def labelled(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
            return tuple(replace(sample, target=target(sample)) for sample in samples)

        test, validation = self.test, self.validation
        return replace(
            self,
            classes=(),
            train=labelled(self.train),
            test=None if test is None else labelled(test),
            validation=None if validation is None else labelled(validation),
        )


@dataclass(frozen=True)
class Split:
    """Disjoint sets of samples: the canonicalizer is trained on `train`, its epoch chosen on `validation`."""

    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]

    def paths(self, root: Path) -> dict[str, list[str]]:
        """The files of each part, relative to the dataset folder, to be recorded with a run."""
        return {part: [s.path.relative_to(root).as_posix() for s in getattr(self, part)] for part in self._parts}

    _parts = ("train", "validation", "test")


def open_folder(root: Path) -> Dataset:
    """Read the layout of a dataset folder: `train/<class>/…` beside `test/` or `val/`, `<class>/…`, or images alone.

    Raises:
        UsageError: there is no such folder.
        EquicliError: it holds no images, an empty class, a test class that train has not, or splits beside classes.
    """
    if root.is_file():
        raise UsageError(f"{root}: is a file. DATA is a folder of images, such as train/<class>/….")
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder. DATA is a folder of images, such as train/<class>/….")
    train_root, test_roots = _split_folders(root)
    if train_root is None and not test_roots:
        classes, train = _read(root)
        return Dataset(root, classes, train, test=None)
    if train_root is None:
        classes, held_out = _read(test_roots[0])
        return Dataset(root, classes, (), held_out)
    classes, train = _read(train_root)
    test = _read_as(test_roots[0], classes, train_root) if test_roots else None
    validation = _read_as(test_roots[1], classes, train_root) if len(test_roots) > 1 else None
    return Dataset(root, classes, train, test, validation)


def _split_folders(root: Path) -> tuple[Path | None, list[Path]]:
    """The training folder, None where there is none, and the test folders; neither in a flat layout."""
    folders = _class_folders(root)
    found = {folder.name.lower(): folder for folder in folders}
    train, tests = found.get(TRAIN_FOLDER), [found[name] for name in TEST_FOLDERS if name in found]
    splits = [train, *tests] if train else tests
    others = [folder for folder in folders if folder not in splits and _images(folder)]
    if others and any(_class_folders(split) for split in splits):
        split = splits[0]
        raise EquicliError(f"{others[0]}: a class beside the split '{split.name}'. Move it into {split.name}, or away.")
    if others:
        return None, []  # classes that happen to be called train or test
    return train, tests


def split_folder(folder: Dataset, *, validation: float, test: float, seed: int) -> Split:
    """Divide a folder's images class by class; the folder's own validation and test splits are kept as they are.

    Args:
        validation, test: shares, of the training images and of all images, in (0, 1).

    Raises:
        EquicliError: too few images to train and to validate.
    """
    train, held_out = folder.train, folder.test
    if held_out is None:
        train, held_out = _divide(train, test, f"test {seed}")
    chosen = folder.validation
    if chosen is None:
        train, chosen = _divide(train, validation, f"validation {seed}")
    if not train or not chosen:
        raise EquicliError(
            f"{folder.root}: {len(folder.train)} training images are too few to train and to validate on."
        )
    return Split(train, chosen, held_out)


def recorded_split(folder: Dataset, recorded: Mapping[str, Sequence[str]]) -> Split:
    """The split that `Split.paths` recorded; images that came since belong to no part of it.

    Raises:
        EquicliError: recorded images are gone.
    """
    samples = {s.path.relative_to(folder.root).as_posix(): s for s in folder.samples}
    gone = [name for names in recorded.values() for name in names if name not in samples]
    if gone:
        raise EquicliError(f"{folder.root / gone[0]}: recorded in the run, but gone ({len(gone)} such files).")
    return Split(**{part: tuple(samples[name] for name in names) for part, names in recorded.items()})


def _divide(samples: Sequence[Sample], share: float, seed: str) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    strata = defaultdict(list)
    for sample in samples:
        strata[sample.stratum].append(sample)
    kept, taken = [], []
    for stratum, members in strata.items():
        random.Random(f"{seed} {stratum}").shuffle(members)
        count = min(max(1, round(len(members) * share)), len(members) - 1)
        taken += members[:count]
        kept += members[count:]
    return tuple(sorted(kept, key=_by_path)), tuple(sorted(taken, key=_by_path))


def _by_path(sample: Sample) -> str:
    return sample.path.as_posix()


def _class_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path, pattern: str = "**/*") -> list[Path]:
    return sorted(
        p
        for p in folder.glob(pattern)
        if p.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in p.relative_to(folder).parts)
        and p.is_file()
    )


def _read(root: Path) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """Class names and samples of `<class>/…`, or no class names where images lie in the folder itself."""
    loose = _images(root, "*")
    if loose and any(_images(folder) for folder in _class_folders(root)):
        raise EquicliError(f"{loose[0]}: an image beside class folders. Move it into one of them, or remove it.")
    if loose:
        return (), tuple(Sample(path, None) for path in loose)
    folders = _class_folders(root)
    classes = tuple(folder.name for folder in folders)
    samples = tuple(
        Sample(path, label, label) for label, folder in enumerate(folders) for path in _class_images(folder)
    )
    if not samples:
        raise EquicliError(
            f"{root}: no images here. Expected <class>/<image> or images of one of {', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return classes, samples


def _read_as(root: Path, classes: tuple[str, ...], train_root: Path) -> tuple[Sample, ...]:
    """Samples of a test folder, labelled by the classes of the training folder."""
    own, samples = _read(root)
    if bool(own) != bool(classes):
        raise EquicliError(
            f"{root}: one of {train_root.name} and {root.name} has class folders and the other has none."
        )
    unknown = sorted(set(own) - set(classes))
    if unknown:
        raise EquicliError(f"{root / unknown[0]}: no such class in {train_root}. Remove it, or add training images.")
    labels: list[int | None] = [None if s.target is None else classes.index(own[s.target]) for s in samples]
    return tuple(Sample(s.path, label, label) for s, label in zip(samples, labels, strict=True))


def _class_images(folder: Path) -> list[Path]:
    images = _images(folder)
    if not images and (folder / "resolved.yaml").is_file():
        raise EquicliError(f"{folder}: a run folder, no class. DATA is the folder with the images alone.")
    if not images:
        raise EquicliError(f"{folder}: an empty class, no image in it. Add images or remove the folder.")
    return images
