"""From one `--model` text to a loaded network; from an artifact's spec to an untrained one."""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace

from torch import nn

from equicli.errors import EquicliError, UsageError
from equicli.prediction import python_source, timm_source, torchvision_source, transformers_source
from equicli.prediction.channels import fit_channels
from equicli.prediction.checkpoint import Allowance, load_checkpoint, read_weights, sha256_of
from equicli.prediction.head import replace_head
from equicli.prediction.hub import download_first, open_checkpoint, split_revision
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.published_files import read_json
from equicli.settings import Scalar

# What may stand before the colon of `--model`.
SOURCES = {
    "": timm_source.load,
    "hf-hub": timm_source.load_from_hub,
    "torchvision": torchvision_source.load,
    "transformers": transformers_source.load,
    "python": python_source.load,
}

# owner/name[@revision], as the Hub allows them.
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(@.+)?")


def load_network(
    model: str,
    *,
    checkpoint: str | None = None,
    arguments: Mapping[str, Scalar] | None = None,
    image_size: int | None = None,
    revision: str | None = None,
) -> PretrainedNetwork:
    """Find and load the network that `model` names.

    Args:
        model: a timm name or a short one, `owner/name[@revision]` on the Hub, `hf-hub:` before it for timm's format and
            `transformers:` for theirs, `transformers:FOLDER`, `torchvision:NAME`, or `python:package.module:factory`.
        checkpoint: weights in place of the published ones: a local file, or `hf-hub:owner/name[@revision]/file`.
        arguments: keyword arguments of the network's constructor.
        image_size: side in pixels of the square input, in place of the checkpoint's own.
        revision: branch, tag or commit of the Hub repository; for torchvision the name of the weights.

    Raises:
        UsageError: no such architecture or file.
        EquicliError: no such repository or revision, or the weights cannot be had or do not fit.
    """
    file = None if checkpoint is None else open_checkpoint(checkpoint)
    source, separator, name = model.partition(":")
    if not separator:
        source, name = "", model
    if source not in SOURCES:
        raise UsageError(
            f"--model {model}: unknown source '{source}:'. Known: hf-hub:, transformers:, torchvision:, python:, or a "
            "timm name."
        )
    request = NetworkRequest(name, dict(arguments or {}), file is None, image_size, revision)
    load = _load_from_hub if not source and REPOSITORY.fullmatch(name) else SOURCES[source]
    weights = None if file is None else read_weights(file[0], checkpoint)
    # The user's own code may make what it likes.
    with nullcontext() if weights is None or source == "python" else Allowance(weights):
        found = load(request)
    if file is not None and weights is not None:
        path, recorded = file
        load_checkpoint(found.network, weights, str(checkpoint))
        found = replace(
            found,
            provenance={**found.provenance, "checkpoint": recorded, "sha256": sha256_of(path)},
            remarks=(*found.remarks, *_unknown_classes(found, recorded)),
        )
    if image_size is not None and found.spec.library == "timm":
        found = timm_source.resize(found, image_size)
    found.network.eval()
    return fit_channels(found)


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
    elif spec.library == "transformers":
        network = transformers_source.create(spec.architecture, spec.arguments)
    else:
        raise EquicliError(
            "this artifact's prediction network is your own code, and no import path is stored: "
            "hand it over with --model python:module:factory, or load(path, network=...)."
        )
    if spec.head_outputs is not None:
        replace_head(network, spec.head_outputs, spec.head)
    return network.eval()
