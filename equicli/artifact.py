"""The artifact: one safetensors file with both networks' weights and, in its header, what rebuilds them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.registry import kinds_for
from equicli.data.fingerprint import BYTES, from_tensor, to_tensor
from equicli.errors import EquicliError, UsageError, reason, shown
from equicli.files import open_tensors, read_tensors, write_tensors
from equicli.groups import Group, parse_group
from equicli.model_config import ModelConfig, damaged, parse_config
from equicli.prediction.checkpoint import Allowance, load_own, load_weights, read_checkpoint
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.head import find_head, replace_head
from equicli.prediction.hub import ON_THE_HUB, download, open_checkpoint, split_revision
from equicli.prediction.load import REPOSITORY, load_network, rebuild_network
from equicli.prediction.no_network import NoNetwork
from equicli.prediction.zero_shot import TwoTowers
from equicli.settings import Ema

# What an artifact may ask `load` to fetch, by the library of its prediction network.
_PREFIXES = {
    "timm": ("", "hf-hub", "local-dir"),
    "torchvision": ("torchvision",),
    "transformers": ("transformers",),
    "python": ("",),
    "equicli": ("",),
    "none": ("",),
}
FILE = "model.safetensors"  # in a run folder, and on the Hub
_CANONICALIZER, _NETWORK = "canonicalizer.", "prediction_network."
# Beside the networks' weights: fingerprints of the pictures that training saw, uint8 (n, 8).
_PICTURES = "training_pictures"


def write_artifact(
    path: Path,
    model: AdaptedModel,
    config: ModelConfig,
    *,
    adapter_only: bool = False,
    pictures: frozenset[bytes] | None = None,
    new: bool = False,
) -> None:
    """Write a model and its configuration as one file, whole or not at all.

    The model's parameters are laid out row by row, as files have them.

    Args:
        adapter_only: leave out the prediction network (all but a fitted head); `load` fetches and verifies it.
        pictures: fingerprints of those that it was trained on or that chose its epoch; None stores nothing of them.
        new: see `write_tensors`.

    Raises:
        EquicliError: an adapter whose network's weights came from no file, so that none could be verified.
    """
    kept: tuple[str, ...] = (_CANONICALIZER, _NETWORK)
    if adapter_only:
        if config.trained_base:
            raise EquicliError("--adapter-only: the prediction network was trained, too; export the whole model.")
        if "sha256" not in config.provenance:
            raise EquicliError(
                "--adapter-only: the network's weights came from your own code, not from a file to be verified. "
                "Export the whole model, or adapt with --checkpoint."
            )
        config = replace(config, adapter_only=True)
        head = config.prediction_network.head or find_head(model.prediction_network)
        fitted = config.prediction_network.head_outputs is not None
        kept = (_CANONICALIZER, f"{_NETWORK}{head}.") if fitted else (_CANONICALIZER,)
    for parameter in model.parameters():  # one by one, so that no copy of all is held
        parameter.data = parameter.data.contiguous()
    state = {key: value for key, value in model.state_dict().items() if key.startswith(kept)}
    if pictures is not None:
        state[_PICTURES] = to_tensor(pictures)
    write_tensors(path, state, {"equicli": config.to_json()}, new=new)


def read_config(path: str | Path) -> ModelConfig:
    """Read the configuration of an artifact, or of the one in a run folder, from its header; no weight is read.

    Its `labels` gives the output of each class. `preprocess(picture)` makes the prediction network's pixels of an RGB
    picture, and `preprocess.normalization(pixels)` what it takes.

    Raises:
        UsageError: no such file.
        EquicliError: not an artifact, or of a newer format.
    """
    path = _file_of(path)
    try:
        with open_tensors(path) as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise EquicliError(f"{path}: not a readable safetensors file ({reason(error)}).") from error
    return parse_config(metadata.get("equicli"), str(path))


def _file_of(path: str | Path) -> Path:
    """The file of an artifact: itself, that of a run folder, or that of a repository on the Hub, which is fetched.

    Raises:
        UsageError: no such file. EquicliError: the Hub's cannot be had.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE
    if file.is_file():
        return file
    if isinstance(path, str) and REPOSITORY.fullmatch(path) and file.suffix != ".safetensors":
        repository, revision = split_revision(path)
        return download(repository, FILE, revision)[0]
    raise UsageError(f"{file}: no such file. RUN is a run folder or an exported .safetensors file.")


