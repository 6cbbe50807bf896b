"""One small run for all tests of what is done with files."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Cli, Shared
from tests.training.small_runs import make_workplace

SMALL = (
    *("--model", "test_resnet", "--checkpoint", "weights.safetensors", "--model-arg", "num_classes=2"),
    *("--preprocess", "none", "--passes", "1", "--device", "cpu", "--epochs", "2"),
    *("--canonicalizer-network", "conv", "--canonicalizer-size", "16", "--set", "canonicalizer.width=4"),
)


@pytest.fixture(scope="session")
def served(shared: Shared, cli: Cli) -> Path:
    """A folder with `run` and the `photos` that it was adapted on; leave it as it is."""

    def make(here: Path) -> None:
        make_workplace(here)
        done = cli("adapt", "photos", *SMALL, "--output", "run", cwd=here)
        assert done.returncode == 0, done.stderr

    return shared("served", make)


@pytest.fixture
def here(served: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(served, tmp_path / "here")
