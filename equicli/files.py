"""Writing files whole or not at all, by one process at a time; errors of the system name the file."""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from equicli.errors import UsageError

try:
    import fcntl
except ImportError:  # Windows: folders are claimed by their names alone
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that it appears whole or not at all, also when the machine stops in the middle.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    with replacing(path) as temporary:
        # A folder's name, which stands in reports, may be no valid UTF-8.
        temporary.write_bytes(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def write_whole(path: Path, chunks: Iterable[bytes], *, new: bool = False) -> None:
    """Write a file chunk by chunk, so that it appears whole or not at all.

    Args:
        new: see `write_tensors`.

    Raises:
        OSError: as in `write_atomically`. FileExistsError: `new`, and it exists.
    """
    with replacing(path, new=new) as temporary, temporary.open("wb") as file:
        file.writelines(chunks)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file; the torn one that a killed process left at its end is removed first.

    Raises:
        OSError: as in `write_atomically`.
    """
    with naming(path):
        if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
        with path.open("ab") as file:
            file.write(f"{line}\n".encode(errors="backslashreplace"))


def write_tensors(
    path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None, *, new: bool = False
) -> None:
    """Write tensors as one safetensors file, whole or not at all, without a second copy of them in memory.

    Only tensors that share memory, or whose memory is not row by row, are copied.

    Args:
        new: take no other file's place, not even that of one that came meanwhile.

    Raises:
        OSError: as in `write_atomically`. FileExistsError: `new`, and it exists.
    """
    from safetensors.torch import save_file

    state: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        storage = value.untyped_storage()
        alone = storage.nbytes() == value.nbytes and storage.data_ptr() not in seen
        state[name] = value if alone else value.clone()
        seen.add(storage.data_ptr())
    with replacing(path, new=new) as temporary:
        mode = temporary.stat().st_mode
        save_file(state, temporary, metadata=dict(metadata or {}))
        temporary.chmod(mode)  # safetensors leaves it to the owner alone


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read all tensors of a safetensors file.

    Raises:
        OSError, SafetensorError: it cannot be read.
    """
    from safetensors.torch import load_file

    with _utf8_name(path) as name:
        return load_file(name)


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Open a safetensors file, to read what is wanted of it.

    Raises:
        OSError, SafetensorError: it cannot be read.
    """
    from safetensors import safe_open

    with _utf8_name(path) as name, safe_open(name, "pt") as file:
        yield file


@contextmanager
def _utf8_name(path: Path) -> Iterator[Path]:
    """A name of a file that is UTF-8, as safetensors wants: where its own is none, its number."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield Path(f"/dev/fd/{file.fileno()}")
    else:
        yield path


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Let errors of the system name what was being written: where a disk is full, they name nothing."""
    from safetensors import SafetensorError

    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    except SafetensorError as error:  # says "… (os error 28)"
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


@contextmanager
def alone_in(folder: Path, *, new: bool = False) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, until the end: one process at a time works in it.

    The lock is the system's and goes with the process, also with one that is killed. What was made and stayed empty is
    removed again.

    Args:
        new: the folder must not exist, so that of several processes one gets it.

    Raises:
        UsageError: another process holds it.
        FileExistsError: it exists, and is to be new or is no folder.
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=not new)
    with _locked(folder):
        try:
            yield
        finally:  # only by who holds it: it may be another's by now
            with suppress(OSError):  # not empty: it is in use
                for path in missing:
                    path.rmdir()


@contextmanager
def lock_file(file: BinaryIO, path: Path) -> Iterator[None]:
    """Hold an open file until the end, as `alone_in` holds a folder.

    Raises:
        UsageError: another process holds it.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"{path}: another equicli is writing it; wait for it, or name another file.") from None
        except OSError:  # some network file systems have no locks
            pass
    yield


def from_here(path: Path) -> Path:
    """The same path as people write it: relative to the working directory, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def check_writable(folder: Path) -> None:
    """Refuse a folder that exists and cannot be written to, before there is anything to write.

    Raises:
        PermissionError: it cannot.
    """
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse a file to be written, before there is anything to write.

    Raises:
        UsageError: it exists and may not be overwritten, or is a folder. PermissionError: see `check_writable`.
    """
    if path.is_dir():
        raise UsageError(f"--output {path}: is a folder; name a file.")
    if path.exists() and not overwrite:
        raise _taken(path)
    check_writable(path.parent)


@contextmanager
def writing_output(path: Path) -> Iterator[None]:
    """Refuse it also where another process was faster, and `new` says so."""
    try:
        yield
    except FileExistsError:
        raise _taken(path) from None


def _taken(path: Path) -> UsageError:
    return UsageError(f"--output {path}: exists; name another file or add --overwrite.")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another equicli is at work in it; wait for it, or name another folder."
            ) from None
        except OSError:  # some network file systems lock no folders: then names alone protect
            pass
        if not os.fstat(handle).st_nlink:
            raise UsageError(f"{folder}: another equicli has just removed it; try again.")
        yield
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Give an empty file to write into, which takes the place of `path` at the end; `new`, only where there is none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            if new:
                with suppress(PermissionError, NotImplementedError):  # a file system without links
                    path.hardlink_to(temporary)
                    return
            temporary.replace(path)
    finally:
        with suppress(OSError):  # never made, where its folder is none
            temporary.unlink(missing_ok=True)
