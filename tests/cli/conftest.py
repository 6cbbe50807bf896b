"""The command line in this process, which spares a torch import a call, and one quickstart for all tests."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

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
def quickstart(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Quickstart:
    """`equicli quickstart` run in an empty folder; tests must not change what it wrote."""
    here = tmp_path_factory.mktemp("quickstart")
    result = cli("quickstart", cwd=here)
    assert result.returncode == 0, result.stderr
    return Quickstart(here / "quickstart", result.stdout, result.stderr)
