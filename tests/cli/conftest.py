"""The command line in this process, which spares a torch import a call, and one quickstart for all tests."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from tests.conftest import Shared

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("adapt", …, cwd=…)`: what `equicli` would print and return. Warnings are errors here, too."""

    def run(*args: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
        from equicli.cli import main

        out, err, here = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(cwd)
        try:
            with (
                mock.patch.object(sys, "argv", ["equicli", *map(str, args)]),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as stop,
            ):
                main()
        finally:
            os.chdir(here)
        return subprocess.CompletedProcess(args, int(stop.value.code or 0), out.getvalue(), err.getvalue())

    return run


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
        for split, count in (("train", 30), ("test", 12)):
            for label in sorted((quickstart.folder / "data" / split).iterdir()):
                (here / "data" / split / label.name).mkdir(parents=True)
                for image in sorted(label.iterdir())[:count]:
                    shutil.copy(image, here / "data" / split / label.name)
        shutil.copy(quickstart.folder / "network.safetensors", here)

    return shared("few", make)
