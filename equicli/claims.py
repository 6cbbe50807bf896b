"""Which run a command means: one that is there, or the folder of a new one, held so that no other process gets it."""

import itertools
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from equicli.errors import UsageError
from equicli.files import alone_in, check_output, check_writable, from_here
from equicli.runs import LATEST, RUNS, Run

# What files of each format are called.
FORMATS = {"safetensors": ".safetensors", "onnx": ".onnx", "torch-export": ".pt2"}
# What runs programs, by their suffix.
_RUNS = {".onnx": "onnxruntime.InferenceSession", ".pt2": "torch.export.load(…).module()"}


def find_run(path: str | None) -> Run:
    """Return the run of a folder or of the artifact in it; the latest one without a path.

    Raises:
        UsageError: there is none, or its model is not there yet.
    """
    if path is None:
        run = Run(RUNS / LATEST)
        if not run.folder.exists():
            gone = f"{run.folder} points to {run.folder.readlink()}, which is gone" if run.folder.is_symlink() else None
            raise UsageError(
                f"{gone or f'no run in {RUNS}/ yet'}: name a run folder or an exported file, or run `equicli adapt` "
                "first."
            )
        run = Run(from_here(run.folder.resolve()))
        which = f"{run.folder}, the latest run"
    else:
        run = Run(Path(path))
        if not run.folder.is_dir():
            what = "file" if run.folder.suffix == FORMATS["safetensors"] else "run folder"
            raise UsageError(f"{path}: no such {what}. RUN is a run folder or an exported .safetensors file.")
        which = path
    if not run.trained:
        hint = f" Go on with it: equicli adapt --resume {run.folder}" if run.begun else ""
        other = ", or name another run." if hint and path is None else ""
        raise UsageError(f"{which}: unfinished, model.safetensors is missing.{hint}{other}")
    return run


def find_artifact(path: str | None) -> tuple[Path, Run | None]:
    """The artifact that RUN names, and the run folder it lies in, if any.

    Raises:
        UsageError: see `find_run`; or it is a program, which others run.
    """
    if path is not None and Path(path).suffix in _RUNS:
        raise UsageError(
            f"{path}: is a program, which {_RUNS[Path(path).suffix]} runs. Here name the run folder or the "
            ".safetensors file that it was exported from."
        )
    if path is not None and Path(path).is_file():
        run = Run(Path(path).parent)
        return Path(path), run if run.begun and run.model.name == Path(path).name else None
    run = find_run(path)
    return run.model, run


def plan_export(
    path: str | None, output: str | None, form: str | None, *, adapter_only: bool, overwrite: bool
) -> tuple[Path, Path, str]:
    """Find the artifact that RUN names, and choose the file that it is exported to: `output`, or one named after it.

    Args:
        form: one of FORMATS; None is what the file's name says, else safetensors.

    Returns:
        The artifact, the file, and its format.

    Raises:
        UsageError: see `find_run`; the file exists and may not be overwritten, or it cannot be named so.
    """
    file, run = find_artifact(path)
    name = run.folder.resolve().name if run else file.stem
    by_suffix = {suffix: known for known, suffix in FORMATS.items()}
    if output is not None and form is None and Path(output).suffix not in by_suffix:
        raise UsageError(f"--output {output}: let the name end in {', '.join(by_suffix)}, or name a --format.")
    form = form or by_suffix[Path(output).suffix if output else ".safetensors"]
    target = Path(output) if output else Path(f"{name}{'-adapter' if adapter_only else ''}{FORMATS[form]}")
    if target.suffix != FORMATS[form]:
        raise UsageError(f"--output {target}: of --format {form} the name ends in {FORMATS[form]}.")
    if adapter_only and form != "safetensors":
        raise UsageError(f"--adapter-only: a program of --format {form} holds both networks; leave one of them out.")
    check_output(target, overwrite=overwrite)
    return file, target, form


def find_unfinished(path: str) -> Run:
    """Return a run that `adapt` did not finish.

    Raises:
        UsageError: there is none, or it is finished.
    """
    run = Run(Path(path), latest=True)
    if not run.begun:
        raise UsageError(f"--resume {path}: no run folder.")
    if run.finished:
        raise UsageError(
            f"--resume {path}: this run is finished. To adapt anew with its settings: --recipe {run.settings}"
        )
    check_writable(run.folder)
    return run


def short_name(model: str) -> str:
    """What stands for a model in the name of a folder."""
    path = model.rpartition(":")[2].rstrip("/\\")
    if path.endswith("."):  # the folder itself, or one above
        path = str(Path(path).resolve())
    return re.split(r"[/\\]", path)[-1].partition("@")[0][:100] or "model"


def new_run(output: str | None, model: str, group: str, *, overwrite: bool) -> Run:
    """Choose the folder of a new run: `output`, or `runs/<model>-<group>-<time>`. Nothing is written yet.

    Raises:
        UsageError: the folder exists and may not be overwritten, or is no run folder.
    """
    if output is None:
        stem = f"{short_name(model)}-{group}-{time.strftime('%Y%m%d-%H%M%S')}"
        names = (stem if n == 1 else f"{stem}-{n}" for n in itertools.count(1))
        return next(Run(RUNS / name, latest=True) for name in names if not (RUNS / name).exists())
    run = Run(Path(output).resolve() if Path(output).is_symlink() else Path(output), latest=True)
    if run.folder.is_dir() and not any(run.folder.iterdir()):
        check_writable(run.folder)
    elif run.folder.exists():
        if not run.begun:
            raise UsageError(f"--output {run.folder}: exists and is not a run folder; name another.")
        if not overwrite:
            remedy = "" if run.finished else f" To go on with this unfinished run: --resume {run.folder}."
            raise UsageError(f"--output {run.folder}: exists; name another folder or add --overwrite.{remedy}")
        check_writable(run.folder)
    return run


@contextmanager
def claim_new(output: str | None, model: str, group: str, *, overwrite: bool) -> Iterator[Run]:
    """Choose the folder of a new run as `new_run` does, make it, and hold it until the end.

    Raises:
        UsageError: see `new_run`; or another process holds the folder.
        OSError: the folder cannot be made.
    """
    with ExitStack() as held:
        while True:
            run = new_run(output, model, group, overwrite=overwrite)
            try:
                held.enter_context(alone_in(run.folder, new=output is None))
                break
            except FileExistsError:
                if not run.folder.exists():
                    raise
                # Another process took the name in the same moment.
        if output is not None:  # what was true before the folder was held may be so no longer
            new_run(output, model, group, overwrite=overwrite)
        yield run


@contextmanager
def claim_unfinished(path: str) -> Iterator[Run]:
    """Find an unfinished run as `find_unfinished` does, and hold its folder until the end.

    Raises:
        UsageError: see `find_unfinished`; or another process holds the folder.
    """
    with alone_in(find_unfinished(path).folder):
        yield find_unfinished(path)