def read_pictures_seen(path: Path) -> frozenset[bytes] | None:
    """Fingerprints of the pictures that an artifact was trained on or that chose its epoch; None where it has none.

    Raises:
        EquicliError: they cannot be read.
    """
    try:
        with open_tensors(path) as file:
            if _PICTURES not in file.keys():
                return None
            found = file.get_tensor(_PICTURES)
    except (SafetensorError, OSError) as error:
        raise EquicliError(f"{path}: not a readable safetensors file ({reason(error)}).") from error
    if found.dtype != torch.uint8 or found.ndim != 2 or found.shape[1] != BYTES:
        raise EquicliError(f"{path}: damaged {_PICTURES}: {found.dtype} {tuple(found.shape)}.")
    return from_tensor(found)


def load_canonicalizer(path: Path, group: Group, look: Mapping[str, int | None] | None = None) -> Canonicalizer:
    """Load the canonicalizer of an artifact alone, for a group that it serves, in the form that is shipped.

    Args:
        look: what of its specification is to be otherwise, `size` or `glance`, where its kind takes any size.

    Raises:
        EquicliError: see `load`.
    """
    config = read_config(path)
    stored = config.canonicalizer
    config = replace(config, canonicalizer=replace(stored, spec={**stored.spec, **(look or {})}))
    weights = {key.removeprefix(_CANONICALIZER): value for key, value in _canonicalizer_weights(path).items()}
    try:
        with Allowance(weights):
            canonicalizer = _rebuild_canonicalizer(config, group)
    except EquicliError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # constructors fail in any way
        raise EquicliError(f"{path}: its canonicalizer cannot be built ({reason(error)}).") from error
    load_weights(canonicalizer, weights, str(path))
    return canonicalizer


def copy_canonicalizer(path: Path, target: Path) -> None:
    """Write what `load_canonicalizer`, `read_config` and `read_pictures_seen` read of an artifact as a file of its own.

    Raises:
        EquicliError: it cannot be read.
    """
    pictures = read_pictures_seen(path)
    seen = {} if pictures is None else {_PICTURES: to_tensor(pictures)}
    write_tensors(target, _canonicalizer_weights(path) | seen, {"equicli": read_config(path).to_json()})


def _canonicalizer_weights(path: Path) -> dict[str, Tensor]:
    try:
        with open_tensors(path) as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(_CANONICALIZER)}
    except Exception as error:  # also types of numbers that torch has not
        raise EquicliError(f"{path}: its weights cannot be read ({reason(error)}).") from error


def load(path: str | Path, *, network: nn.Module | None = None, checkpoint: str | Path | None = None) -> AdaptedModel:
    """Load an artifact as a module in eval mode, on the CPU.

    Args:
        path: a file that `equicli export` or `equicli adapt` wrote, a run folder, or `owner/name` of a repository on
            the Hub that `equicli export --push-to-hub` wrote.
        network: the prediction network, where it is your own code; its weights come from the artifact.
        checkpoint: the prediction network's weights, for an adapter whose network came from a local file.

    Returns:
        A module whose `predict(pictures)` takes pictures of any size, and which itself takes what the prediction
        network takes (images (b, 3, h, w), preprocessed already) and returns what that network returns.

    Raises:
        UsageError: no such file.
        EquicliError: not an artifact, damaged, or its prediction network cannot be had or is not the one adapted.
    """
    path = _file_of(path)
    config = read_config(path)
    if checkpoint is not None and not config.adapter_only:
        raise UsageError(f"checkpoint {checkpoint}: leave it out, as {path} holds the prediction network's weights.")
    try:
        weights = read_tensors(path)
    except Exception as error:  # also types of numbers that torch has not
        raise EquicliError(f"{path}: its weights cannot be read ({reason(error)}).") from error
    weights.pop(_PICTURES, None)
    if config.adapter_only:
        network = _fetch(path, config, network, checkpoint)
        weights = {**{_NETWORK + key: value for key, value in network.state_dict().items()}, **weights}
    try:
        with Allowance(weights):
            network = rebuild_network(config.prediction_network) if network is None else _with_head(network, config)
            canonicalizer = _rebuild_canonicalizer(config, parse_group(config.group))
    except EquicliError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:  # constructors fail in any way
        raise EquicliError(f"{path}: its networks cannot be built ({reason(error)}).") from error
    model = config.assemble(canonicalizer, network)
    load_weights(model, weights, str(path))
    return model.requires_grad_(False)


