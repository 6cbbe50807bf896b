"""A pretrained prediction network with all that equicli must know of it, from one `--model` text."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from equicli.config import Scalar
from equicli.data.normalization import Normalization
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.prediction.checkpoint import load_checkpoint, sha256_of
from equicli.prediction.head import replace_head


@dataclass(frozen=True)
class NetworkSpec:
    """What rebuilds a network without its weights. Stored in artifacts, so it names no file and no import path.

    `library` is `timm`, `torchvision` or `python` (the user's own network, which must be handed over again).
    `head_outputs` is the number of outputs of a replaced last layer, None where the network's own is kept.
    """

    library: str
    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    head_outputs: int | None = None


@dataclass(frozen=True)
class PretrainedNetwork:
    """A loaded network in eval mode.

    class_names: for every output the names that it goes by (WordNet id, words), or None where nothing says.
    provenance: what was loaded: `model`; for published weights `repository`, `revision` (a commit), `file`, `sha256`;
        for a user's own file `checkpoint` (its name) and `sha256`.
    """

    network: nn.Module
    spec: NetworkSpec
    preprocess: Preprocess
    class_names: tuple[tuple[str, ...], ...] | None
    provenance: Mapping[str, str]


@dataclass(frozen=True)
class NetworkRequest:
    """What a source is asked for: see `load_network`. `pretrained` is False where weights come from the user's file."""

    name: str
    arguments: Mapping[str, Scalar]
    pretrained: bool
    image_size: int | None
    revision: str | None


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
        model: a timm name or a short one, `hf-hub:owner/name[@revision]`, `torchvision:NAME`, or
            `python:package.module:factory`.
        checkpoint: a local file of weights, in place of the published ones.
        arguments: keyword arguments of the network's constructor.
        image_size: side in pixels of the square input, in place of the checkpoint's own.
        revision: branch, tag or commit of the Hub repository; for torchvision the name of the weights.

    Raises:
        UsageError: no such model, file or revision.
        EquicliError: the weights cannot be had, or do not fit.
    """
    from equicli.prediction import python_source, timm_source, torchvision_source

    if checkpoint is not None and not Path(checkpoint).is_file():
        raise UsageError(f"--checkpoint {checkpoint}: no such file.")
    source, separator, name = model.partition(":")
    sources = {
        "": timm_source.load,
        "hf-hub": timm_source.load_from_hub,
        "torchvision": torchvision_source.load,
        "python": python_source.load,
    }
    if not separator:
        source, name = "", model
    if source not in sources:
        raise UsageError(
            f"--model {model}: unknown source '{source}:'. Known: hf-hub:, torchvision:, python:, or a timm name."
        )
    request = NetworkRequest(name, dict(arguments or {}), checkpoint is None, image_size, revision)
    found = sources[source](request)
    if checkpoint is not None:
        load_checkpoint(found.network, Path(checkpoint))
        file = {"checkpoint": Path(checkpoint).name, "sha256": sha256_of(Path(checkpoint))}
        found = replace(found, provenance={**found.provenance, **file})
    found.network.eval()
    return found


def rebuild_network(spec: NetworkSpec) -> nn.Module:
    """Build the network that a spec describes, with untrained weights, in eval mode.

    Raises:
        EquicliError: the library does not know the architecture, or the network was the user's own.
    """
    from equicli.prediction import timm_source, torchvision_source

    if spec.library == "timm":
        network = timm_source.create(spec.architecture, spec.arguments)
    elif spec.library == "torchvision":
        network = torchvision_source.create(spec.architecture, spec.arguments)
    else:
        raise EquicliError(
            "this artifact's prediction network is your own code, and no import path is stored: "
            "hand it over with --model python:module:factory, or load(path, network=...)."
        )
    if spec.head_outputs is not None:
        replace_head(network, spec.head_outputs)
    return network.eval()


def override_preprocess(
    preprocess: Preprocess,
    mode: str,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
) -> Preprocess:
    """Apply `--preprocess`, `--mean` and `--std` to the checkpoint's own preprocessing."""
    normalization = Normalization(mean or preprocess.normalization.mean, std or preprocess.normalization.std)
    if mode == "none":
        return Preprocess(None, None, preprocess.interpolation, normalization)
    return replace(preprocess, normalization=normalization)
