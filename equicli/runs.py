"""Run folders: where a run's files lie, which run is the latest, and what may be overwritten."""

import itertools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from equicli.errors import UsageError
from equicli.files import write_atomically

RUNS = Path("runs")
LATEST = "latest"

# What a run writes into its folder, and all that starting anew there removes. The model goes first: without it a run
# counts as unfinished.
FILES = (
    "model.safetensors training_state.safetensors features.safetensors config.json resolved.yaml split.json log.jsonl "
    "metrics.json report.md README.md"
).split()


class Run:
    """A run folder. `model.safetensors` is written last: a run without it is unfinished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "model.safetensors"
        self.settings = folder / "resolved.yaml"
        self.split = folder / "split.json"
        self.log = folder / "log.jsonl"
        self.state = folder / "training_state.safetensors"
        self.features = folder / "features.safetensors"

    @property
    def finished(self) -> bool:
        return self.model.is_file()

    def read_settings(self) -> dict[str, Any]:
        """The configuration that the run was made with."""
        try:
            content = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no valid YAML"
            raise UsageError(f"{self.settings}: cannot be read ({reason}). Is {self.folder} a run folder?") from None
        if not isinstance(content, dict):
            raise UsageError(f"{self.settings}: not a mapping of settings. Is {self.folder} a run folder?")
        return content

    def read_split(self) -> dict[str, list[str]]:
        """The files of `train`, `validation` and `test`, relative to the dataset folder."""
        return dict(json.loads(self.split.read_text(encoding="utf-8")))

    def remove(self) -> None:
        """Remove what runs write here."""
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)

    def append_log(self, entry: Mapping[str, Any]) -> None:
        """Add one JSON line to `log.jsonl`."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def read_log(self) -> list[dict[str, Any]]:
        """The entries of `log.jsonl`; of an epoch that was begun twice only the last."""
        entries = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        epochs = {entry["epoch"]: entry for entry in entries if "epoch" in entry}
        return [entry for entry in entries if "epoch" not in entry or entry is epochs[entry["epoch"]]]

    def write(self, name: str, content: str | Mapping[str, Any]) -> None:
        """Write a text file, or a mapping as JSON, into the run folder."""
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        write_atomically(self.folder / name, text)

    def point_latest(self) -> None:
        """Let `runs/latest` point to this run."""
        RUNS.mkdir(exist_ok=True)
        link, target = RUNS / LATEST, self.folder.resolve()
        try:
            target = target.relative_to(RUNS.resolve())
        except ValueError:
            pass  # a run elsewhere is pointed to by its absolute path
        temporary = RUNS / f".{LATEST}.{time.time_ns()}"
        temporary.symlink_to(target)
        temporary.replace(link)


def short_name(model: str) -> str:
    """What stands for a model in the name of a folder."""
    return model.rstrip("/").rpartition(":")[2].rpartition("/")[2].partition("@")[0]


def new_run(output: str | None, model: str, group: str, *, overwrite: bool) -> Run:
    """Choose the folder of a new run: `output`, or `runs/<model>-<group>-<time>`. Nothing is written yet.

    Raises:
        UsageError: the folder exists and may not be overwritten, or is no run folder.
    """
    if output is None:
        stem = f"{short_name(model)}-{group}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (stem if n == 1 else f"{stem}-{n}" for n in itertools.count(1))
        run = next(Run(RUNS / name) for name in names if not (RUNS / name).exists())
    else:
        run = Run(Path(output).resolve() if Path(output).is_symlink() else Path(output))
    if not run.folder.exists() or (run.folder.is_dir() and not any(run.folder.iterdir())):
        return run
    if not run.settings.is_file():
        raise UsageError(f"--output {run.folder}: exists and is not a run folder; name another.")
    if not overwrite:
        remedy = "" if run.finished else f" To go on with this unfinished run: --resume {run.folder}."
        raise UsageError(f"--output {run.folder}: exists; name another folder or add --overwrite.{remedy}")
    return run


def start_run(run: Run, settings: Mapping[str, Any], split: Mapping[str, Any], config: str) -> None:
    """Remove an earlier run's files, which `new_run` allowed, and record what this run is made from."""
    run.remove()
    run.folder.mkdir(parents=True, exist_ok=True)
    run.write(run.split.name, split)
    run.write("config.json", config)
    # Last: what has settings can be gone on with.
    write_atomically(run.settings, yaml.safe_dump(dict(settings), sort_keys=False))


def find_run(path: str | None) -> Run:
    """Return the run of a folder or of the artifact in it; the latest one without a path.

    Raises:
        UsageError: there is none, or it is unfinished.
    """
    if path is None:
        run = Run(RUNS / LATEST)
        if not run.folder.exists():
            raise UsageError(
                f"no run in {RUNS}/ yet: name a run folder or an exported file, or run `equicli adapt` first."
            )
        run = Run(run.folder.resolve())
    else:
        run = Run(Path(path))
        if not run.folder.is_dir():
            raise UsageError(f"{path}: no such run folder. RUN is a run folder or an exported .safetensors file.")
    if not run.finished:
        hint = f" Go on with it: equicli adapt --resume {run.folder}" if run.settings.is_file() else ""
        raise UsageError(f"{run.folder}: no finished run here, model.safetensors is missing.{hint}")
    return run


def find_unfinished(path: str) -> Run:
    """Return a run that `adapt` did not finish.

    Raises:
        UsageError: there is none, or it is finished.
    """
    run = Run(Path(path))
    if not run.settings.is_file():
        raise UsageError(f"--resume {path}: no run folder.")
    if run.finished:
        raise UsageError(f"--resume {path}: this run is finished.")
    return run
