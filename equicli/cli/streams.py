"""The process's own streams: closed ones, those that nobody reads any more, and those that are to be quiet."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


def fill_closed() -> None:
    """Open nothing in place of streams that are closed: a file that is opened later would get their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))


def discard(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere, so that no more errors come of it."""
    with suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


@contextmanager
def hushed() -> Iterator[None]:
    """Keep libraries' warnings away, also those that code in C writes to the process's stderr by itself."""
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere:
        warnings.simplefilter("ignore")
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