def load_poses(path: Path) -> AdaptedModel:
    """Load an artifact without its prediction network, for poses alone.

    Raises:
        EquicliError: see `load`.
    """
    config = read_config(path)
    canonicalizer = load_canonicalizer(path, parse_group(config.group))
    return config.assemble(canonicalizer, NoNetwork()).requires_grad_(False)


def load_call(path: Path, config: ModelConfig, *, adapter_only: bool, checkpoint: str | None = None) -> str:
    """The Python that loads an exported file.

    Args:
        checkpoint: where the prediction network's weights lie; None knows no more than their file's name.
    """
    arguments = [repr(str(path))]
    if config.prediction_network.library == "python":
        arguments.append("network=YOUR_NETWORK")
    weights = str(config.provenance.get("checkpoint", ""))
    if adapter_only and weights and not weights.startswith(ON_THE_HUB):
        arguments.append(f"checkpoint={(checkpoint or weights)!r}")
    return f"equicli.load({', '.join(arguments)})"


def _rebuild_canonicalizer(config: ModelConfig, group: Group) -> Canonicalizer:
    kind = kinds_for(group)[config.canonicalizer.kind]
    try:
        spec = TypeAdapter(kind.Spec).validate_python(dict(config.canonicalizer.spec), extra="forbid")
    except ValidationError as error:
        raise EquicliError(damaged(error, "canonicalizer.spec")) from None
    return kind.rebuild(spec, Context(group, config.preprocess.normalization.rgb()))


def _fetch(path: Path, config: ModelConfig, network: nn.Module | None, checkpoint: str | Path | None) -> nn.Module:
    """Get the prediction network that an adapter was trained for, and verify that it is the same."""
    source, spec = config.provenance, config.prediction_network
    if checkpoint is None and str(source.get("checkpoint")).startswith(ON_THE_HUB):
        checkpoint = source["checkpoint"]
    if "checkpoint" in source and checkpoint is None:
        raise EquicliError(
            f"{path}: an adapter; its prediction network's weights were the file {shown(source['checkpoint'])} "
            f"(sha256 {shown(source['sha256'][:12])}…). Name it with --checkpoint or checkpoint=."
        )
    prefix = source["model"].rpartition(":")[0]
    if prefix not in _PREFIXES.get(spec.library, ()):
        # Never what a file says, but what a user types, may name code to import.
        raise EquicliError(
            f"{path}: damaged configuration at provenance.model: "
            f"'{shown(source['model'])}' is not of {shown(spec.library)}."
        )
    ema: Ema = "no" if source.get("ema") == "no" else "auto"
    folder = "checkpoint" in source and (spec.library == "transformers" or prefix == "local-dir")
    if spec.library == "python" or folder:
        # All but the weights is in the spec; a folder of the user's has no name that others know.
        file, _ = open_checkpoint(str(checkpoint))
        state = read_checkpoint(file, ema=ema)
        if network is None:
            with Allowance(state.weights):
                network = rebuild_network(replace(spec, head_outputs=None))
        load_own(network, state, str(file), ema)
        digest = sha256_of(file)
    else:
        if network is not None:
            raise UsageError(
                f"{path}: an adapter for {source['model']}, which is no code of yours; hand over no network."
            )
        if spec.library == "transformers" and "revision" not in source:  # might be a folder on this machine
            raise EquicliError(f"{path}: damaged configuration at provenance.revision: there is none.")
        found = load_network(
            source["model"],
            checkpoint=None if checkpoint is None else str(checkpoint),
            arguments=dict(spec.arguments),
            revision=source.get("revision"),
            ema=ema,
        )
        network, digest = found.network, found.provenance["sha256"]
        if isinstance(network, TwoTowers):
            network = network.image_tower()
    if digest != source["sha256"]:
        raise EquicliError(f"{path}: these are not the weights that it was adapted to (sha256 differs).")
    return network


def _with_head(network: nn.Module, config: ModelConfig) -> nn.Module:
    """Give a network the last layer that was fitted for it, if one was."""
    if config.prediction_network.head_outputs is not None:
        replace_head(network, config.prediction_network.head_outputs, config.prediction_network.head)
    return network.eval()
