"""What a file says of the objects in one picture, before a network's outputs are known."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from equicli.data.decode import PLAIN
from equicli.data.folders import Dataset, Sample
from equicli.data.loading import in_threads
from equicli.data.tree import UNLABELLED, LeftOut
from equicli.errors import EquicliError
from equicli.groups.elements import Frame
from equicli.tasks.annotations.objects import Objects


class Annotation(Protocol):
    """The target of a sample, as long as nobody has asked what is right for it.

    categories: the name of each class by the number that the file gives it.
    outlined: of each object that the file lists, whether it has an outline; empty where only pixels number objects.
    """

    @property
    def categories(self) -> Mapping[int, str]: ...

    @property
    def outlined(self) -> Sequence[bool]: ...

    def objects(self, frame: Frame, outputs: Mapping[str, int]) -> Objects:
        """What is there.

        Args:
            frame: (height, width) of the picture as it is opened.
            outputs: the network's output for each class.

        Raises:
            EquicliError: the file does not fit the picture; names the file.
        """
        ...


def read_objects(samples: Sequence[Sample], outputs: Mapping[str, int]) -> list[Objects | None]:
    """What is there in each sample's picture; None of a picture that cannot be read."""

    def read(sample: Sample) -> Objects | None:
        frame = PLAIN.frame(sample.path)
        target: Annotation = sample.target
        return None if frame is None else target.objects(frame, outputs)

    return in_threads(read, samples)


def count_outlines(samples: Sequence[Sample]) -> tuple[int, int]:
    """How many objects have an outline, and how many have none."""
    targets: list[Annotation] = [sample.target for sample in samples if sample.target is not None]
    flags = [flag for target in targets for flag in target.outlined]
    return sum(flags), len(flags) - sum(flags)


def annotated(
    data: Dataset, target: Callable[[Sample], object], used: Collection[Path], remarks: Sequence[str] = ()
) -> Dataset:
    """A dataset whose pictures have annotations; of a part in which some have, those without are left out.

    Args:
        used: files that were read, which are no longer counted as left out. remarks: on what was decided.

    Raises:
        EquicliError: no picture has any.
    """
    found = data.with_targets(target)
    if all(sample.target is None for sample in found.samples):
        raise EquicliError(f"{data.root}: no picture here is one that its annotations name.")
    aside: list[Path] = []

    def kept(samples: tuple[Sample, ...] | None) -> tuple[Sample, ...] | None:
        if samples is None or all(sample.target is None for sample in samples):
            return samples
        aside.extend(sample.path for sample in samples if sample.target is None)
        return tuple(sample for sample in samples if sample.target is not None)

    train, validation, test = kept(found.train), kept(found.validation), kept(found.test)
    files = {why: tuple(p for p in paths if p not in used) for why, paths in found.left_out.files.items()}
    files[UNLABELLED] = (*files.get(UNLABELLED, ()), *aside)
    empty = tuple(folder for folder in found.left_out.empty if not any(folder in path.parents for path in used))
    left_out = LeftOut({why: paths for why, paths in files.items() if paths}, empty)
    categories = getattr(next(s.target for s in found.samples if s.target is not None), "categories", {})
    return replace(
        found,
        classes=tuple(categories[number] for number in sorted(categories)),
        train=train or (),
        validation=validation,
        test=test,
        left_out=left_out,
        remarks=(*found.remarks, *remarks),
    )
