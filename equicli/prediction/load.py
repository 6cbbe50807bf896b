"""From one `--model` text to a loaded network; from an artifact's spec to an untrained one."""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from equicli.errors import EquicliError, UsageError
from equicli.prediction import no_network, python_source, timm_source, torchvision_source, transformers_source
from equicli.prediction.channels import fit_channels
from equicli.prediction.checkpoint import Allowance, load_own, read_checkpoint
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.head import replace_head
from equicli.prediction.hub import download_first, open_checkpoint, split_revision
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.points import source as points_source
from equicli.prediction.published_files import read_json
from equicli.settings import Ema, NetworkSettings, Scalar

# What may stand before the colon of `--model`.
SOURCES = {
    "": timm_source.load,
    "hf-hub": timm_source.load_from_hub,
    "local-dir": timm_source.load_from_folder,
    "torchvision": torchvision_source.load,
    "transformers": transformers_source.load,
    "python": python_source.load,
}
# Known by their bare names, before timm is asked.
OWN = dict.fromkeys(points_source.NETWORKS, points_source.load)

# owner/name[@revision], as the Hub allows them.
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(@.+)?")


def load_wanted(wanted: NetworkSettings) -> PretrainedNetwork:
    """Load the network of a configuration; all its layers have their shapes.

    Raises:
        UsageError, EquicliError: see `load_network`; own code returns a network that has yet to see an input.
    """
    found = load_network(
        wanted.model,
        checkpoint=wanted.checkpoint,
        arguments=wanted.model_args,
        image_size=wanted.image_size,
        revision=wanted.revision,
        ema=wanted.ema,
    )
    python_source.refuse_lazy(found.network)
    return found


def load_network(
    model: str,
    *,
    checkpoint: str | None = None,
    arguments: Mapping[str, Scalar] | None = None,
    image_size: int | None = None,
    revision: str | None = None,
    ema: Ema = "auto",
) -> PretrainedNetwork:
    """Find and load the network that `model` names.

    Args:
        model: a timm name or a short one, `owner/name[@revision]` on the Hub, `hf-hub:` before it for timm's format and
            `transformers:` for theirs, the path of a folder that either wrote, `torchvision:NAME`, or
            `python:package.module:factory`; `none` for poses alone.
        checkpoint: weights in place of the published ones: a local file, the index of several, a folder, or
            `hf-hub:owner/name[@revision]/file`.
        arguments: keyword arguments of the network's constructor.
        image_size: side in pixels of the square input, in place of the checkpoint's own.
        revision: branch, tag or commit of the Hub repository; for torchvision the name of the weights.
        ema: whether averaged weights in `checkpoint` are taken: `auto` where there are any.

    Raises:
        UsageError: no such architecture or file.
        EquicliError: no such repository or revision, or the weights cannot be had or do not fit.
    """
    if model == no_network.NONE:
        request = NetworkRequest(model, dict(arguments or {}), checkpoint is None, image_size, revision)
        return no_network.load(request)
    file = None if checkpoint is None else open_checkpoint(checkpoint)
    if file is None and ema != "auto":
        raise UsageError(f"--ema {ema}: says which weights of a file are taken; add --checkpoint FILE.")
    source, separator, name = model.partition(":")
    if not separator:
        source, name = "", model
    if source not in SOURCES:
        raise UsageError(
            f"--model {model}: unknown source '{source}:'. Known: "
            f"{', '.join(f'{known}:' for known in SOURCES if known)}, or a timm name."
        )
    size = _agreed_size(arguments or {}, image_size)
    implied = size if source != "python" else image_size  # own code means by its arguments what it likes
    request = NetworkRequest(name, dict(arguments or {}), file is None, implied, revision)
    load = OWN.get(model, SOURCES[source])
    if not source and _is_folder(name):
        load = _load_from_folder
    elif not source and REPOSITORY.fullmatch(name):
        load = _load_from_hub
    state = None if file is None else read_checkpoint(file[0], str(checkpoint), ema)
    # The user's own code may make what it likes.
    with nullcontext() if state is None or source == "python" else Allowance(state.weights):
        found = load(request)
    if file is not None and state is not None:
        path, recorded = file
        loaded = load_own(found.network, state, str(checkpoint), ema)
        provenance = {**found.provenance, "checkpoint": recorded, "sha256": sha256_of(path)}
        if loaded.averaged is not None:
            provenance["ema"] = "yes" if loaded.averaged else "no"
        remarks = (*found.remarks, *loaded.remarks, *_unknown_classes(found, recorded))
        found = replace(found, provenance=provenance, remarks=remarks)
    if image_size is not None and found.spec.library == "timm" and "img_size" not in request.arguments:
        found = timm_source.resize(found, image_size)
    found.network.eval()
    return fit_channels(found)


