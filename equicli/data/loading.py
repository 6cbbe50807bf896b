"""Loading image files in batches, several at a time; unreadable ones are set aside."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Sample
from equicli.data.preprocess import Preprocess, load_turned
from equicli.errors import EquicliError
from equicli.groups import PlanarGroup

# Pillow decodes outside Python's lock, so threads serve, and nothing has to be sent between processes.
THREADS = 4


class Batch(NamedTuple):
    """indices: int64 (b,), positions in the list of samples. images: uint8 (b, |R|, 3, h, w), not yet normalized."""

    indices: Tensor
    images: Tensor


class Preloaded:
    """Batches of images that are in memory already, uint8 (n, 3, h, w): what a `Loader` of their files would yield."""

    rotations = None

    def __init__(self, images: Tensor, batch_size: int) -> None:
        self.images = images
        self.batch_size = batch_size
        self.unreadable: dict[Path, str] = {}

    def __len__(self) -> int:
        return (len(self.images) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        for indices in torch.arange(len(self.images)).split(self.batch_size):
            yield Batch(indices, self.images[indices, None])


class Loader:
    """Iterable over batches of samples, in order. Unreadable files are skipped and listed in `unreadable`."""

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocess: Preprocess,
        batch_size: int,
        *,
        strict: bool = False,
        rotations: PlanarGroup | None = None,
    ) -> None:
        """
        Args:
            strict: stop at the first unreadable file.
            rotations: yield each decoded picture turned by each of these, |R| tensors a sample; None: as it is.
        """
        self.samples = samples
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.strict = strict
        self.rotations = rotations
        self.unreadable: dict[Path, str] = {}
        self._shape: tuple[torch.Size, Path] | None = None

    def __len__(self) -> int:
        """Number of batches, if every file can be read."""
        return (len(self.samples) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """
        Raises:
            EquicliError: no file can be read; or, where nothing is resized, images of several sizes or not square.
            UnreadableImageError: in strict mode, a file cannot be read.
        """
        indices: list[int] = []
        images: list[Tensor] = []
        found = False
        for index, image in self._images():
            self._check_shape(image, self.samples[index].path)
            indices.append(index)
            images.append(image)
            found = True
            if len(images) == self.batch_size:
                yield Batch(torch.tensor(indices), torch.stack(images))
                indices, images = [], []
        if images:
            yield Batch(torch.tensor(indices), torch.stack(images))
        if not found and self.samples:
            raise EquicliError(f"{self.samples[0].path.parent}: none of {len(self.samples)} images can be read.")

    def _images(self) -> Iterator[tuple[int, Tensor]]:
        with ThreadPoolExecutor(THREADS) as pool:
            todo = iter(enumerate(self.samples))
            waiting: deque[tuple[int, Future[Tensor]]] = deque()

            def start(count: int) -> None:
                for index, sample in islice(todo, count):
                    waiting.append((index, pool.submit(load_turned, sample.path, self.preprocess, self.rotations)))

            start(2 * self.batch_size)
            try:
                while waiting:
                    index, future = waiting.popleft()
                    try:
                        image = future.result()
                    except UnreadableImageError as error:
                        if self.strict:
                            raise
                        self.unreadable[self.samples[index].path] = error.reason
                    else:
                        yield index, image
                    start(1)
            finally:
                pool.shutdown(cancel_futures=True)

    def _check_shape(self, image: Tensor, path: Path) -> None:
        if self._shape is None:
            self._shape = image.shape, path
        shape, first = self._shape
        height, width = image.shape[-2:]
        if height != width:
            raise EquicliError(
                f"{path}: {width}x{height} pixels; turning by 90° needs square images. "
                "Use --preprocess checkpoint with --image-size N, or crop them."
            )
        if image.shape != shape:
            raise EquicliError(
                f"{path}: {image.shape[-1]}x{image.shape[-2]} pixels, but {first} has {shape[-1]}x{shape[-2]}. "
                "--preprocess none takes images of one size; use --preprocess checkpoint, or resize them."
            )
