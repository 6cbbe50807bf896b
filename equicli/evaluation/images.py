"""Which samples are evaluated on, and how they come: as pictures, or as tensors that are preprocessed."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.decode import MAX_PIXELS
from equicli.data.fingerprint import fingerprint
from equicli.data.folders import Dataset, Sample, match_recorded, recorded_split
from equicli.data.loading import Batch, Loader
from equicli.data.reencode import Encoding
from equicli.devices import device_of
from equicli.errors import EquicliError, UsageError, counted
from equicli.evaluation.evaluate import InputBatch
from equicli.prediction.inputs import Inputs
from equicli.progress import Progress
from equicli.recipes import expand_path
from equicli.runs import Run
from equicli.tasks.task import Task

# Pictures that are evaluated at once. Of networks that take lists one: they are asked about one at a time anyway, and
# what is kept of a batch until every turn is evaluated, such as a hundred masks for each picture, is large.
BATCH = 32
# Pictures of a folder that tell whether any of it was seen.
LOOKED_AT = 200


@dataclass(frozen=True)
class EvaluationSamples:
    """What is evaluated on.

    split: `test`, `validation`, or `all` of a folder without a split.
    """

    samples: tuple[Sample, ...]
    data: Dataset
    split: str


def find_samples(
    task: Task,
    data: str | None,
    run: Run | None,
    progress: Progress,
    *,
    test_split: str | None = None,
    strict: bool = False,
) -> EvaluationSamples:
    """The test samples of a folder; of that which a run was made from, also moved or copied, those that it
    held out.

    Args:
        data: a dataset folder; None is the one that the run recorded.
        test_split: the folder of test images in it; None is what the run was told, or looks for it by its name.

    Raises:
        UsageError: neither names a folder. EquicliError: there are no test images; or, in strict mode, something is
            left out that should have been a picture.
    """
    recorded = Path(run.recorded().data) if run else None
    root = Path(expand_path(data)) if data is not None else recorded
    if root is None:
        raise UsageError("an exported file records no data folder; name one with --data.")
    if data is None and not root.exists():
        raise UsageError(f"{root}: the data folder of this run is gone; name where it lies now with --data.")
    names = _recorded_names(run, root) | ({} if test_split is None else {"test_split": test_split})
    folder = task.with_splits(names).open(root) if names else task.open(root)
    folder.tell(progress, strict=strict)
    split = "test"
    own = recorded is not None and root.resolve() == recorded.resolve() and test_split is None
    known = run is not None and not own and test_split is None and run.split.is_file()
    moved = _moved_test_samples(folder, run.read_split()) if run is not None and known else []
    if own and run is not None:
        samples = recorded_split(folder, {"train": [], "validation": [], "test": run.read_split()["test"]}).test
    elif moved:
        samples = tuple(moved)
        progress.say(
            f"{root} holds the files that the run was made from: evaluating on its {counted(len(moved), 'test images')}"
        )
    elif folder.test is not None:
        samples = folder.test
    else:
        samples, split = folder.train, "all"
        progress.say(f"{root} has no test split: evaluating on all {counted(len(samples), 'images')}")
    if not samples:
        raise EquicliError(f"{root}: no test images.")
    return EvaluationSamples(tuple(samples), folder, split)


def names_of(samples: Sequence[Sample], root: Path) -> list[str]:
    """What samples are called in reports: their paths from the dataset folder."""
    return [Path(os.path.relpath(sample.path, root)).as_posix() for sample in samples]


def is_elsewhere(folder: Sequence[Sample], seen: Collection[bytes]) -> bool:
    """Whether a folder is none of those whose pictures were seen, as some of its pictures tell."""
    some = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))[:LOOKED_AT].tolist()
    files = [path for path in (folder[i].path for i in some) if path.is_file()]
    return bool(files) and not any(fingerprint(path) in seen for path in files)


def _moved_test_samples(folder: Dataset, recorded: Mapping[str, Sequence[str]]) -> list[Sample]:
    """The recorded test samples of a folder that has at least half of the recorded files; else none."""
    found = match_recorded(folder, recorded)
    samples = [sample for part in found.values() for sample in part.values()]
    if 2 * sum(sample is not None for sample in samples) < len(samples):
        return []
    return [sample for sample in found["test"].values() if sample is not None]


def _recorded_names(run: Run | None, root: Path) -> dict[str, str]:
    """The folders that a run was told are parts, where this dataset has them, too."""
    told = run.recorded().task.model_dump() if run else {}
    return {part: name for part, name in told.items() if name is not None and (root / name).is_dir()}


class Batches:
    """Batches of untouched inputs from image files; unreadable ones are skipped and listed in `unreadable`.

    batch_size: None is BATCH, or 1 of networks that take lists.

    rotate: `file`, pictures are turned before they are preprocessed, as they are when they come turned; `input`, the
        preprocessed tensors are.
    reencode: how pictures are compressed again after they are turned; None: they are not.
    """

    def __init__(
        self,
        model: AdaptedModel,
        samples: Sequence[Sample],
        batch_size: int | None,
        rotate: str,
        *,
        reencode: Encoding | None = None,
        max_pixels: int = MAX_PIXELS,
        strict: bool = False,
    ) -> None:
        self.model, self.samples, self.rotate, self.reencode = model, samples, rotate, reencode
        # Clouds commute with their preprocessing, so what is turned is the same.
        whole = rotate == "file" or isinstance(model.preprocess, CloudPreprocess)
        prepare: Callable[[Tensor], Tensor] = (lambda picture: picture) if whole else model.preprocess
        decoder = model.preprocess.decoder(model.value_ranges, max_pixels)
        batch_size = batch_size or (1 if model.signature.lists else BATCH)
        self._loader = Loader(samples, prepare, batch_size, decoder=decoder, strict=strict)
        self._shape: tuple[torch.Size, Path] | None = None

    def count_seen(self, seen: Collection[bytes]) -> int:
        """How many of the samples that were read so far have one of these fingerprints."""
        return sum(of in seen for of in self._loader.fingerprints.values())

    @property
    def unreadable(self) -> dict[Path, str]:
        return self._loader.unreadable

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[InputBatch]:
        """
        Raises:
            EquicliError: no file can be read; or, where tensors are turned, images of several sizes or not square.
            UnreadableImageError: in strict mode, a file cannot be read.
        """
        for batch in self._loader:
            yield InputBatch(batch.indices, self._inputs(batch))
            del batch  # pictures may be large: not two batches of them

    def _inputs(self, batch: Batch[Tensor]) -> Inputs:
        if self.rotate == "file" or isinstance(self.model.preprocess, CloudPreprocess):
            return self.model.pictures(batch.items)
        for index, item in zip(batch.indices.tolist(), batch.items, strict=True):
            self._check_shape(item, self.samples[index].path)
        images = torch.stack(batch.items).to(device_of(self.model))
        return self.model.tensors(self.model.preprocess.normalization(images))

    def _check_shape(self, image: Tensor, path: Path) -> None:
        self._shape = self._shape or (image.shape, path)
        shape, first = self._shape
        height, width = image.shape[-2:]
        remedy = "Use --rotate file, which takes pictures of any size, or --preprocess checkpoint with --image-size N."
        if height != width:
            raise EquicliError(f"{path}: {width}x{height} pixels; --rotate input turns square tensors. {remedy}")
        if image.shape != shape:
            raise EquicliError(
                f"{path}: {width}x{height} pixels, but {first} has {shape[-1]}x{shape[-2]}; --rotate input turns "
                f"tensors of one size. {remedy}"
            )
