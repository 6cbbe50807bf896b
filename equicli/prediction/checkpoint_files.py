"""The files of one checkpoint: one, or parts that an index lists, or whichever of these a folder holds."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from equicli.errors import EquicliError, shown

INDEX = ".index.json"
# The first that exists is taken; a folder or repository holds the weights under one of these. Indices come last: caches
# know of files that were not there only what was once asked.
WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    f"model.safetensors{INDEX}",
    f"pytorch_model.bin{INDEX}",
)
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".th", ".tar")
# What trainers leave beside the weights.
_BESIDE = re.compile(r"(?i)(optim|sched|scaler|rng|random_state|training_args|adapter|lora).*")
_PART = re.compile(r"(.+)-\d{5}-of-\d{5}(\.\w+)")
_NAMED_HASH = re.compile(r"-([0-9a-f]{8,64})(\.\w+)+$")
_NO_HASH = re.compile(
    r"-((19|20)\d{6}|\d{4}(19|20)\d{2}|0\d+|\d{9,})\.|(step|iter|epoch|checkpoint|ckpt)s?-\d+\."  # a date, a count
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\."  # a UUID
)


def is_index(path: Path) -> bool:
    return path.name.endswith(INDEX)


def parts_of(index: Path, name: str) -> list[str]:
    """Return the names of the files that an index lists; they lie beside it.

    Args:
        name: what an error calls the index.

    Raises:
        EquicliError: it is no such index, or names a file elsewhere.
    """
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        parts = sorted(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EquicliError(f"{name}: lists no files of weights (weight_map). Name the weights themselves.") from None
    for part in parts:
        if not isinstance(part, str) or not re.fullmatch(r"[\w.-]+", part) or part.startswith("."):
            raise EquicliError(f"{name}: lists '{shown(part)}', which is no file beside it.")
    if not parts:
        raise EquicliError(f"{name}: lists no files of weights. Name the weights themselves.")
    return parts


def files_of(path: Path, name: str) -> list[Path]:
    """Return the files that hold the weights: itself, or all that an index lists.

    Raises:
        EquicliError: one of them is missing, or the file is one part of several.
    """
    if is_index(path):
        files = [path.parent / part for part in parts_of(path, name)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise EquicliError(
                f"{name}: {len(missing)} of {len(files)} parts are missing ({missing[0]}). Get all of them."
            )
        return files
    part = _PART.fullmatch(path.name)
    if part:
        index = part[1] + part[2] + INDEX
        raise EquicliError(f"{name}: one part of several. Name their index, {index}, or the folder.")
    return [path]


def find_in_folder(folder: Path) -> Path | None:
    """Return the file that holds the weights in a folder: by the usual names, else the only one; None for none.

    Raises:
        EquicliError: it cannot be told which, or they are in a form that cannot be read.
    """
    for usual in WEIGHT_FILES:
        if (folder / usual).is_file():
            return folder / usual
    names = sorted(path.name for path in folder.iterdir() if path.is_file() or path.is_dir())
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        raise EquicliError(
            f"{folder}: a distributed checkpoint. Make one file of it: "
            f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth"
        )
    if "zero_to_fp32.py" in names:
        raise EquicliError(
            f"{folder}: a checkpoint of DeepSpeed's. Make one file of it: "
            f"python {folder / 'zero_to_fp32.py'} {folder} weights"
        )
    if "adapter_config.json" in names:
        raise EquicliError(
            f"{folder}: an adapter (LoRA) and no whole network. Merge it (merge_and_unload), and save that."
        )
    indices = [name for name in names if name.endswith(INDEX)]
    files = [n for n in names if n.endswith(_SUFFIXES) and not _BESIDE.match(n) and not _PART.fullmatch(n)]
    found = indices or files
    if len(found) == 1 and (folder / found[0]).is_file():
        return folder / found[0]
    if found:
        raise EquicliError(f"{folder}: several files of weights ({shown(', '.join(found))}). Name one of them.")
    return None


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file; of an index that of all its parts, one after another."""
    digest = hashlib.sha256()
    for file in [path.parent / part for part in parts_of(path, path.name)] if is_index(path) else [path]:
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def check_named_hash(path: Path, name: str) -> None:
    """Refuse a file whose name ends in another hash than its own, as PyTorch's files do: `resnet50-0676ba61.pth`.

    Raises:
        EquicliError: it does, and what is there cannot be a date, a count or a UUID.
    """
    said = _NAMED_HASH.search(path.name)
    if said is None or _NO_HASH.search(path.name):
        return
    sha256 = sha256_of(path)
    if not sha256.startswith(said[1]):
        raise EquicliError(
            f"{name}: damaged, or another file: its name ends in {said[1]}, but its SHA-256 begins with "
            f"{sha256[: len(said[1])]}. Download it again; if it is your own, give it another name."
        )


def first_of(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
