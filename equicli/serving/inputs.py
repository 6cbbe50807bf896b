"""Which files a command means: named one by one, by folder, by pattern, or in a list on standard input."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from equicli.data.tree import FileTree
from equicli.errors import UsageError, counted
from equicli.progress import Progress

LIST = "-"  # stands for names on standard input, one a line


def find_inputs(names: Sequence[str], stdin: TextIO, progress: Progress) -> list[str]:
    """The files that arguments mean, in their order, each once; of a folder its pictures, sorted.

    Names on standard input are taken as they are: what is not there is told where it is read.

    Raises:
        UsageError: nothing has such a name, or there is no file at all.
    """
    found = list(_all(names, stdin, progress))
    by_place: dict[str, str] = {}
    for name in found:
        by_place.setdefault(os.path.abspath(name), name)  # noqa: PTH100 - links stay as they are
    once = list(by_place.values())
    if len(once) < len(found):
        progress.say(f"{counted(len(found) - len(once), 'files')} named more than once: each is read once")
    if not once:
        raise UsageError(
            f"INPUT {' '.join(names)}: no files; name pictures, folders of them, patterns, or - for a list."
        )
    return once


def _all(names: Iterable[str], stdin: TextIO, progress: Progress) -> Iterator[str]:
    for name in names:
        path = Path(name)
        if name == LIST:
            yield from (line.rstrip("\r\n") for line in stdin if line.strip())
        elif path.is_dir():
            tree = FileTree(path)
            pictures = tree.read_all()
            if (line := tree.left_out().line()) is not None:
                progress.say(f"{path}: {line}")
            yield from map(str, pictures)
        elif path.exists():
            yield name
        elif matches := sorted(glob.glob(name, recursive=True)):  # noqa: PTH207 - an absolute pattern, or one with ..
            yield from _all(matches, stdin, progress)
        else:
            raise UsageError(f"INPUT {name}: no such file or folder, and no pattern that fits any.")
