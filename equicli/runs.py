"""Run folders: where a run's files lie, which run is the latest, and what may be overwritten."""

import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from equicli.errors import EquicliError, UsageError, shown
from equicli.files import alone_in, append_line, check_writable, naming, write_atomically
from equicli.progress import Progress
from equicli.settings import EvaluationSettings

RUNS = Path("runs")
LATEST = "latest"

# What a run writes into its folder, and all that starting anew there removes. The model goes first: without it a run
# counts as unfinished.
FILES = (
    "model.safetensors training_state.safetensors features.safetensors config.json resolved.yaml split.json log.jsonl "
    "metrics.json report.md README.md"
).split()


class _Recorded(BaseModel):
    """What is read of a run's settings without resolving them all."""

    data: str
    seed: int = 0
    max_pixels: int | None = None
    evaluation: EvaluationSettings = EvaluationSettings()


class Run:
    """A run folder. The artifact is written after training, then the reports, of which `README.md` is the last.

    latest: whether `runs/latest` is to point to it from when it begins.
    """

    def __init__(self, folder: Path, *, latest: bool = False) -> None:
        self.folder = folder
        self.latest = latest
        self.model = folder / "model.safetensors"
        self.settings = folder / "resolved.yaml"
        self.split = folder / "split.json"
        self.config = folder / "config.json"
        self.log = folder / "log.jsonl"
        self.state = folder / "training_state.safetensors"
        self.features = folder / "features.safetensors"
        self.card = folder / "README.md"

    @property
    def begun(self) -> bool:
        """Whether it says what it is made from, so that it can be gone on with."""
        return self.settings.is_file()

    @property
    def trained(self) -> bool:
        """Whether the model is there, whole."""
        return self.model.is_file()

    @property
    def finished(self) -> bool:
        """Whether the reports are there, too."""
        return self.trained and self.card.is_file()

    def read_settings(self) -> dict[str, Any]:
        """The configuration that the run was made with.

        Raises:
            UsageError: there is none. EquicliError: it is damaged.
        """
        try:
            content = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
            _Recorded.model_validate(content)
        except OSError as error:
            raise UsageError(
                f"{self.settings}: cannot be read ({error.strerror}). Is {self.folder} a run folder?"
            ) from None
        except ValidationError as error:
            raise self._damaged(self.settings, _first(error)) from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise self._damaged(self.settings, "no valid YAML") from None
        return dict(content)

    def recorded(self) -> "_Recorded":
        """Data folder, seed and evaluation of the configuration that the run was made with."""
        return _Recorded.model_validate(self.read_settings())

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Record the configuration that the run is made with."""
        self.write(self.settings.name, yaml.safe_dump(dict(settings), sort_keys=False))

    def read_split(self) -> dict[str, list[str]]:
        """The files of `train`, `validation` and `test`, relative to the dataset folder.

        Raises:
            EquicliError: the file is missing or damaged.
        """
        parts = self._read_mapping(self.split)
        for part in ("train", "validation", "test"):
            names = parts.get(part)
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise self._damaged(self.split, f"no list of files under {part}")
        return parts

    def read_config(self) -> dict[str, Any]:
        """What the model is made of, as it was recorded when the run began.

        Raises:
            EquicliError: the file is missing or damaged.
        """
        return self._read_mapping(self.config)

    def remove(self) -> None:
        """Remove what runs write here."""
        for name in FILES:
            (self.folder / name).unlink(missing_ok=True)

    def append_log(self, entry: Mapping[str, Any]) -> None:
        """Add one JSON line to `log.jsonl`."""
        append_line(self.log, json.dumps(entry))

    def read_log(self) -> list[dict[str, Any]]:
        """The entries of `log.jsonl`; of an epoch that was begun twice only the last.

        Raises:
            EquicliError: the file is missing or damaged; but for a torn last line, which a killed process leaves.
        """
        entries = []
        try:
            lines = self.log.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise self._damaged(self.log, error.strerror) from None
        for number, line in enumerate(lines, start=1):
            try:
                entries.append(_mapping(line))
            except ValueError:
                if number == len(lines) and not line.endswith(b"\n"):
                    break
                raise EquicliError(f"{self.log}: line {number} is damaged; remove it.") from None
        epochs = {entry["epoch"]: entry for entry in entries if "epoch" in entry}
        return [entry for entry in entries if "epoch" not in entry or entry is epochs[entry["epoch"]]]

    def write(self, name: str, content: str | Mapping[str, Any]) -> None:
        """Write a text file, or a mapping as JSON, into the run folder."""
        text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
        write_atomically(self.folder / name, text)

    def point_latest(self) -> None:
        """Let `runs/latest` point to this run."""
        link, target = RUNS / LATEST, self.folder.resolve()
        with naming(link):
            RUNS.mkdir(exist_ok=True)
            try:
                target = target.relative_to(RUNS.resolve())
            except ValueError:
                pass  # a run elsewhere is pointed to by its absolute path
            temporary = RUNS / f".{LATEST}.{time.time_ns()}"
            temporary.symlink_to(target)
            temporary.replace(link)

    def _read_mapping(self, path: Path) -> dict[str, Any]:
        """Read a JSON file that equicli wrote."""
        try:
            return _mapping(path.read_bytes())
        except OSError as error:
            raise self._damaged(path, error.strerror) from None
        except ValueError:
            raise self._damaged(path, "not what equicli wrote") from None

    def _damaged(self, path: Path, why: object) -> EquicliError:
        remedy = f"adapt anew: equicli adapt --recipe {self.settings} --output NEW"
        if path == self.settings:
            remedy = "adapt anew, into another folder"
        return EquicliError(f"{path}: damaged ({shown(why)}). Put back a copy of the file, or {remedy}.")


def _first(error: ValidationError) -> str:
    """What is wrong first, and where."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else "not what equicli wrote"


