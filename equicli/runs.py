"""Run folders: where a run's files lie, what is read of them, and which run is the latest."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError

from equicli.errors import EquicliError, UsageError, shown
from equicli.files import append_line, naming, write_atomically
from equicli.progress import Progress
from equicli.recipes import parse_yaml
from equicli.settings import EvaluationSettings, fault

RUNS = Path("runs")
LATEST = "latest"

# Beside report.md; which of them there are, the last evaluation says.
FIGURES = ("curve.png", "overlays.png", "clouds.png")
# What a run writes into its folder, and all that starting anew there removes. The model goes first: without it a run
# counts as unfinished.
FILES = (
    *"model.safetensors training_state.safetensors features.safetensors start.safetensors config.json".split(),
    *"resolved.yaml split.json log.jsonl metrics.json report.md README.md".split(),
    *FIGURES,
)


class RecordedParts(BaseModel):
    """The folders that a user named as parts of the data."""

    train_split: str | None = None
    val_split: str | None = None
    test_split: str | None = None


class Recorded(BaseModel):
    """What is read of a run's settings without resolving them all."""

    data: str
    seed: int = 0
    max_pixels: int | None = None
    # Recipes may name a task's kind alone.
    task: Annotated[RecordedParts, BeforeValidator(lambda value: {} if isinstance(value, str) else value)] = (
        RecordedParts()
    )
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
        self.start = folder / "start.safetensors"
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
            content = parse_yaml(self.settings.read_text(encoding="utf-8"))
            Recorded.model_validate(content)
        except OSError as error:
            raise UsageError(
                f"{self.settings}: cannot be read ({error.strerror}). Is {self.folder} a run folder?"
            ) from None
        except ValidationError as error:
            raise self._damaged(self.settings, _first(error)) from None
        except ValueError:  # also of bytes that are no UTF-8
            raise self._damaged(self.settings, "no valid YAML") from None
        return dict(content)

    def recorded(self) -> Recorded:
        """What is wanted of these settings again."""
        return Recorded.model_validate(self.read_settings())

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

    def read_metrics(self) -> dict[str, Any] | None:
        """What the last evaluation measured; None where there is none.

        Raises:
            EquicliError: the file is damaged.
        """
        path = self.folder / "metrics.json"
        return self._read_mapping(path) if path.is_file() else None

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
    return f"{where} {fault(first)}" if where else "not what equicli wrote"


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


def start_run(run: Run, settings: Mapping[str, Any], split: Mapping[str, Any], config: str) -> None:
    """Remove an earlier run's files, which `claims.new_run` allowed, and record what this run is made from."""
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
