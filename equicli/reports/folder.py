"""The folder that an evaluation is written into: held until the end, and renewed where it is a run's own."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from equicli.errors import UsageError
from equicli.files import alone_in, write_atomically
from equicli.model_config import ModelConfig
from equicli.reports import curve, markdown
from equicli.runs import FIGURES, RUNS, Run
from equicli.tasks.task import Figure

# What is done with a document before it is written, such as printing it.
Show = Callable[[dict[str, Any]], object]


@contextmanager
def report_folder(file: Path, run: Run | None, output: str | None, overwrite: bool) -> Iterator[Path]:
    """Where an evaluation is written, held until the end. A run's own reports are renewed; its log keeps every earlier
    evaluation."""
    in_run = output is None and run is not None
    folder = file.parent if in_run else Path(output) if output else RUNS / f"{file.stem}-evaluation"
    check_folder(folder)
    with ExitStack() as held:
        with suppress(OSError):  # told when it is written to, so that the table is not lost
            held.enter_context(alone_in(folder))
        if not in_run and (folder / "metrics.json").exists() and not overwrite:
            raise UsageError(f"--output {folder}: holds metrics.json already; name another folder or add --overwrite.")
        yield folder


def check_folder(folder: Path) -> None:
    """Refuse what is no folder.

    Raises:
        UsageError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: is a file; name a folder.")


@contextmanager
def shown(document: dict[str, Any], show: Show) -> Iterator[None]:
    """Show a document, then do what writes it: neither is lost where the other fails."""
    try:
        show(document)
    finally:
        yield


def write_reports(
    run: Run | None,
    folder: Path,
    metrics: dict[str, Any],
    config: ModelConfig,
    *,
    card: bool,
    figure: Figure | None = None,
) -> None:
    """Write metrics, report and figures; of a run a line into its log, too, and with `card` its model card.

    Args:
        figure: the task's own, of this evaluation.
    """
    again = (folder / "metrics.json").exists()
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_atomically(folder / "report.md", markdown.report(metrics))
    figures = {figure.file: figure.png} if figure else {}
    if curve.is_drawn(metrics):
        figures[curve.FIGURE] = curve.figure(metrics)
    for name, png in figures.items():
        write_atomically(folder / name, png)
    for name in FIGURES if again else ():
        if name not in figures:  # of an earlier evaluation
            (folder / name).unlink(missing_ok=True)
    if run is not None:
        run.append_log({"metrics": metrics})
        if card:
            write_atomically(folder / "README.md", markdown.model_card(metrics, asdict(config)))
