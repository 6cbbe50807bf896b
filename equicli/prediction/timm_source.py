"""Prediction networks from timm: by name, by short name, or from any Hub repository in timm's format."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import timm
import torchvision.models
from pydantic import BaseModel, Field, ValidationError
from timm.data import resolve_data_config
from torch import nn

from equicli.data.normalization import Deviations, Means, Normalization
from equicli.data.preprocess import INTERPOLATIONS, Interpolation, Preprocess, Side
from equicli.errors import EquicliError, UsageError, did_you_mean, reason, shown
from equicli.prediction.checkpoint import Allowance, load_weights, read_weights
from equicli.prediction.checkpoint_files import WEIGHT_FILES, find_in_folder, sha256_of
from equicli.prediction.classes import imagenet_class_names
from equicli.prediction.hub import download, download_first, split_revision
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.published_files import read_json, refuse_other_problems
from equicli.prediction.short_names import SHORT_NAMES


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Load a network that timm knows by name (`resnet50`, `resnet50.a1_in1k`, or a short name such as `vit_base`)."""
    name = request.name
    full = SHORT_NAMES.get(name, name)
    architecture, _, tag = full.partition(".")
    if not timm.is_model(architecture):
        if "/" in name:
            raise UsageError(
                f"--model {name}: neither a network of timm's nor a repository, which is written owner/name. "
                f"A folder that transformers wrote is transformers:{name}."
            )
        if name in torchvision.models.list_models(module=torchvision.models):
            raise UsageError(f"--model {name}: timm knows no such network. Did you mean 'torchvision:{name}'?")
        near = did_you_mean(name, [*SHORT_NAMES, *timm.list_models()])
        raise UsageError(f"--model {name}: timm knows no such network.{near} `equicli models` lists names to type.")
    try:
        config = timm.get_pretrained_cfg(full)
    except RuntimeError:  # how some versions of timm say that they know no such tag
        config = None
    if config is None or (tag and config.tag != tag):
        near = did_you_mean(full, timm.list_pretrained(architecture))
        raise UsageError(f"--model {full}: timm knows no weights of that tag.{near}")
    if not request.pretrained:
        if request.revision is not None:
            raise UsageError(f"--revision {request.revision}: with --checkpoint nothing is loaded from the Hub.")
        return _build(full, None, request, None, {"model": full}, None)
    full = f"{architecture}.{config.tag}" if config.tag else architecture
    if not config.hf_hub_id:
        raise EquicliError(
            f"--model {full}: timm publishes no weights for it. Name another tag, or give --checkpoint FILE."
        )
    weights, provenance = _download_weights(config.hf_hub_id, request.revision)
    return _build(full, None, request, weights, {"model": full, **provenance}, None)


def load_from_hub(request: NetworkRequest) -> PretrainedNetwork:
    """Load `owner/name[@revision]`, a Hub repository whose `config.json` names a timm architecture."""
    repository, revision = split_revision(request.name)
    path, commit = download(repository, "config.json", request.revision or revision)
    provenance = {"model": f"hf-hub:{repository}", "repository": repository, "revision": commit}
    weights = None
    if request.pretrained:
        # From the commit that the configuration came from, so that both are of one version.
        weights, found = _download_weights(repository, commit)
        provenance |= found
    return _load_described(path, f"hf-hub:{request.name}", request, weights, provenance)


def load_from_folder(request: NetworkRequest) -> PretrainedNetwork:
    """Load a local folder that timm wrote: its `config.json` names an architecture, and the weights lie beside it.

    It is recorded by its name, and its weights as the user's own file: others have no such path.
    """
    folder, name = Path(request.name).expanduser(), f"local-dir:{request.name}"
    if request.revision is not None:
        raise UsageError(f"--revision {request.revision}: a folder has none.")
    if not folder.is_dir():
        raise UsageError(f"--model {name}: no such folder.")
    if not (folder / "config.json").is_file():
        raise UsageError(f"--model {name}: no config.json in this folder; name a network, and this with --checkpoint.")
    provenance = {"model": f"local-dir:{folder.resolve().name}"}
    weights = None
    if request.pretrained:
        weights = find_in_folder(folder)
        if weights is None:
            raise EquicliError(f"--model {name}: no {WEIGHT_FILES[0]} or {WEIGHT_FILES[1]} in this folder.")
        provenance |= {"checkpoint": weights.name, "sha256": sha256_of(weights)}
    return _load_described(folder / "config.json", name, request, weights, provenance)


def _load_described(
    path: Path, name: str, request: NetworkRequest, weights: Path | None, provenance: dict[str, str]
) -> PretrainedNetwork:
    """Load what a `config.json` in timm's format describes. `name` is what an error calls its place."""
    config = read_json(path, f"{name}: config.json")
    try:
        architecture = config["architecture"]
        arguments = dict(config.get("model_args") or {})
        published = {**config, **(config.get("pretrained_cfg") or {})}
    except (ValueError, KeyError, TypeError):
        raise EquicliError(
            f"{name}: its config.json names no timm architecture. A network of transformers' is written "
            "transformers:owner/name."
        ) from None
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise EquicliError(
            f"{name}: timm {timm.__version__} knows no architecture '{shown(architecture)}'; update timm."
        )
    refuse_other_problems(config, name)
    known = {key: value for key, value in published.items() if key in _CONFIG_KEYS} | {"architecture": architecture}
    if "num_classes" in config:
        arguments["num_classes"] = config["num_classes"]
    request = replace(request, arguments={**arguments, **request.arguments})
    return _build(architecture, known, request, weights, provenance, _label_names(published))


