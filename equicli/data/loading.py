"""Going through image files in batches, several at a time; unreadable ones are set aside."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from equicli.data.clouds.decode import CloudDecoder
from equicli.data.decode import PLAIN, Decoder, UnreadableImageError, memory_of
from equicli.data.folders import Sample
from equicli.errors import EquicliError, counted, printable
from equicli.progress import Progress

T = TypeVar("T")

# Pillow and torch work outside Python's lock, so threads serve, and nothing has to be sent between processes.
THREADS = 4
# Pictures that are decoded before they are asked for: few, as they may be large.
AHEAD = 2 * THREADS


@dataclass(frozen=True)
class Batch(Generic[T]):
    """indices: int64 (b,), positions in the list of samples. items: what was made of each sample's picture."""

    indices: Tensor
    items: list[T]


class Loader(Generic[T]):
    """Iterable over batches of samples, in order. Unreadable files are skipped and listed in `unreadable`.

    fingerprints: of the files that were read.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        prepare: Callable[[Tensor], T],
        batch_size: int,
        *,
        decoder: Decoder | CloudDecoder = PLAIN,
        strict: bool = False,
    ) -> None:
        """
        Args:
            prepare: what is made of each decoded picture, uint8 (3, h, w), or cloud (n, 3), in a thread beside.
            decoder: opens the files.
            strict: stop at the first unreadable file.
        """
        self.samples = samples
        self.prepare = prepare
        self.batch_size = batch_size
        self.decoder = decoder
        self.strict = strict
        self.unreadable: dict[Path, str] = {}
        self.fingerprints: dict[Path, bytes] = {}

    def __len__(self) -> int:
        """Number of batches, if every file can be read."""
        return (len(self.samples) + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[Batch[T]]:
        """
        Raises:
            EquicliError: no file can be read.
            UnreadableImageError: in strict mode, a file cannot be read.
        """
        found = 0
        prepared = self._prepared()
        while (batch := _stack(islice(prepared, self.batch_size))).items:
            found += len(batch.items)
            yield batch
            del batch  # pictures may be large: not two batches of them
        if not found and self.samples:
            things = "clouds" if isinstance(self.decoder, CloudDecoder) else "images"
            raise EquicliError(f"{self.samples[0].path.parent}: none of {len(self.samples)} {things} can be read.")

    def _prepared(self) -> Iterator[tuple[int, T]]:
        with ThreadPoolExecutor(THREADS) as pool:
            todo = iter(enumerate(self.samples))
            waiting: deque[tuple[int, Future[T]]] = deque()

            def start(count: int) -> None:
                for index, sample in islice(todo, count):
                    waiting.append((index, pool.submit(self._open, sample.path)))

            start(AHEAD)
            try:
                while waiting:
                    index, future = waiting.popleft()
                    try:
                        item = future.result()
                    except UnreadableImageError as error:
                        if self.strict:
                            raise
                        self.unreadable[self.samples[index].path] = error.reason
                    else:
                        yield index, item
                    start(1)
            finally:
                pool.shutdown(cancel_futures=True)

    def _open(self, path: Path) -> T:
        picture = self.decoder.read(path)
        self.fingerprints[path] = self.decoder.fingerprint(path)  # of the file, which is in memory yet
        with memory_of(path, (picture.shape[-2], picture.shape[-1])):
            return self.prepare(picture)


def _stack(prepared: Iterable[tuple[int, T]]) -> Batch[T]:
    indices, items = [], []
    for index, item in prepared:
        indices.append(index)
        items.append(item)
    return Batch(torch.tensor(indices), items)


def tell_unreadable(unreadable: Mapping[Path, str], progress: Progress, things: str = "images") -> None:
    """List skipped files. `things` is what they should have been."""
    for path, why in unreadable.items():
        progress.say(f"skipped {printable(path)}: {why}")
    if unreadable:
        progress.say(f"{counted(len(unreadable), f'unreadable {things}')} skipped (--strict stops instead)")


def in_threads(function: Callable[..., T], *arguments: Iterable[Any]) -> list[T]:
    """Call a function as `map` does, several calls at a time, and return what they give in order."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, *arguments))


def computed(function: Callable[..., T], *arguments: Sequence[Any]) -> list[T]:
    """The same of what reads no files: each thread has its share from the beginning, and there are no more than torch
    may take. To hand over small pictures one by one takes as long as to shrink them."""
    items = list(zip(*arguments, strict=True))
    count = min(THREADS, torch.get_num_threads())

    def share(first: int) -> list[T]:
        return [function(*item) for item in items[first::count]]

    if count == 1 or len(items) == 1:
        return share(0)
    with ThreadPoolExecutor(count) as pool:
        shares = list(pool.map(share, range(count)))
    return [shares[i % count][i // count] for i in range(len(items))]
