"""One quickstart for all tests, and some of its digits."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from equicli.progress import Silent
from equicli.quickstart import digits
from tests.conftest import Cli, Shared


class Quickstart(NamedTuple):
    folder: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def prepared(shared: Shared) -> Path:
    """The digits and the network that quickstart begins with; leave them as they are."""
    return shared("prepared", lambda folder: digits.prepare(folder, Silent()))


@pytest.fixture(scope="session")
def quickstart(cli: Cli, shared: Shared, prepared: Path) -> Quickstart:
    """`equicli quickstart` run in an empty folder; tests must not change what it wrote."""

    def make(here: Path) -> None:
        # They are made as they were: the network is not trained twice.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(digits, "prepare", lambda folder, _: shutil.copytree(prepared, folder, dirs_exist_ok=True))
            result = cli("quickstart", cwd=here)
        assert result.returncode == 0, result.stderr
        (here / "stdout").write_text(result.stdout)
        (here / "stderr").write_text(result.stderr)

    here = shared("quickstart", make)
    return Quickstart(here / "quickstart", (here / "stdout").read_text(), (here / "stderr").read_text())


@pytest.fixture(scope="session")
def few(prepared: Path, shared: Shared) -> Path:
    """A folder with some of the digits in `data`, and `network.safetensors` that knows them; leave it as it is."""

    def make(here: Path) -> None:
        for split, count in (("train", 12), ("test", 5)):
            for label in sorted((prepared / "data" / split).iterdir()):
                (here / "data" / split / label.name).mkdir(parents=True)
                for image in sorted(label.iterdir())[:count]:
                    shutil.copy(image, here / "data" / split / label.name)
        shutil.copy(prepared / "network.safetensors", here)

    return shared("few", make)


@pytest.fixture
def fewer(few: Path, tmp_path: Path) -> Path:
    """A copy of `few` with six training images of each class, and two test images."""
    return thinned(few, tmp_path / "fewer")


def thinned(few: Path, here: Path) -> Path:
    """Copy `few` with six training images of each class, and two test images."""
    shutil.copytree(few, here, dirs_exist_ok=True)
    for folder in (here / "data").glob("*/*"):
        for image in sorted(folder.iterdir())[6 if folder.parent.name == "train" else 2 :]:
            image.unlink()
    return here