def _agreed_size(arguments: Mapping[str, Scalar], image_size: int | None) -> int | None:
    """The side of the input, by --image-size and by the network's own arguments."""
    for key in ("img_size", "image_size", "input_size"):
        given: Any = arguments.get(key)
        side = given[-1] if isinstance(given, list | tuple) and given else given
        if type(side) is not int:
            continue
        if image_size not in (None, side):
            raise UsageError(f"--image-size {image_size} and --model-arg {key}={given} differ; give one of them.")
        image_size = side
    return image_size


def _is_folder(name: str) -> bool:
    """Whether a name without a source is a folder: one that is written as a path, or that holds a description."""
    written = name.startswith(("/", "./", "../", "~")) or name in (".", "..") or name.endswith("/")
    return written or (Path(name) / "config.json").is_file()


def is_model_folder(path: Path) -> bool:
    """Whether a folder has a `config.json` as timm and transformers write it, and not as a run of ours has it."""
    try:
        described = read_json(path / "config.json", "")
    except EquicliError:
        return False
    return "prediction_network" not in described and bool({"architecture", "architectures"} & described.keys())


def _load_from_folder(request: NetworkRequest) -> PretrainedNetwork:
    """Load a folder by the library that its `config.json` is for."""
    folder = Path(request.name).expanduser()
    if not folder.is_dir():
        what = "a file; name a network, and this with --checkpoint" if folder.is_file() else "no such folder"
        raise UsageError(f"--model {request.name}: {what}.")
    path = folder / "config.json"
    described = read_json(path, f"{request.name}: config.json") if path.is_file() else {}
    if "prediction_network" in described:
        raise UsageError(f"--model {request.name}: a run of equicli, which is adapted already; see `equicli evaluate`.")
    if described and not isinstance(described.get("architecture"), str):
        return transformers_source.load(replace(request, name=str(folder)))
    return timm_source.load_from_folder(request)


def _unknown_classes(found: PretrainedNetwork, checkpoint: str) -> list[str]:
    names = found.class_names
    if names is None:
        return []
    return [
        f"nothing in {checkpoint} names its {len(names)} classes: they are taken for those of "
        f"{found.provenance['model']}, in its order ({names[0][-1]} first)"
    ]


def _load_from_hub(request: NetworkRequest) -> PretrainedNetwork:
    """Load a repository by the library that its `config.json` is for."""
    repository, revision = split_revision(request.name)
    path, commit = download_first(repository, ["config.json"], request.revision or revision, "")
    timms = isinstance(read_json(path, f"{repository}: config.json").get("architecture"), str)
    source = timm_source.load_from_hub if timms else transformers_source.load
    return source(replace(request, name=repository, revision=commit))


def rebuild_network(spec: NetworkSpec) -> nn.Module:
    """Build the network that a spec describes, with untrained weights, in eval mode.

    Raises:
        EquicliError: the library does not know the architecture, or the network was the user's own.
    """
    if spec.library == "timm":
        network = timm_source.create(spec.architecture, spec.arguments)
    elif spec.library == "torchvision":
        network = torchvision_source.create(spec.architecture, spec.arguments)
    elif spec.library == no_network.NONE:
        network = no_network.NoNetwork()
    elif spec.library == "transformers":
        network = transformers_source.create(spec.architecture, spec.arguments)
    elif spec.library == "equicli":
        network = points_source.create(spec.architecture, spec.arguments)
    else:
        raise EquicliError(
            "this artifact's prediction network is your own code, and no import path is stored: "
            "hand it over with --model python:module:factory, or load(path, network=...)."
        )
    if spec.head_outputs is not None:
        replace_head(network, spec.head_outputs, spec.head)
    return network.eval()
