"""New processes that start at once: they are forked from a server that has imported the heavy libraries already."""

import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

_CONTEXT = get_context("forkserver")
# What every command imports; not what tests show to be imported late, such as transformers, escnn or scikit-learn.
_CONTEXT.set_forkserver_preload(["equicli.pipeline", "equicli.prediction.load", "timm", "torchvision"])


def run_forked(code: str, arguments: Sequence[str], cwd: Path, timeout: float) -> "CompletedProcess[str]":
    """Run Python code as `python -c` does, with nothing on stdin.

    The environment is that of this process when it first called this, so that code must not need another. What the
    interpreter does when it ends is left out, too.
    """
    with TemporaryDirectory() as name:
        streams = Path(name, "out"), Path(name, "err")
        process = _CONTEXT.Process(target=_main, args=(code, list(arguments), cwd, streams))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
        assert process.exitcode is not None
        return CompletedProcess(arguments, process.exitcode, *(stream.read_text() for stream in streams))


def _main(code: str, arguments: list[str], cwd: Path, streams: tuple[Path, Path]) -> None:
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["-c", *arguments]
    names: Mapping[str, object] = {"__name__": "__main__"}
    exec(code, dict(names))
