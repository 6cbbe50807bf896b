"""More upright pictures, of any kind and without labels, for nothing but the canonicalizer's training."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import torch
from torch import Tensor

from equicli.config import AdaptConfig
from equicli.data.decode import Decoder
from equicli.data.fingerprint import fingerprint
from equicli.data.folders import Sample, open_unlabelled
from equicli.data.loading import Loader, in_threads, tell_unreadable
from equicli.data.small_view import SmallView
from equicli.data.source import Resident
from equicli.errors import EquicliError, UsageError
from equicli.files import naming
from equicli.progress import Progress
from equicli.runs import Run
from equicli.training.images import shrunk

_BATCH = 64  # pictures between two steps of the progress


@dataclass(frozen=True)
class Upright:
    """images: their small views, in a file without a name that goes with the process; the system keeps in memory what
        there is room for.
    fingerprints: of these pictures, in their order.
    """

    images: Resident
    fingerprints: tuple[bytes, ...]

    def record(self, run: Run) -> None:
        """Log which these are.

        Raises:
            EquicliError: the run was begun with others, so that going on would give other weights.
        """
        before = [entry["upright"] for entry in run.read_log() if "upright" in entry]
        now = {"images": len(self.images), "sha256": hashlib.sha256(b"".join(self.fingerprints)).hexdigest()}
        if before and before[-1] != now:
            raise EquicliError(
                f"--resume {run.folder}: the images of --upright changed since; put back what was there, or start anew."
            )
        run.append_log({"upright": now})


def open_upright(config: AdaptConfig, progress: Progress) -> tuple[Sample, ...]:
    """The pictures of all folders of `--upright`, and what is not used told.

    Raises:
        UsageError: there is no such folder, it holds no picture, or has some in common with DATA or another of them.
        EquicliError: in strict mode, something is left out that should have been a picture.
    """
    samples: tuple[Sample, ...] = ()
    taken = {"DATA": Path(config.data).resolve()}
    for root in map(Path, config.upright):
        own = root.resolve()
        for name, other in taken.items():
            if own.is_relative_to(other) or other.is_relative_to(own):
                how = "is" if own == other else "lies in" if own.is_relative_to(other) else "holds"
                raise UsageError(f"--upright {root}: {how} {name}, whose images are trained on anyway; name another.")
        taken[f"--upright {root}"] = own
        found = open_unlabelled(root, "--upright")
        progress.say(f"upright: {len(found.train):,} more images to train the canonicalizer on, from {root}")
        found.tell(progress, strict=config.strict)
        samples += found.train
    return samples


def read_upright(
    samples: Sequence[Sample],
    known: Collection[bytes],
    test: Sequence[Sample],
    *,
    view: SmallView,
    turn: Callable[[Tensor], Tensor],
    folder: Path,
    decoder: Decoder,
    strict: bool,
    progress: Progress,
) -> Upright:
    """Open every picture once, and keep what the canonicalizer looks at on disk: side² · 3 bytes each.

    Copies of pictures that are trained on, chosen by or tested on, and of one another, are left out and told.

    Args:
        known: fingerprints of the training and validation images. test: the test images.
        turn: brings an upright picture, uint8 (3, h, w), to the pose of the training images.
        folder: on whose disk the views are kept.

    Raises:
        EquicliError: no picture can be read or all are copies; in strict mode, one cannot be read.
        OSError: the disk is full.
    """
    loader = Loader(samples, lambda picture: shrunk(turn(picture), view), _BATCH, decoder=decoder, strict=strict)
    met = {*known, *_of_test(test, samples)}
    kept: list[bytes] = []
    aspects: list[float] = []
    with TemporaryFile(dir=folder) as file:
        batches = progress.track(loader, "reading upright images", len(samples), size=lambda b: len(b.indices))
        for batch in batches:
            for index, (pixels, aspect) in zip(batch.indices.tolist(), batch.items, strict=True):
                of = loader.fingerprints.pop(samples[index].path)
                if of in met:
                    continue
                met.add(of)
                kept.append(of)
                aspects.append(aspect)
                with naming(folder):
                    file.write(pixels.numpy().tobytes())
        with naming(folder):
            file.flush()
        tell_unreadable(loader.unreadable, progress)
        copies = len(samples) - len(loader.unreadable) - len(kept)
        if not kept:
            raise EquicliError(f"--upright: all {copies} images are copies of DATA's; leave it out, or name another.")
        shape = (len(kept), 3, view.size, view.size)
        pixels = torch.from_numpy(np.memmap(file, np.uint8, "r+", shape=shape))
    if copies:
        progress.say(f"upright: {copies:,} left out, as copies of images of DATA or of one another")
    return Upright(Resident(pixels, torch.tensor(aspects), [None] * len(kept)), tuple(kept))


def _of_test(test: Sequence[Sample], samples: Sequence[Sample]) -> set[bytes]:
    """Fingerprints of the test images that may have a copy among the samples: whose files are as large."""

    def size(sample: Sample) -> int | None:
        try:
            return sample.path.stat().st_size
        except OSError:
            return None  # told by whoever reads it

    sizes = set(map(size, samples))
    alike = [sample.path for sample in test if (of := size(sample)) is not None and of in sizes]
    return set(in_threads(fingerprint, alike))
