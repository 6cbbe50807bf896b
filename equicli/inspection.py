"""What is inside an artifact, and what a model's name loads: each as one dictionary of plain values."""

import re
from collections.abc import Iterable
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch

from equicli import artifact
from equicli.claims import find_artifact, find_run
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.errors import EquicliError, UsageError
from equicli.files import open_tensors
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.clouds import AnyPreprocess
from equicli.prediction.load import is_model_folder, load_wanted
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import CLASSIFIER, Signature, try_network
from equicli.prediction.zero_shot import TwoTowers
from equicli.runs import RUNS, Run
from equicli.settings import NetworkSettings

# What safetensors calls the types that parameters have; others are counters and indices.
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Of these types, too, but mostly not learned: statistics, and the reference vector of EquiOptAdapt.
_BUFFER = re.compile(r"\.running_\w+$|^canonicalizer\.reference$")


def artifact_named(name: str | None) -> Path | None:
    """Find the artifact that a name stands for; None where it can only be a model's name.

    Args:
        name: a run folder, an exported file, or something else; None is the latest run.

    Raises:
        UsageError: a program, a folder that is no run, an unfinished run, or a path that leads nowhere.
    """
    if name is None:
        return find_run(None).model
    path, run = Path(name), Run(Path(name))
    if path.is_file():
        return find_artifact(name)[0]
    if path.suffix == ".safetensors":
        return path
    if is_model_folder(path):
        return None
    if path.is_dir() and not (run.trained or run.begun):
        raise UsageError(
            f"{name}: a folder, but no run. Name a run folder, an exported file or a model; "
            f"a folder that transformers wrote is the model transformers:{name}."
        )
    # What is written as a path is not looked for on the Hub.
    written_as_path = name.startswith(("/", "./", "../", "~", f"{RUNS}/")) or name.endswith("/")
    return find_run(name).model if path.is_dir() or written_as_path else None


def inspect_artifact(path: Path) -> dict[str, Any]:
    """Describe an artifact by its header; no weights are loaded.

    Returns:
        `kind` (`run`, `model` or `adapter`); `path`, `bytes` and `sha256` of the file; and all of `ModelConfig`, whose
        `canonicalizer` and `prediction_network` get the number of `parameters` in the file, and their `dtype`.
        `pictures_seen`: how many pictures training saw whose hashes are in the file; None where it has none.

    Raises:
        UsageError, EquicliError: see `artifact.read_config`.
    """
    config = artifact.read_config(path)
    run = Run(path.parent)
    in_run = run.settings.is_file() and run.model.name == path.name
    header, pictures = asdict(config), artifact.read_pictures_seen(path)
    return {
        "kind": "adapter" if config.adapter_only else "run" if in_run else "model",
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        **header,
        **{part: header[part] | _count_stored(path, part) for part in ("canonicalizer", "prediction_network")},
        "preprocess": _preprocess(config.preprocess),
        "pictures_seen": None if pictures is None else len(pictures),
    }


def inspect_model(wanted: NetworkSettings) -> dict[str, Any]:
    """Load a network as `equicli adapt` does, and describe it.

    Returns:
        `kind` (`network`); `model`; `prediction_network`, a `NetworkSpec` with the number of `parameters` and their
        `dtype`; the number of `outputs`, None where an image does not show it; `class_names`, `preprocess`,
        `provenance` and `remarks`, see `PretrainedNetwork`.

    Raises:
        UsageError, EquicliError: see `load_wanted`.
    """
    try:
        found = load_wanted(wanted)
    except EquicliError as error:
        raise type(error)(_without_flag(error)) from error
    outputs, remarks = _count_outputs(found)
    parameters = [(p.numel(), str(p.dtype).removeprefix("torch.")) for p in found.network.parameters()]
    return {
        "kind": "network",
        "model": wanted.model,
        "prediction_network": asdict(found.spec) | _count(parameters),
        "outputs": outputs,
        "class_names": found.class_names,
        "preprocess": _preprocess(found.preprocess.override(wanted.preprocess, wanted.mean, wanted.std)),
        "provenance": dict(found.provenance),
        "remarks": [*found.remarks, *remarks],
    }


def _count_stored(path: Path, part: str) -> dict[str, Any]:
    """Count the parameters of one part of an artifact. The header tells them from buffers only by name and type."""
    with open_tensors(path) as file:
        tensors = [file.get_slice(key) for key in file.keys() if key.startswith(f"{part}.") and not _BUFFER.search(key)]
        types = [(prod(tensor.get_shape()), tensor.get_dtype()) for tensor in tensors]
    return _count((size, _FLOATS[dtype]) for size, dtype in types if dtype in _FLOATS)


def _count(tensors: Iterable[tuple[int, str]]) -> dict[str, Any]:
    sizes = list(tensors)
    return {
        "parameters": sum(size for size, _ in sizes),
        "dtype": ", ".join(sorted({dtype for _, dtype in sizes})) or None,
    }


def _count_outputs(found: PretrainedNetwork) -> tuple[int | None, list[str]]:
    """Show the network a black image, as `adapt` shows it the first of the folder. What it fails at is a remark."""
    size = found.preprocess.size
    if isinstance(found.preprocess, CloudPreprocess):
        shown = torch.zeros(1, found.preprocess.points, 3)
        return int(try_network(found.network, Signature("points"), shown).shape[1]), []
    if isinstance(found.network, TwoTowers):
        return None, [
            "a zero-shot network: --prompts of `equicli adapt`, or the names of class folders, say its classes"
        ]
    if size is None:
        return None, ["nothing says which size its images have; --image-size shows the number of outputs"]
    try:
        channels = found.preprocess.normalization.channels
        output = try_network(found.network, CLASSIFIER, torch.zeros(1, channels, size, size))
    except EquicliError as error:
        return None, [_without_flag(error)]
    if isinstance(output, torch.Tensor) and output.ndim == 2:
        return int(output.shape[1]), []
    shape = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
    return None, [f"not a classifier: it returns {shape}, not logits (images, classes)"]


def _preprocess(preprocess: AnyPreprocess) -> dict[str, Any]:
    fields = asdict(preprocess)
    if isinstance(preprocess, CloudPreprocess):
        return fields
    fields.pop("normalization")
    return fields | preprocess.normalization._asdict()


def _without_flag(error: EquicliError) -> str:
    """The message of an error about `--model`, which here is an argument without a name."""
    return re.sub(r"--model\b(?!-)", "MODEL", str(error))
