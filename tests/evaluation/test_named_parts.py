"""Folders that a run was told are parts are those of its evaluation, too."""

import json
from pathlib import Path

import pytest
import yaml

from equicli.errors import UsageError
from equicli.evaluation.images import find_samples
from equicli.progress import Silent
from equicli.runs import Run
from equicli.tasks.classification.task import Classification


def folder(root: Path, *parts: str) -> Path:
    for part in parts:
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            (root / part / name / f"{part}.png").touch()
    return root


@pytest.fixture
def run(tmp_path: Path) -> Run:
    data = folder(tmp_path / "data", "a", "b", "c")
    made = Run(tmp_path / "run")
    made.folder.mkdir()
    settings = {"data": str(data), "task": {"kind": "classification", "train_split": "a", "test_split": "b"}}
    made.settings.write_text(yaml.safe_dump(settings))
    split = {"train": ["a/cat/a.png"], "validation": ["a/dog/a.png"], "test": ["b/cat/b.png"]}
    made.split.write_text(json.dumps(split))
    return made


def names(data: str | None, run: Run, **options: str) -> list[str]:
    return [sample.path.stem for sample in find_samples(Classification(), data, run, Silent(), **options).samples]


def test_of_the_runs_own_folder(run: Run) -> None:
    assert names(None, run) == ["b"]
    assert names(None, run, test_split="c") == ["c", "c"]


def test_of_another_folder_that_has_them_or_has_not(run: Run, tmp_path: Path) -> None:
    assert names(str(folder(tmp_path / "copy", "a", "b")), run) == ["b"]  # what the run held out
    assert names(str(folder(tmp_path / "other", "train", "test")), run) == ["test", "test"]
    with pytest.raises(UsageError, match="--test-split held: no such folder"):
        names(str(tmp_path / "other"), run, test_split="held")
