"""Naming what a file is, by its content: weights that can be read, or something else, with the remedy."""

import json
import re
import zipfile
from pathlib import Path
from typing import Literal

from equicli.errors import EquicliError, shown

Kind = Literal["safetensors", "zip", "pickle"]

# How to get the weights alone out of what holds more.
ALONE = "save the weights alone where it was made, as safetensors or by torch.save(model.state_dict(), 'weights.pth')"
_AGAIN = "Get it again."
_FROM_TORCH = f"Load it in its own framework and {ALONE}."

_PICKLE = re.compile(rb"\x80[\x02-\x05]|\(dp|\(lp|c[\w.]+\r?\n[\w.]+\r?\n")
# What torch.save wrote before it wrote zip archives: this number, pickled, comes first.
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP, _EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
_LONGEST_HEADER = 100_000_000  # of safetensors, as its own reader has it

# First bytes, what such a file is, and the remedy.
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer; the weights themselves were not fetched", "Run `git lfs pull`."),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write them", _FROM_TORCH),
    (b"GGUF", "a GGUF file, whose weights are quantized", "Name the checkpoint that it was made from."),
    (b"\x93NUMPY", "a NumPy array", f"Load it into the network and {ALONE}."),
    (b"\x1f\x8b", "a compressed archive (gzip)", "Unpack it, and name the file in it."),
    (b"BZh", "a compressed archive (bzip2)", "Unpack it, and name the file in it."),
    (b"\xfd7zXZ\x00", "a compressed archive (xz)", "Unpack it, and name the file in it."),
    (b"\x28\xb5\x2f\xfd", "a compressed archive (zstd)", "Unpack it, and name the file in it."),
    (b"7z\xbc\xaf\x27\x1c", "a compressed archive (7z)", "Unpack it, and name the file in it."),
    (b"Rar!", "a compressed archive (rar)", "Unpack it, and name the file in it."),
    (b"\x89PNG", "a picture", "Name a file of weights."),
    (b"\xff\xd8\xff", "a picture", "Name a file of weights."),
    (b"%PDF", "a PDF document", "Name a file of weights."),
)
_SUFFIXES = {
    ".onnx": "an ONNX file, which holds a graph and no named weights of PyTorch's",
    ".tflite": "a TensorFlow Lite file",
    ".pb": "a TensorFlow graph",
    ".h5": "a Keras file",
    ".keras": "a Keras file",
    ".index": "a part of a TensorFlow checkpoint",
    ".meta": "a part of a TensorFlow checkpoint",
    ".msgpack": "a Flax file",
    ".engine": "a TensorRT engine",
    ".mlmodel": "a Core ML file",
}
_TF_PART = re.compile(r"\.data-\d{5}-of-\d{5}$")
_ONNX = re.compile(rb"\x08[\x01-\x20](\x12|:|\x1a)")  # its version, then its producer or its graph
_HTML = re.compile(r"<(!doctype html|html|head|\?xml|body)", re.IGNORECASE)


def find_kind(path: Path, name: str) -> Kind:
    """Return how the weights in a file are written, by its first bytes and not by its suffix.

    Args:
        name: what an error calls the file.

    Raises:
        EquicliError: it is something else, or a part of it is missing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
    if not size:
        raise EquicliError(f"{name}: empty: the download or copy did not begin. {_AGAIN}")
    if head.startswith((_ZIP, _EMPTY_ZIP)):
        _check_zip(path, name)
        return "zip"
    if head.startswith(_LEGACY):
        return "pickle"
    for start, what, remedy in _OTHERS:
        if head.startswith(start):
            raise EquicliError(f"{name}: {what}. {remedy}")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER:
        _check_safetensors(path, size, name)
        return "safetensors"
    raise EquicliError(f"{name}: {_describe(path, head)}")


def _describe(path: Path, head: bytes) -> str:
    """What a file is that is none of those which are told by a few bytes at its start, and the remedy."""
    if head[257:262] == b"ustar":
        return "an archive (tar), or a file of PyTorch before 0.1.10. Unpack it, or save it again with a newer PyTorch."
    if head[4:8] == b"TFL3" or path.suffix.lower() in _SUFFIXES or _TF_PART.search(path.name):
        what = _SUFFIXES.get(path.suffix.lower(), "a file of TensorFlow's")
        return f"{what}. {_FROM_TORCH}"
    if _PICKLE.match(head):
        return f"a plain pickle and no file of torch.save; code from a checkpoint is never run. Instead, {ALONE}."
    if not head.strip(b"\x00"):
        return f"begins with zeros: the download or copy did not finish. {_AGAIN}"
    if _ONNX.match(head):
        return f"{_SUFFIXES['.onnx']}. {_FROM_TORCH}"
    text = _text(head)
    if text is None and path.suffix.lower() == ".safetensors":
        return f"not a valid safetensors file. {_AGAIN}"
    if text is None:
        return "no PyTorch file and no safetensors; nothing says what it is. Name a file of weights."
    if _HTML.match(text):
        return "a web page and not the file: the address leads to a page about it, or wants a login. Download it again."
    if text.startswith(("{", "[")):
        return f"a JSON text ({shown(text[:60])}) and no weights. Name a file of weights."
    return f"a text ({shown(text[:60])}) and no weights. Download it again."


def _text(head: bytes) -> str | None:
    for cut in range(4):  # a character may be cut at the end
        try:
            text = head[: len(head) - cut].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        return text.strip() if all(c.isprintable() or c.isspace() for c in text) else None
    return None


def _check_zip(path: Path, name: str) -> None:
    """Refuse archives that torch.save did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise EquicliError(
            f"{name}: the end of the file is missing: the download or copy did not finish, or writing it was "
            f"interrupted. {_AGAIN}"
        ) from None
    leaves = {member.rpartition("/")[2] for member in members}
    if "constants.pkl" in leaves or any("/code/" in member for member in members):
        raise EquicliError(
            f"{name}: a TorchScript archive; code from a checkpoint is never run. Where you trust it, get its weights: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')."
        )
    if "serialized_exported_program.json" in leaves or "archive_format" in leaves:
        raise EquicliError(
            f"{name}: an exported program (torch.export); code from a checkpoint is never run. Where you trust it, get "
            "its weights: torch.save(torch.export.load(FILE).state_dict, 'weights.pth')."
        )
    if "data.pkl" in leaves:
        return
    if "model.weights.h5" in leaves:
        raise EquicliError(f"{name}: a Keras file. {_FROM_TORCH}")
    if members and all(member.endswith(".npy") for member in members):
        raise EquicliError(f"{name}: NumPy arrays (npz). Load them into the network and {ALONE}.")
    raise EquicliError(f"{name}: an archive (zip). Unpack it, and name the file in it.")


def _check_safetensors(path: Path, size: int, name: str) -> None:
    """Refuse a file that is shorter than its header says; whether it is otherwise right, its own reader says."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    if len(header) < length:
        raise EquicliError(f"{name}: half of a safetensors file: its header is cut short. {_AGAIN}")
    try:
        entries = json.loads(header)
        needed = 8 + length + max((e["data_offsets"][1] for k, e in entries.items() if k != "__metadata__"), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise EquicliError(f"{name}: not a valid safetensors file (its header cannot be read). {_AGAIN}") from None
    if size < needed:
        raise EquicliError(
            f"{name}: {size:,} of {needed:,} bytes of a safetensors file: the download or copy did not finish. {_AGAIN}"
        )
