"""What a command prints: data on stdout, words and progress on stderr."""

import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from equicli.cli.streams import discard
from equicli.files import naming
from equicli.progress import one

T = TypeVar("T")
PLAIN_SECONDS = 5.0
LABEL = 21  # characters of the names below a table


class _Stderr(Console):
    """Words: where nobody reads them any more, the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        discard(sys.stderr)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


class Output:
    """Prints for people, or with `json` one document on stdout; with `quiet` nothing on stderr but errors."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self._json = json
        self._quiet = quiet
        # A file or pipe has no width that a table would have to fit.
        self._stdout = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 120)
        self._stderr = _Stderr(stderr=True, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """Lines for the user's eyes. On a terminal they break at words, but for commands, which people copy."""
        if self._quiet:
            return
        for line in text.split("\n"):
            whole = not self._stderr.is_terminal or "equicli " in line
            self._stderr.print(line, markup=False, soft_wrap=whole)

    def track(self, items: Iterable[T], label: str, total: int, size: Callable[[T], int] = one) -> Iterator[T]:
        """Yield the items and show progress: a bar on a terminal, a plain line every few seconds elsewhere."""
        if self._quiet:
            yield from items
        elif self._stderr.is_terminal:
            # Of one long step only the time that passed moves.
            counts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn())
            times = (TimeElapsedColumn(), TimeRemainingColumn())
            with Progress(*counts, *times, console=self._stderr, transient=True) as bar:
                task = bar.add_task(label, total=total)
                for item in items:
                    yield item
                    bar.advance(task, size(item))
        else:
            yield from self._track_plainly(items, label, total, size)

    def result(self, text: str, document: Mapping[str, Any]) -> None:
        """The command's result: the text for people, the document with `--json`."""
        with naming("standard output"):
            self._print_json(document) if self._json else print(text, flush=True)

    def metrics(self, document: Mapping[str, Any]) -> None:
        """A metrics document: as the table, or as it is with `--json`."""
        with naming("standard output"):
            self._print_json(document) if self._json else self._print_metrics(document)

    def comparison(self, document: Mapping[str, Any]) -> None:
        """A comparison: as the table, or as it is with `--json`."""
        with naming("standard output"):
            self._print_json(document) if self._json else self._print_comparison(document)

    def _print_json(self, document: Mapping[str, Any]) -> None:
        print(json.dumps(document, indent=2), flush=True)

    def _print_metrics(self, document: Mapping[str, Any]) -> None:
        from equicli.reports import table

        angles = self._width(_grid(document, angles=True)) <= self._stdout.width
        # Rather no angle than all columns cut short.
        self._print_grid(_grid(document, angles=angles))
        self._print_wrapped(table.caption(document, angles=angles))
        self._print_wrapped(table.left_out(document, angles=angles))
        for name, value in table.facts(document):
            self._print_wrapped(value, label=f"{name}:")
        self._mind(document)

    def _print_comparison(self, document: Mapping[str, Any]) -> None:
        from equicli.reports import comparison

        grid = _empty_grid()
        for index, (title, _) in enumerate(comparison.columns(document, self._stdout.width)):
            grid.add_column(title, justify="right" if index else "left", no_wrap=True)
        for row in comparison.rows(document, self._stdout.width):
            grid.add_row(*row)
        self._print_grid(grid)
        self._print_wrapped(comparison.caption(document, self._stdout.width))
        self._print_wrapped(comparison.left_out(document, self._stdout.width))
        self._mind(document)

    def _mind(self, document: Mapping[str, Any]) -> None:
        for line in document["warnings"]:
            self._print_wrapped(f"mind: {line}")

    def _width(self, grid: Table) -> int:
        """Characters that a line of the table takes where nothing is cut."""
        return self._stdout.measure(grid, options=self._stdout.options.update(width=999)).maximum

    def _print_grid(self, grid: Table) -> None:
        """Print a table whole, also where the terminal is narrower."""
        width = self._stdout.width
        self._stdout.width = max(width, self._width(grid))
        self._stdout.print(grid, crop=False)
        self._stdout.width = width

    def _print_wrapped(self, text: str, label: str = "") -> None:
        """Print text in lines that fit, broken at words; where it has a label, beside that."""
        first = " " + label.ljust(LABEL if label else 0)
        width, rest = self._stdout.width, " " * len(first)
        joined = text.replace(" %", "\N{NO-BREAK SPACE}%")  # a number stays with its unit
        lines = textwrap.wrap(
            joined,
            width,
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,  # options are copied
        )
        for line in lines:
            self._stdout.print(line.replace("\N{NO-BREAK SPACE}", " "), markup=False, soft_wrap=True)

    def _track_plainly(self, items: Iterable[T], label: str, total: int, size: Callable[[T], int]) -> Iterator[T]:
        start = told = time.monotonic()
        count = 0
        for item in items:
            yield item
            count += size(item)
            now = time.monotonic()
            if now - told >= PLAIN_SECONDS:
                told = now
                rate = count / (now - start)
                left = (total - count) / rate
                self.say(f"{label}: {count}/{total} ({rate:.3g}/s, {now - start:.0f} s, {left:.0f} s left)")


def _empty_grid() -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _grid(document: Mapping[str, Any], *, angles: bool) -> Table:
    from equicli.reports import table

    grid = _empty_grid()
    for index, title in enumerate(table.header(document, angles=angles)):
        grid.add_column(title, justify="right" if index else "left", no_wrap=True)
    for row in table.rows(document, angles=angles, narrow=True):
        grid.add_row(*row, style="bold" if row[0].startswith("adapted") else None)
    return grid
