"""One quickstart for all tests that look at what it leaves."""

from pathlib import Path
from typing import NamedTuple

import pytest


class Quickstart(NamedTuple):
    folder: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def quickstart(run_cli, tmp_path_factory) -> Quickstart:
    """`equicli quickstart` run in an empty folder; tests must not change what it wrote."""
    here = tmp_path_factory.mktemp("quickstart")
    result = run_cli("quickstart", cwd=here)
    assert result.returncode == 0, result.stderr
    return Quickstart(here / "quickstart", result.stdout, result.stderr)
