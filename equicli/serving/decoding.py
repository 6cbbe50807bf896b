"""Decoding files in processes beside, in order, few at a time."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from equicli.data.decode import Decoder, UnreadableImageError
from equicli.data.formats import quiet_pillow
from equicli.data.loading import THREADS
from equicli.errors import EquicliError, reason

# Starting a process takes as long as decoding so many small files.
WORTH_PROCESSES = 500
# Parts of a batch that are decoded at once, so that few pictures, which may be large, wait in memory.
PARTS = 4

# Pixels (h, w, 3), or why a file cannot be read.
Read = np.ndarray[Any, np.dtype[np.uint8]] | str


@dataclass(frozen=True)
class Decoded:
    """A batch of files. pictures: uint8 (3, h, w), of those that can be read; unreadable: why, of the others."""

    number: int
    paths: tuple[str, ...]
    pictures: dict[str, Tensor]
    unreadable: dict[str, str]


def workers_for(files: int) -> int:
    """How many processes decode so many files: one a core, none where they would take longer to start."""
    return _cores() if files >= WORTH_PROCESSES else 0


def _cores() -> int:
    """Cores that this process may use, where the system tells these, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode(
    paths: Sequence[str], batches: Sequence[int], batch_size: int, decoder: Decoder, *, workers: int, strict: bool
) -> Iterator[Decoded]:
    """Decode batches of a list of files, in order.

    Args:
        batches: their numbers: batch k has the files from k·batch_size on.
        workers: processes that decode; 0 takes threads of this one.

    Raises:
        UnreadableImageError: in strict mode, a file cannot be read.
        EquicliError: a process was ended.
    """
    part = max(1, batch_size // PARTS)
    for number, (names, read) in zip(
        batches, _batches(_Files(paths, batches, batch_size, part, decoder), workers), strict=True
    ):
        pictures, unreadable = {}, {}
        for name, found in zip(names, read, strict=True):
            if not isinstance(found, str):
                pictures[name] = torch.from_numpy(found).permute(2, 0, 1).contiguous()
            elif strict:
                raise UnreadableImageError(Path(name), found)
            else:
                unreadable[name] = found
        del read
        yield Decoded(number, names, pictures, unreadable)


class _Files(Dataset[list[Read]]):
    """Parts of batches. An item is what was read of the files of one."""

    def __init__(
        self, paths: Sequence[str], batches: Sequence[int], batch_size: int, part: int, decoder: Decoder
    ) -> None:
        self.batches = [tuple(paths[number * batch_size : (number + 1) * batch_size]) for number in batches]
        self.parts = [names[i : i + part] for names in self.batches for i in range(0, len(names), part)]
        self.decoder = decoder

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> list[Read]:
        with quiet_pillow():  # once, and not for every file
            return [self.read(name) for name in self.parts[index]]

    def read(self, name: str) -> Read:
        try:
            return np.array(self.decoder.open(name))
        except UnreadableImageError as error:
            return error.reason


def _batches(files: _Files, workers: int) -> Iterator[tuple[tuple[str, ...], list[Read]]]:
    with ThreadPoolExecutor(THREADS) as pool:
        if workers:
            parts = _in_processes(files, workers)
        else:
            parts = ([*pool.map(files.read, part)] for part in files.parts)
        for names in files.batches:
            read: list[Read] = []
            while len(read) < len(names):
                read += next(parts)
            yield names, read


def _in_processes(files: _Files, workers: int) -> Iterator[list[Read]]:
    # Not forked from this process, whose threads would be missing in the copy, but from one that has imported this.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"  # on Windows
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    loader = DataLoader(
        files, batch_size=None, collate_fn=_as_it_is, num_workers=workers, multiprocessing_context=context
    )
    try:
        yield from loader
    except RuntimeError as error:
        raise EquicliError(
            f"decoding stopped ({reason(error)}). Where memory is short, lower --batch-size, or add --workers 0."
        ) from error


def _as_it_is(part: list[Read]) -> list[Read]:
    return part
