"""What a user's dataset folder holds, and how it is split: seeded, stratified, recorded."""

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from equicli.data.layouts import TEST, TRAIN, VALIDATION, Part, SplitNames, read_layout
from equicli.data.names import normal
from equicli.data.tree import IMAGES, FileTree, Holds, LeftOut
from equicli.errors import EquicliError, UsageError, shown
from equicli.progress import Progress


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
    None unless the folder has a test and a validation folder. `left_out` is what else the folder holds, `remarks` a
    line on each thing that was decided.
    """

    root: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] | None
    validation: tuple[Sample, ...] | None = None
    left_out: LeftOut = field(default_factory=LeftOut)
    remarks: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[Sample, ...]:
        return self.train + (self.validation or ()) + (self.test or ())

    def tell(self, progress: Progress, *, strict: bool) -> None:
        """Tell how the folder was read, and what was not.

        Raises:
            EquicliError: in strict mode, something is left out that should have been a picture.
        """
        for remark in self.remarks:
            progress.say(f"data: {remark}")
        if (line := self.left_out.line()) is not None:
            progress.say(line)
        if strict and (fault := self.left_out.fault()) is not None:
            path, why = fault
            raise EquicliError(f"{path}: left out ({why}). Mend or remove it, or run without --strict.")

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


def open_folder(root: Path, names: SplitNames | None = None, holds: Holds = IMAGES) -> Dataset:
    """Read a dataset folder, however it is laid out; see `layouts`.

    Args:
        names: which folders are which part, where a user says so.
        holds: what it is a folder of.

    Raises:
        UsageError: there is no such folder.
        EquicliError: it holds no images, a test class that train has not, or what could be read in two ways.
    """
    if not root.is_dir():
        why = "is a file" if root.is_file() else "no such folder"
        raise UsageError(holds.said(f"{root}: {why}. DATA is a folder of images, such as train/<class>/…."))
    tree = FileTree(root, holds)
    try:
        layout = read_layout(tree, names or SplitNames())
    except EquicliError as error:
        where, colon, why = str(error).partition(": ")  # a path may hold any word
        raise type(error)(f"{where}{colon}{holds.said(why)}") from error
    empty = list(layout.empty)
    read = {name: _read(tree, part, empty) for name, part in layout.parts.items()}
    test, validation = read.pop(TEST, None), read.pop(VALIDATION, None)
    if test is None:  # without a test folder, the validation images are tested on
        test, validation = validation, None
    first = read.get(TRAIN) or test
    assert first is not None
    classes, remarks = tuple(first.images), list(layout.remarks)

    def samples(part: _Read | None) -> tuple[Sample, ...] | None:
        return None if part is None else _label(part, classes, first.folder, remarks)

    return Dataset(
        root,
        classes,
        samples(read.get(TRAIN)) or (),
        samples(test),
        samples(validation),
        left_out=tree.left_out(empty),
        remarks=tuple(remarks),
    )


def open_unlabelled(root: Path, flag: str) -> Dataset:
    """Take every picture below a folder, whatever folders in it are called; none has a label.

    Args:
        flag: what names the folder, for errors.

    Raises:
        UsageError: there is no such folder, or no picture in it.
    """
    if not root.is_dir():
        why = "is a file" if root.is_file() else "no such folder"
        raise UsageError(f"{flag} {root}: {why}; name a folder of images.")
    tree = FileTree(root)
    samples = tuple(map(Sample, tree.read_all()))
    if not samples:
        raise UsageError(f"{flag} {root}: no images here or below; name a folder of images.")
    return Dataset(root, (), samples, None, left_out=tree.left_out())


@dataclass(frozen=True)
class _Read:
    """The pictures of a part by class, or those without one."""

    folder: Path
    images: Mapping[str, list[Path]]
    unlabelled: list[Path]


def _read(tree: FileTree, part: Part, empty: list[Path]) -> _Read:
    """Read a part's pictures; class folders that turn out to have none are added to `empty`."""
    if not part.classes:
        return _Read(part.folder, {}, tree.read_here(part.folder))
    seen = tree.really_below(path for paths in part.classes.values() for path in paths if not path.is_symlink())
    images = {name: tree.read(paths, seen) for name, paths in part.classes.items()}
    empty += [path for name, paths in part.classes.items() if not images[name] for path in paths]
    return _Read(part.folder, {name: paths for name, paths in images.items() if paths}, [])


def _label(part: _Read, classes: Sequence[str], labelled_by: Path, remarks: list[str]) -> tuple[Sample, ...]:
    """Samples of a part, labelled by the classes of the training images."""
    if bool(part.images) != bool(classes):
        raise EquicliError(
            f"{part.folder}: one of {labelled_by.name} and {part.folder.name} has class folders and the other has none."
        )
    samples = [Sample(path) for path in part.unlabelled]
    for name, paths in part.images.items():
        label = _find_class(name, classes)
        if label is None:
            raise EquicliError(
                f"{part.folder / shown(name)}: no such class in {labelled_by}. Remove it, or add training images."
            )
        if name != classes[label]:
            remarks.append(f"{shown(name)} in {shown(part.folder.name)} is the class {shown(classes[label])}")
        samples += [Sample(path, label, label) for path in paths]
    return tuple(samples)


def _find_class(name: str, classes: Sequence[str]) -> int | None:
    """The class of a name; of one that differs in case alone, where there is one such."""
    if name in classes:
        return classes.index(name)
    alike = [index for index, other in enumerate(classes) if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


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
    found = match_recorded(folder, recorded)
    gone = [name for part in found.values() for name, sample in part.items() if sample is None]
    if gone:
        raise EquicliError(f"{folder.root / gone[0]}: recorded in the run, but gone ({len(gone)} such files).")
    return Split(**{part: tuple(s for s in named.values() if s is not None) for part, named in found.items()})


def match_recorded(folder: Dataset, recorded: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Sample | None]]:
    """By part, the sample of each file that `Split.paths` recorded; None of one that is gone."""
    samples = {s.path.relative_to(folder.root).as_posix(): s for s in folder.samples}
    alike = {normal(name): sample for name, sample in samples.items()}
    return {
        part: {name: samples.get(name) or alike.get(normal(name)) for name in names} for part, names in recorded.items()
    }


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
