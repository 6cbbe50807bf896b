"""Parts of an output that grow while a command is at work, and the whole output that is made of them.

A part is JSON, a line at a time: first what it is a part of, then each batch with one row an input. A killed process
leaves a torn last line, which the next one removes. Batches are the same however the work is shared out and however
often it is interrupted, as networks round otherwise in batches of other sizes.
"""

import csv
import hashlib
import heapq
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from equicli.errors import EquicliError, UsageError, counted
from equicli.files import lock_file, naming, write_whole, writing_output

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".csv")
_FLAGS = {"batch_size": "--batch-size", "precision": "--precision", "max_pixels": "--max-pixels"}
ERROR = "error"  # the column of a row whose input cannot be read


@dataclass(frozen=True)
class Work:
    """What all parts of one output have in common: what was asked of which inputs. A digest stands for their list."""

    model: str
    inputs: int
    digest: str
    batch_size: int
    precision: str
    max_pixels: int

    @classmethod
    def of(cls, model: str, paths: Sequence[str], batch_size: int, precision: str, max_pixels: int) -> "Work":
        """
        Args:
            model: the SHA-256 of its file.
            precision: of the prediction network. max_pixels: larger pictures are not read.
        """
        return cls(model, len(paths), _digest(paths), batch_size, precision, max_pixels)

    @property
    def batches(self) -> int:
        return -(-self.inputs // self.batch_size)


@dataclass(frozen=True)
class Shard:
    """The i-th of n processes that share the work, from 1: it takes every n-th batch."""

    index: int = 1
    count: int = 1

    @classmethod
    def read(cls, text: str) -> "Shard":
        """
        Raises:
            UsageError: it is none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text}: write i/n, such as 1/4 to 4/4.")
        return cls(int(found[1]), int(found[2]))

    def numbers(self, batches: int) -> range:
        return range(self.index - 1, batches, self.count)

    def path(self, output: Path) -> Path:
        """The part that it writes."""
        return output.with_name(f"{output.name}.part" + ("" if self.count == 1 else f"-{self.index}-of-{self.count}"))


class Part:
    """A part that is open for writing. done: numbers of the batches that it holds already."""

    def __init__(self, file: BinaryIO, done: frozenset[int]) -> None:
        self._file = file
        self.done = done

    def append(self, number: int, rows: Sequence[Row]) -> None:
        self._file.write(to_json({"batch": number, "rows": rows}).encode() + b"\n")
        self._file.flush()


@contextmanager
def open_part(path: Path, work: Work, shard: Shard, *, resume: bool, overwrite: bool) -> Iterator[Part]:
    """Begin a part, or go on with it.

    Raises:
        UsageError: it exists and is not to be gone on with, is one of other work, or another process writes it.
        OSError: it cannot be written.
    """
    if path.exists() and not (resume or overwrite):
        raise UsageError(f"{path}: was begun already. Add --resume to go on with it, or --overwrite.")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file, lock_file(file, path):
            if not resume:
                file.truncate(0)
            header = {"equicli": "predictions", "schema": 1, **asdict(work), "shard": [shard.index, shard.count]}
            done = _take_up(file, path, header)
            yield Part(file, done)


def _take_up(file: BinaryIO, path: Path, header: Mapping[str, Any]) -> frozenset[int]:
    """Remove a torn end, check that the rest is of this work, and tell which batches are there."""
    file.seek(0)
    whole, done = 0, set()
    for number, line in enumerate(file):
        if not line.endswith(b"\n"):
            break
        entry = _entry(line, path, number)
        if number:
            done.add(int(entry["batch"]))
        elif entry != header:
            changed = next(key for key in {**header, **entry} if header.get(key) != entry.get(key))
            if flag := _FLAGS.get(changed):
                raise UsageError(f"{path}: was begun with {flag} {entry.get(changed)}: add it, or --overwrite.")
            what = "another model" if changed == "model" else "other inputs"
            raise UsageError(f"{path}: was begun with {what}. Name what it was begun with, or add --overwrite.")
        whole += len(line)
    file.truncate(whole)
    file.seek(0, os.SEEK_END)
    if not whole:
        file.write(json.dumps(header).encode() + b"\n")
        file.flush()
    return frozenset(done)


def find_parts(output: Path) -> list[Path]:
    """The parts of an output, those of all processes.

    Raises:
        UsageError: there are none, not all of them, or those of several calls.
    """
    pattern = re.compile(re.escape(output.name) + r"\.part-(\d+)-of-(\d+)")
    here = [match for path in output.parent.glob("*.part-*") if (match := pattern.fullmatch(path.name))]
    counts = {int(match[2]) for match in here}
    alone = Shard().path(output)
    if alone.is_file():
        if here:
            raise UsageError(f"{alone}: lies beside {here[0].string}. Remove what is not to be joined.")
        return [alone]
    if len(counts) != 1:
        what = "parts of several --shard i/n" if counts else "no parts of it are here"
        raise UsageError(f"{output}: {what}. Name what --output named where they were made.")
    shards = [Shard(index, *counts) for index in range(1, max(counts) + 1)]
    for shard in shards:
        if not shard.path(output).is_file():
            raise UsageError(f"{shard.path(output)}: is missing; run --shard {shard.index}/{shard.count}.")
    return [shard.path(output) for shard in shards]


@dataclass(frozen=True)
class Joined:
    """inputs: rows of the output. unreadable: why, by path."""

    inputs: int
    unreadable: Mapping[str, str]


def join(output: Path, parts: Sequence[Path], *, overwrite: bool) -> Joined:
    """Write an output of its parts, with every input once and in order, and remove them.

    Raises:
        UsageError: the output exists.
        EquicliError: parts are damaged, unfinished or of other work.
    """
    works = [_read_work(path) for path in parts]
    for path, work in zip(parts, works, strict=True):
        if work != works[0]:
            raise EquicliError(f"{path}: is no part of the same work as {parts[0]}. Make it again.")
    work, paths, unreadable = works[0], hashlib.sha256(), {}
    count = 0

    def rows() -> Iterator[Row]:
        nonlocal count
        merged = heapq.merge(*map(_read_batches, parts), key=lambda batch: batch[0])
        expected = 0
        for number, found, path in merged:
            if number != expected:
                raise EquicliError(_wrong(path, number, expected))
            expected += 1
            for row in found:
                count += 1
                paths.update(_name(row["path"]))
                if ERROR in row:
                    unreadable[row["path"]] = row[ERROR]
                yield row
        if expected != work.batches:
            raise EquicliError(f"{output}: unfinished: {expected} of {counted(work.batches, 'batches')}. Add --resume.")
        if count != work.inputs or paths.hexdigest() != work.digest:
            raise EquicliError(f"{parts[0]}: does not hold every input once. Make it again.")

    lines = _csv(rows()) if output.suffix == ".csv" else (to_json(row) + "\n" for row in rows())
    with writing_output(output):
        write_whole(output, (line.encode(errors="backslashreplace") for line in lines), new=not overwrite)
    for path in parts:
        path.unlink()
    return Joined(count, unreadable)


def holds_all(output: Path, paths: Sequence[str]) -> bool:
    """Whether a finished output has just these inputs, in this order."""
    try:
        with output.open(encoding="utf-8", newline="") as file:
            rows: Iterator[Any] = csv.DictReader(file) if output.suffix == ".csv" else map(json.loads, file)
            return [row["path"] for row in rows] == list(paths)
    except (KeyError, TypeError, ValueError):  # it is something else
        return False


def _wrong(path: Path, number: int, expected: int) -> str:
    if number < expected:
        return f"{path}: batch {number} is there twice. Make it again."
    return f"{path}: before batch {number}, batch {expected} is missing: unfinished. Add --resume to its command."


def _read_work(path: Path) -> Work:
    with path.open("rb") as file:
        entry = _entry(file.readline(), path, 0)
    return Work(**{field: entry[field] for field in Work.__dataclass_fields__})


def _read_batches(path: Path) -> Iterator[tuple[int, list[Row], Path]]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number and line.endswith(b"\n"):
                entry = _entry(line, path, number)
                yield entry["batch"], entry["rows"], path


def _entry(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
        wanted = ("batch", "rows") if number else ("equicli", *Work.__dataclass_fields__)
        if all(key in found for key in wanted):
            return dict(found)
    except (ValueError, TypeError, RecursionError):
        pass
    raise EquicliError(f"{path}: line {number + 1} is none that equicli wrote. Remove the file and start anew.")


def _csv(rows: Iterator[Row]) -> Iterator[str]:
    """Rows as CSV. What is no plain value is JSON in its cell. The first row that has an answer names the columns."""
    waiting: list[Row] = []
    buffer, writer = io.StringIO(), None
    for row in rows:
        if writer is None:
            waiting.append(row)
            if ERROR in row:
                continue
        writer = writer or csv.DictWriter(buffer, [*waiting[-1], ERROR], restval="", lineterminator="\n")
        if waiting:
            writer.writeheader()
        for each in waiting or [row]:
            writer.writerow({key: _cell(value) for key, value in each.items()})
        waiting.clear()
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if waiting:
        writer = csv.DictWriter(buffer, ["path", ERROR], lineterminator="\n")
        writer.writeheader()
        writer.writerows(waiting)
        yield buffer.getvalue()


def _cell(value: Any) -> Any:
    return to_json(value) if isinstance(value, list | dict) else value


def to_json(value: Any) -> str:
    """JSON as others read it, which has no NaN.

    Raises:
        EquicliError: an answer is not finite.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        raise EquicliError("the model's answers are not finite; check its weights and --precision.") from None


def _digest(paths: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_name(path))
    return digest.hexdigest()


def _name(path: str) -> bytes:
    return os.fsencode(path) + b"\0"
