"""One quickstart for all tests, and some of its digits."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Cli, Shared


class Quickstart(NamedTuple):
    folder: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def quickstart(cli: Cli, shared: Shared) -> Quickstart:
    """`equicli quickstart` run in an empty folder; tests must not change what it wrote."""

    def make(here: Path) -> None:
        result = cli("quickstart", cwd=here)
        assert result.returncode == 0, result.stderr
        (here / "stdout").write_text(result.stdout)
        (here / "stderr").write_text(result.stderr)

    here = shared("quickstart", make)
    return Quickstart(here / "quickstart", (here / "stdout").read_text(), (here / "stderr").read_text())


@pytest.fixture(scope="session")
def few(quickstart: Quickstart, shared: Shared) -> Path:
    """A folder with some of the digits in `data`, and `network.safetensors` that knows them; leave it as it is."""

    def make(here: Path) -> None:
        for split, count in (("train", 12), ("test", 5)):
            for label in sorted((quickstart.folder / "data" / split).iterdir()):
                (here / "data" / split / label.name).mkdir(parents=True)
                for image in sorted(label.iterdir())[:count]:
                    shutil.copy(image, here / "data" / split / label.name)
        shutil.copy(quickstart.folder / "network.safetensors", here)

    return shared("few", make)


@pytest.fixture
def fewer(few: Path, tmp_path: Path) -> Path:
    """A copy of `few` with six training images of each class, and two test images."""
    here = shutil.copytree(few, tmp_path / "fewer")
    for folder in (here / "data").glob("*/*"):
        for image in sorted(folder.iterdir())[6 if folder.parent.name == "train" else 2 :]:
            image.unlink()
    return here