def _mapping(text: bytes) -> dict[str, Any]:
    """Read a JSON object. Not by pydantic, which refuses names of files that are no UTF-8.

    Raises:
        ValueError: it is none.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def short_name(model: str) -> str:
    """What stands for a model in the name of a folder."""
    path = model.rpartition(":")[2].rstrip("/\\")
    if path.endswith("."):  # the folder itself, or one above
        path = str(Path(path).resolve())
    return re.split(r"[/\\]", path)[-1].partition("@")[0][:100] or "model"


def new_run(output: str | None, model: str, group: str, *, overwrite: bool) -> Run:
    """Choose the folder of a new run: `output`, or `runs/<model>-<group>-<time>`. Nothing is written yet.

    Raises:
        UsageError: the folder exists and may not be overwritten, or is no run folder.
    """
    if output is None:
        stem = f"{short_name(model)}-{group}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (stem if n == 1 else f"{stem}-{n}" for n in itertools.count(1))
        return next(Run(RUNS / name, latest=True) for name in names if not (RUNS / name).exists())
    run = Run(Path(output).resolve() if Path(output).is_symlink() else Path(output), latest=True)
    if run.folder.is_dir() and not any(run.folder.iterdir()):
        check_writable(run.folder)
    elif run.folder.exists():
        if not run.begun:
            raise UsageError(f"--output {run.folder}: exists and is not a run folder; name another.")
        if not overwrite:
            remedy = "" if run.finished else f" To go on with this unfinished run: --resume {run.folder}."
            raise UsageError(f"--output {run.folder}: exists; name another folder or add --overwrite.{remedy}")
        check_writable(run.folder)
    return run


@contextmanager
def claim_new(output: str | None, model: str, group: str, *, overwrite: bool) -> Iterator[Run]:
    """Choose the folder of a new run as `new_run` does, make it, and hold it until the end.

    Raises:
        UsageError: see `new_run`; or another process holds the folder.
        OSError: the folder cannot be made.
    """
    with ExitStack() as held:
        while True:
            run = new_run(output, model, group, overwrite=overwrite)
            try:
                held.enter_context(alone_in(run.folder, new=output is None))
                break
            except FileExistsError:
                if not run.folder.exists():
                    raise
                # Another process took the name in the same moment.
        if output is not None:  # what was true before the folder was held may be so no longer
            new_run(output, model, group, overwrite=overwrite)
        yield run


@contextmanager
def claim_unfinished(path: str) -> Iterator[Run]:
    """Find an unfinished run as `find_unfinished` does, and hold its folder until the end.

    Raises:
        UsageError: see `find_unfinished`; or another process holds the folder.
    """
    with alone_in(find_unfinished(path).folder):
        yield find_unfinished(path)


def start_run(run: Run, settings: Mapping[str, Any], split: Mapping[str, Any], config: str) -> None:
    """Remove an earlier run's files, which `new_run` allowed, and record what this run is made from."""
    run.remove()
    try:
        run.write(run.split.name, split)
        run.write(run.config.name, config)
        run.write_settings(settings)  # last: what has settings can be gone on with
    except BaseException:
        run.remove()
        raise


