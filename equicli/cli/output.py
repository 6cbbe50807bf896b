"""What a command prints: data on stdout, words and progress on stderr."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from equicli.cli.streams import discard
from equicli.files import naming

T = TypeVar("T")
PLAIN_SECONDS = 5.0


class _Stderr(Console):
    """Words: where nobody reads them any more, the work goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        discard(sys.stderr)


class Output:
    """Prints for people, or with `json` one document on stdout; with `quiet` nothing on stderr but errors."""

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self._json = json
        self._quiet = quiet
        # A file or pipe has no width that a table would have to fit.
        self._stdout = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 120)
        self._stderr = _Stderr(stderr=True, soft_wrap=True, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """A line for the user's eyes."""
        if not self._quiet:
            self._stderr.print(text, markup=False)

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield the items and show progress: a bar on a terminal, a plain line every few seconds elsewhere."""
        if self._quiet:
            yield from items
        elif self._stderr.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            with Progress(*columns, console=self._stderr, transient=True) as bar:
                yield from bar.track(items, description=label, total=total)
        else:
            yield from self._track_plainly(items, label, total)

    def result(self, text: str, document: Mapping[str, Any]) -> None:
        """The command's result: the text for people, the document with `--json`."""
        with naming("standard output"):
            print(json.dumps(document, indent=2) if self._json else text, flush=True)

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

        grid = _grid(document, angles=True)
        if self._stdout.measure(grid, options=self._stdout.options.update(width=999)).maximum > self._stdout.width:
            grid = _grid(document, angles=False)  # rather than all columns cut short
        self._stdout.print(grid)
        for name, value in table.facts(document):
            self._stdout.print(f" {name + ':':<21}{value}", markup=False)
        self._mind(document)

    def _print_comparison(self, document: Mapping[str, Any]) -> None:
        from equicli.reports import comparison

        grid = _empty_grid(comparison.caption(document))
        for index, (title, _) in enumerate(comparison.columns(document, self._stdout.width)):
            grid.add_column(title, justify="right" if index else "left", no_wrap=True)
        for row in comparison.rows(document, self._stdout.width):
            grid.add_row(*row)
        self._stdout.print(grid)
        self._mind(document)

    def _mind(self, document: Mapping[str, Any]) -> None:
        for line in document["warnings"]:
            self._stdout.print(f" mind: {line}", markup=False)

    def _track_plainly(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        start = told = time.monotonic()
        for count, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - told >= PLAIN_SECONDS:
                told = now
                self.say(f"{label}: {count}/{total} ({now - start:.0f} s)")


def _empty_grid(caption: str) -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")


def _grid(document: Mapping[str, Any], *, angles: bool) -> Table:
    from equicli.reports import table

    grid = _empty_grid(table.caption(document, angles=angles))
    for index, title in enumerate(table.header(document, angles=angles)):
        grid.add_column(title, justify="right" if index else "left", no_wrap=True)
    for row in table.rows(document, angles=angles, narrow=True):
        grid.add_row(*row, style="bold" if row[0].startswith("adapted") else None)
    return grid
