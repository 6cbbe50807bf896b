"""Writing files whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that it appears whole or not at all, also when the machine stops in the middle.

    Raises:
        OSError: the folder cannot be written to.
    """
    with _replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as one safetensors file, whole or not at all, without a second copy of them in memory.

    Only tensors that share memory, or whose memory is not row by row, are copied.

    Raises:
        OSError: the folder cannot be written to.
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
    with _replacing(path) as temporary:
        mode = temporary.stat().st_mode
        save_file(state, temporary, metadata=dict(metadata or {}))
        temporary.chmod(mode)  # safetensors leaves it to the owner alone


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give an empty file to write into, which takes the place of `path` at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