def become_latest(run: Run, progress: Progress) -> None:
    """Let `runs/latest` point to a run that is to be the latest."""
    if not run.latest:
        return
    try:
        run.point_latest()
    except OSError as error:
        progress.say(f"{error.filename} could not be set ({error.strerror}); name the run folder instead")


def find_run(path: str | None) -> Run:
    """Return the run of a folder or of the artifact in it; the latest one without a path.

    Raises:
        UsageError: there is none, or its model is not there yet.
    """
    if path is None:
        run = Run(RUNS / LATEST)
        if not run.folder.exists():
            gone = f"{run.folder} points to {run.folder.readlink()}, which is gone" if run.folder.is_symlink() else None
            raise UsageError(
                f"{gone or f'no run in {RUNS}/ yet'}: name a run folder or an exported file, or run `equicli adapt` "
                "first."
            )
        run = Run(_from_here(run.folder.resolve()))
        which = f"{run.folder}, the latest run"
    else:
        run = Run(Path(path))
        if not run.folder.is_dir():
            raise UsageError(f"{path}: no such run folder. RUN is a run folder or an exported .safetensors file.")
        which = path
    if not run.trained:
        hint = f" Go on with it: equicli adapt --resume {run.folder}" if run.begun else ""
        other = ", or name another run." if hint and path is None else ""
        raise UsageError(f"{which}: unfinished, model.safetensors is missing.{hint}{other}")
    return run


def find_artifact(path: str | None) -> tuple[Path, Run | None]:
    """The artifact that RUN names, and the run folder it lies in, if any.

    Raises:
        UsageError: see `find_run`.
    """
    if path is not None and Path(path).is_file():
        run = Run(Path(path).parent)
        return Path(path), run if run.begun and run.model.name == Path(path).name else None
    run = find_run(path)
    return run.model, run


def plan_export(path: str | None, output: str | None, *, adapter_only: bool, overwrite: bool) -> tuple[Path, Path]:
    """Find the artifact that RUN names, and choose the file that it is exported to: `output`, or one named after it.

    Raises:
        UsageError: see `find_run`; the file exists and may not be overwritten, or it cannot be named so.
    """
    file, run = find_artifact(path)
    name = run.folder.resolve().name if run else file.stem
    target = Path(output) if output else Path(f"{name}{'-adapter' if adapter_only else ''}.safetensors")
    if target.suffix != ".safetensors":
        raise UsageError(f"--output {target}: export writes safetensors; let the name end in .safetensors.")
    if target.is_dir():
        raise UsageError(f"--output {target}: is a folder; name a file.")
    if target.exists() and not overwrite:
        raise UsageError(f"--output {target}: exists; name another file or add --overwrite.")
    check_writable(target.parent)
    return file, target


def find_unfinished(path: str) -> Run:
    """Return a run that `adapt` did not finish.

    Raises:
        UsageError: there is none, or it is finished.
    """
    run = Run(Path(path), latest=True)
    if not run.begun:
        raise UsageError(f"--resume {path}: no run folder.")
    if run.finished:
        raise UsageError(
            f"--resume {path}: this run is finished. To adapt anew with its settings: --recipe {run.settings}"
        )
    check_writable(run.folder)
    return run


def _from_here(folder: Path) -> Path:
    """The same folder as people write it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
