"""What every test shares: no network, a home of its own, real data where it is given, and the command line.

How to keep the suite fast: it runs on every core (pytest-xdist), one thread a test. What takes a second to make is
made once for all workers (`shared`). Commands run in this process (`cli`). What needs a process is forked from one that
has imported torch (`run_cli`, `run_code`); a new interpreter takes seconds of imports, so it is for what a fork cannot
show: an environment, signals, closed streams, what is imported. Images are tiny and few, and so are networks.
"""

import atexit
import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from unittest import mock

import hypothesis
import pytest
from filelock import FileLock

from tests.hub_server import HubServer
from tests.processes import run_forked

# Tests write tens of thousands of small files, which memory takes at a tenth of the cost of a disk.
_MEMORY = "/dev/shm"
if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 4 * 2**30:
    os.environ["TMPDIR"] = tempfile.tempdir = _MEMORY

# Before torch and huggingface_hub are imported, which read these once; processes that tests start inherit them.
_HOME = tempfile.mkdtemp(prefix="equicli-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_ENDPOINT",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "EQUICLI_DEBUG",
):
    os.environ.pop(_name, None)
os.environ.update(
    OMP_WAIT_POLICY="PASSIVE",
    HF_HOME=f"{_HOME}/huggingface",
    HF_HUB_CACHE=f"{_HOME}/huggingface/hub",
    HF_HUB_OFFLINE="1",
    TORCH_HOME=f"{_HOME}/torch",
    HTTPS_PROXY="http://127.0.0.1:9",  # nobody answers there, so nothing gets out
    https_proxy="http://127.0.0.1:9",
    NO_PROXY="127.0.0.1,localhost",
    no_proxy="127.0.0.1,localhost",
)
if "PYTEST_XDIST_WORKER" in os.environ:  # others have the other cores
    os.environ["OMP_NUM_THREADS"] = "1"

hypothesis.settings.register_profile("equicli", deadline=None)  # machines that run tests are busy
hypothesis.settings.load_profile("equicli")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests also wait, for processes and for what others make."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needy = [item for item in items if item.get_closest_marker("cuda")]
    if needy:
        import torch

        if not torch.cuda.is_available():
            for item in needy:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets and checkpoints."""
    folder = os.environ.get("EQUICLI_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: EQUICLI_TEST_DATA is not set")
    return Path(folder)


Shared = Callable[[str, Callable[[Path], None]], Path]
Process = subprocess.CompletedProcess[str]
Cli = Callable[..., Process]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """`shared(name, make)`: the folder that `make(folder)` fills, once for all workers. Leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made_once(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker in which it failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made_once


@pytest.fixture(scope="session", autouse=True)
def operations() -> Iterator[Callable[..., int]]:
    """Costs are measured as seldom as can be, not for a second in each evaluation; operations are not counted, which
    takes longer still, but by the function that this gives."""
    from equicli.evaluation import cost

    counted = cost._operations
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "SECONDS", 0)
        patch.setattr(cost, "REPEATS", 1)
        patch.setattr(cost, "SERIES", 1)
        patch.setattr(cost, "_operations", lambda *_: 1_000_000)
        yield counted


@pytest.fixture(scope="session")
def digits(shared: Shared) -> Path:
    """An image folder of handwritten digits: train/<digit>/… and test/<digit>/…, 32x32 pixels. Leave it as it is."""
    from equicli.quickstart import write_digits

    return shared("digits", lambda folder: write_digits(folder / "data")) / "data"


@pytest.fixture(scope="session")
def escnn() -> ModuleType:
    """escnn, whose source warns when it is compiled; without it the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("escnn.nn")
        return pytest.importorskip("escnn")


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`cli("adapt", …, cwd=…)`: what `equicli` would print and return. Warnings are errors here, too."""

    def run(*args: object, cwd: Path) -> Process:
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


@pytest.fixture(scope="session")
def run_code(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Run Python code in a new process: `run_code("import equicli; …", …, cwd=…)`."""

    def run(code: str, *args: object, cwd: Path | None = None, timeout: float = 300) -> Process:
        return run_forked(code, [str(arg) for arg in args], cwd or tmp_path_factory.mktemp("empty"), timeout)

    return run


@pytest.fixture(scope="session")
def run_cli(run_code: Cli) -> Cli:
    """Run `equicli` in a new process: `run_cli("adapt", …, cwd=…)`."""

    def run(*args: object, **options: object) -> Process:
        return run_code("import sys; sys.argv[0] = 'equicli'; from equicli.cli import main; main()", *args, **options)

    return run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., HubServer]]:
    """Serve repositories to this process: `hub({"acme/tiny": {"main": {"config.json": b"…"}}}, gated=…)`."""
    from huggingface_hub import close_session, constants

    from equicli.prediction import reachable

    monkeypatch.setattr(reachable, "_known", {})  # ports come back, with another server behind them
    with ExitStack() as stack:

        def serve(*args: object, **flags: object) -> HubServer:
            server = stack.enter_context(HubServer(*args, **flags))
            monkeypatch.setattr(constants, "ENDPOINT", server.url)
            template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
            return server

        yield serve
        close_session()


@pytest.fixture
def workplace(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with what `tests.training.small_runs` adapts on."""
    from tests.training.small_runs import make_workplace

    monkeypatch.chdir(tmp_path)
    return shutil.copytree(shared("workplace", make_workplace), tmp_path, dirs_exist_ok=True)