# What is taken over from a repository's config.json. Nothing there can name another file or address to load from.
_CONFIG_KEYS = frozenset(
    "input_size fixed_input_size interpolation crop_pct crop_mode mean std num_classes pool_size first_conv "
    "classifier".split()
)


# Arguments of timm's factory, not of a network: they would read files that nobody asked for.
_LOADING = frozenset("pretrained pretrained_cfg pretrained_cfg_overlay checkpoint_path cache_dir".split())


class _Published(BaseModel):
    """What is believed of a published configuration; other entries are ignored."""

    input_size: tuple[int, Side, Side] | None = None
    mean: Means | None = None
    std: Deviations | None = None
    crop_pct: Annotated[float, Field(ge=0.1, le=10)] | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    num_classes: int | None = None


def create(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build an architecture of timm's with untrained weights.

    Raises:
        EquicliError: timm does not know it, or does not take these arguments.
    """
    if not timm.is_model(architecture):
        raise EquicliError(f"timm {timm.__version__} knows no architecture '{shown(architecture)}'.")
    return _create(architecture, arguments, pretrained=False)


def _create(name: str, arguments: Mapping[str, Any], **options: Any) -> nn.Module:
    reserved = _LOADING.intersection(arguments)
    if reserved:
        raise EquicliError(f"{name}: '{min(reserved)}' is no argument of a network. Name weights with --checkpoint.")
    try:
        network: nn.Module = timm.create_model(name, **options, **arguments)
    except Exception as error:  # constructors fail in any way
        raise EquicliError(f"{name}: timm cannot build it ({reason(error)}). Check --model-arg.") from error
    return network


def _build(
    name: str,
    config: dict[str, Any] | None,
    request: NetworkRequest,
    weights: Path | None,
    provenance: dict[str, str],
    class_names: tuple[tuple[str, ...], ...] | None,
) -> PretrainedNetwork:
    """Build `name` with the configuration of timm's registry, or with `config`, and load `weights` where given."""
    published = config or timm.get_pretrained_cfg(name).to_dict()
    source = provenance["model"]
    try:
        _Published.model_validate(published)
    except ValidationError as error:
        first = error.errors()[0]
        raise EquicliError(
            f"{source}: config.json has {first['loc'][0]} = {shown(first['input'])}: {first['msg']}."
        ) from None
    arguments: dict[str, Any] = dict(request.arguments)
    if (channels := (published.get("input_size") or (3,))[0]) != 3:
        arguments.setdefault("in_chans", channels)  # timm takes it from there, and who rebuilds the network from here
    file = f"{source}, {weights.name}" if weights else ""
    # Read here and not by timm, whose older versions unpickle.
    state = read_weights(weights, file) if weights else None
    overlay = None if state is None else {"state_dict": state, "custom_load": False}
    guard = nullcontext() if state is None else Allowance(state)
    try:
        with guard:
            network = _create(
                name, arguments, pretrained=state is not None, pretrained_cfg=config, pretrained_cfg_overlay=overlay
            )
    except EquicliError as error:
        if weights is not None:  # is it the weights or the arguments?
            with Allowance(state or {}):
                plain = _create(name, arguments, pretrained_cfg=config)
            load_weights(plain, read_weights(weights, file), file)
        raise EquicliError(str(error) if source == name else f"{source}: {error}") from error
    outputs = getattr(network, "num_classes", None)
    if outputs == 0:
        raise EquicliError(
            f"{source}: not a classifier: num_classes is 0, so it has no last layer. Name a checkpoint that has one."
        )
    if weights is not None and outputs != published.get("num_classes"):
        raise EquicliError(
            f"{source}: num_classes={outputs}, but its weights have {published.get('num_classes')} outputs. "
            "Leave num_classes out: --head auto fits a new head."
        )
    if class_names is not None and len(class_names) != outputs:
        class_names = None
    if class_names is None and outputs == published.get("num_classes"):
        class_names = imagenet_class_names(outputs)
    spec = NetworkSpec("timm", name.partition(".")[0], arguments)
    return PretrainedNetwork(network, spec, _preprocess(network, request.image_size), class_names, provenance)


def resize(found: PretrainedNetwork, image_size: int) -> PretrainedNetwork:
    """Let a network with position embeddings take another image size: they are resampled."""
    set_input_size = getattr(found.network, "set_input_size", None)
    if set_input_size is None:
        return found
    set_input_size(img_size=image_size)
    arguments = {**found.spec.arguments, "img_size": image_size}
    return replace(found, spec=replace(found.spec, arguments=arguments))


def _preprocess(network: nn.Module, image_size: int | None) -> Preprocess:
    config = resolve_data_config({}, model=network)
    size = image_size or config["input_size"][-1]
    # timm's "random" is for training; anything Pillow does not have is close to bicubic.
    interpolation: Interpolation = config["interpolation"] if config["interpolation"] in INTERPOLATIONS else "bicubic"
    normalization = Normalization(tuple(config["mean"]), tuple(config["std"]))
    squash = config["crop_mode"] == "squash"
    return Preprocess(size, int(size / config["crop_pct"]), interpolation, normalization, squash)


def _download_weights(repository: str, revision: str | None) -> tuple[Path, dict[str, str]]:
    path, commit = download_first(repository, WEIGHT_FILES, revision)
    return path, {"repository": repository, "revision": commit, "file": path.name, "sha256": sha256_of(path)}


def _label_names(config: Mapping[str, Any]) -> tuple[tuple[str, ...], ...] | None:
    names, descriptions = config.get("label_names"), config.get("label_descriptions") or {}
    if not isinstance(names, list):
        return None
    if not isinstance(descriptions, dict):
        descriptions = {}
    return tuple((str(n), str(descriptions[n])) if n in descriptions else (str(n),) for n in names)
