"""Prediction networks from transformers: `transformers:owner/name[@revision]`, or a folder that transformers wrote.

Of what others publish, only JSON and tensors are read. transformers builds the network from its own classes; a
configuration chooses among those by name, and whatever in it would run code or read other files is not passed on.
"""

import copy
import importlib
import inspect
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.checkpoint import load_checkpoint, sha256_of
from equicli.prediction.classes import imagenet_class_names
from equicli.prediction.hub import download_first, find_first, split_revision
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.transformers_preprocess import read_preprocess

# The first that exists is taken; a folder or repository holds the weights under one of these.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

# They take something else than a batch of pictures, or are another library's networks.
_REFUSED = re.compile("Perceiver|ImageGPT|Siglip2|ShieldGemma|TimmWrapper")
# Older files hold these beside the parameters, for networks that have no use for them any more.
_LEFT_ASIDE = re.compile(r"(^|\.)(position_ids|relative_position_index|num_batches_tracked|pooler\.dense\.\w+)$")
# Last layers of networks that average two of them.
_TWO_HEADS = (
    ("cls_classifier", "distillation_classifier"),
    ("classifier", "classifier_distill"),
    ("head", "dist_head"),
)


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Load an image classifier of transformers' from the Hub or from a local folder."""
    transformers()
    files = _open(request)
    published = read_json(files.get(("config.json",)), f"{files.name}: config.json")
    architecture = _architecture(published, files.name)
    arguments = {**_published_arguments(architecture, published), **request.arguments}
    if "num_classes" in arguments:  # what timm calls it
        arguments["num_labels"] = arguments.pop("num_classes")
    try:
        network = create(architecture, arguments)
    except EquicliError as error:
        raise EquicliError(f"{files.name}: {error}") from error
    config: Any = network.config
    provenance = dict(files.provenance)
    if request.pretrained:
        path = files.get(WEIGHT_FILES)
        load_checkpoint(network, path, f"{files.name}, {path.name}")
        provenance |= {files.weights_are: path.name, "sha256": sha256_of(path)}
    found = files.find(PROCESSOR_FILES)
    processor = read_json(found, f"{files.name}: {found.name}") if found else None
    preprocess, remarks = read_preprocess(processor, config, request.image_size, files.name)
    class_names = _class_names(published.get("id2label"), config.num_labels)
    spec = NetworkSpec("transformers", architecture, arguments)
    return PretrainedNetwork(network, spec, preprocess, class_names, provenance, remarks)


def create(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build an image classifier of transformers' with untrained weights; it takes images and returns logits.

    Args:
        architecture: the name of its class, such as `ViTForImageClassification`.
        arguments: entries of its configuration, and `num_labels`.

    Raises:
        EquicliError: transformers is not installed, has no such classifier, or does not take these arguments.
    """
    kind = _kind(architecture)
    if kind is None:
        raise EquicliError(f"transformers {transformers().__version__} has no image classifier '{architecture}'.")
    unknown = sorted(set(arguments) - _entries(kind.config_class) - {"num_labels"})
    if unknown:
        raise EquicliError(f"{architecture} takes no argument '{unknown[0]}'. Check --model-arg.")
    outputs = arguments.get("num_labels")
    if type(outputs) is not int or outputs < 1:
        raise EquicliError(f"{architecture}: num_labels is {outputs!r}; a classifier has a number of outputs.")
    try:
        with _quiet():
            network: nn.Module = _returning_logits(kind)(kind.config_class(**copy.deepcopy(dict(arguments))))
    except Exception as error:  # constructors fail in any way
        raise EquicliError(
            f"{architecture}: transformers cannot build it ({reason(error)}). Check --model-arg."
        ) from error
    return network.eval()


@cache
def transformers() -> Any:
    """The library, imported when it is first asked for.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("transformers")
    except ImportError as error:
        raise UsageError(
            f"transformers is needed for this network and cannot be imported ({reason(error)}). "
            "Install it: pip install 'equicli[transformers]'"
        ) from error


class _Logits(nn.Module):
    """Put before a class of transformers': takes images (b, 3, h, w) and returns logits (b, classes)."""

    config: Any

    def forward(self, images: Tensor) -> Tensor:
        forward: Callable[..., Any] = super().forward
        # Asked for only where it is needed: resampling positions to the size they have is not exact in every network.
        other = _resamples(_class_of(self)) and tuple(images.shape[-2:]) != _native_size(self.config)
        options = {"interpolate_pos_encoding": True} if other else {}
        logits: Tensor = forward(pixel_values=images, **options).logits
        return logits

    def own_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate a published state dict, whose names may be an older version's, to the names of this network's own.

        What is missing stays missing, and what has another shape or fits nowhere keeps it, so that `load_weights` can
        say so.
        """
        # In one precision, which transformers would otherwise choose by the first tensor.
        plain = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
        try:
            with _quiet():
                loaded, report = _class_of(self).from_pretrained(
                    None,
                    config=self.config,
                    state_dict=plain,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                )
        except Exception as error:
            raise EquicliError(f"transformers cannot read these weights ({reason(error)}).") from error
        missing = set(report["missing_keys"])
        own = {key: value for key, value in loaded.state_dict().items() if key not in missing}
        own |= {key: torch.empty(shape, device="meta") for key, shape, *_ in report["mismatched_keys"]}
        return own | {key: plain[key] for key in report["unexpected_keys"] if not _LEFT_ASIDE.search(key)}

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What `find_head` asks a network for: the name of its last layer, where there are two."""
        children = dict(self.named_children())
        return next(({"classifier": names} for names in _TWO_HEADS if all(n in children for n in names)), {})

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _blank, (_class_of(self),), self.__dict__  # the class was made here, where pickle does not find it


@cache
def _returning_logits(kind: type) -> Any:
    return type(kind.__name__, (_Logits, kind), {"__module__": kind.__module__})


def _blank(kind: type) -> Any:
    made = _returning_logits(kind)
    return made.__new__(made)


def _class_of(network: nn.Module) -> Any:
    """The class of transformers' own."""
    return type(network).__mro__[2]


@cache
def _resamples(kind: Any) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(kind.forward).parameters


def _native_size(config: Any) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    return tuple(size) if isinstance(size, list | tuple) else (size, size) if size is not None else None


@contextmanager
def _quiet() -> Iterator[None]:
    """What transformers would say of loading, equicli says or refuses."""
    log = importlib.import_module("transformers.utils.logging")
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()


def _kind(architecture: str) -> Any:
    """The class of an image classifier of transformers' by its name, or None."""
    auto = importlib.import_module(f"{transformers().__name__}.models.auto.modeling_auto")
    names = auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values()
    known = {name for entry in names for name in ([entry] if isinstance(entry, str) else entry)}
    if architecture not in known or _REFUSED.match(architecture):
        return None
    return getattr(transformers(), architecture, None)


@cache
def _entries(config_class: Any) -> frozenset[str]:
    """The entries of a configuration that describe the network.

    Those that every configuration has are left out: they choose code (attention from the Hub, quantization, fusions),
    files and precision.
    """
    with _quiet():
        return frozenset(config_class().to_dict()) - _common_entries()


@cache
def _common_entries() -> frozenset[str]:
    with _quiet():
        base = importlib.import_module("transformers.configuration_utils")
        common = getattr(base, "PreTrainedConfig", None) or base.PretrainedConfig
        return frozenset(common().to_dict()) | {"model_type", "quantization_config", "auto_map", "attn_implementation"}


def _architecture(published: Mapping[str, Any], name: str) -> str:
    """The image classifier that a configuration names.

    Raises:
        EquicliError: it names none of transformers' own.
    """
    named = published.get("architectures")
    architecture = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None
    kind = _kind(architecture) if architecture else None
    if published.get("quantization_config"):
        raise EquicliError(f"{name}: its weights are quantized; name the checkpoint that it was made from.")
    if architecture and kind is not None and published.get("model_type") == kind.config_class.model_type:
        return architecture
    if published.get("auto_map"):
        raise EquicliError(
            f"{name}: wants to run code of its own (auto_map in its config.json), and code from a repository is never "
            "run. Load it in your own code, and name that with --model python:module:factory."
        )
    if "architecture" in published:
        raise EquicliError(f"{name}: a timm network; write hf-hub:owner/name.")
    said = f"its config.json names {architecture}" if architecture else "its config.json names no network"
    raise EquicliError(
        f"{name}: {said}, which is no image classifier that equicli can load by transformers "
        f"{transformers().__version__}. Name a checkpoint that ends in ForImageClassification."
    )


def _published_arguments(architecture: str, published: Mapping[str, Any]) -> dict[str, Any]:
    """What of a published configuration rebuilds the network."""
    entries = _entries(_kind(architecture).config_class)
    arguments = {key: _description(value) for key, value in published.items() if key in entries}
    labels = published.get("id2label")
    # transformers writes neither where there are two.
    outputs = len(labels) if isinstance(labels, dict) else published.get("num_labels", 2)
    return {**arguments, "num_labels": outputs}


def _description(value: Any) -> Any:
    """A value of a configuration; one that is a configuration itself, without what every one has."""
    if not isinstance(value, dict):
        return value
    return {k: _description(v) for k, v in value.items() if not k.startswith("_") and k not in _common_entries()}


def _class_names(labels: object, outputs: int) -> tuple[tuple[str, ...], ...] | None:
    """For each output the names that a configuration gives it; None where they are missing or only numbers.

    ImageNet's get their WordNet ids beside them: folders are named so.
    """
    if not isinstance(labels, dict) or len(labels) != outputs or {str(i) for i in range(outputs)} != set(labels):
        return None
    texts = [str(labels[str(i)]) for i in range(outputs)]
    if all(re.fullmatch(r"(?i:label[ _]?)?\d+", text) for text in texts):
        return None
    names = [tuple(dict.fromkeys((text, *(word.strip() for word in text.split(","))))) for text in texts]
    first = outputs - 1000  # some have "background" before ImageNet's thousand
    imagenet = imagenet_class_names(1000) if first in (0, 1) else None
    if imagenet is not None:
        same = [bool(set(names[first + i]) & set(known)) for i, known in enumerate(imagenet)]
        if sum(same) >= 900:  # some words differ between the lists that people copied
            names[first:] = [tuple(dict.fromkeys((*known, *names[first + i]))) for i, known in enumerate(imagenet)]
    return tuple(names)


def read_json(path: Path, name: str) -> dict[str, Any]:
    """Read a JSON object. `name` is what an error calls the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EquicliError(f"{name}: not readable as JSON ({reason(error)}).") from None
    if not isinstance(content, dict):
        raise EquicliError(f"{name}: not a JSON object.")
    return content


@dataclass(frozen=True)
class _Files:
    """Where a checkpoint's files are.

    name: what errors call it; weights_are: under which word `PretrainedNetwork.provenance` records the weights' file.
    """

    name: str
    find: Callable[[Sequence[str]], Path | None]
    get: Callable[[Sequence[str]], Path]
    provenance: Mapping[str, str]
    weights_are: str


def _open(request: NetworkRequest) -> _Files:
    folder = Path(request.name).expanduser()
    if request.name and request.revision is None and folder.is_dir():
        return _open_folder(folder)
    if request.name.startswith(("/", "./", "../", "~")):
        raise UsageError(f"--model transformers:{request.name}: no such folder.")
    repository, revision = split_revision(request.name)
    # All files are from the commit that the configuration came from.
    _, commit = download_first(repository, ["config.json"], request.revision or revision, "transformers")
    name = f"transformers:{repository}"

    def find(names: Sequence[str]) -> Path | None:
        found = find_first(repository, names, commit, "transformers")
        return found[0] if found else None

    return _Files(
        name,
        find,
        lambda names: download_first(repository, names, commit, "transformers")[0],
        {"model": name, "repository": repository, "revision": commit},
        "file",
    )


def _open_folder(folder: Path) -> _Files:
    """A folder is recorded by its name and its weights as the user's own file: others have no such path."""

    def find(names: Sequence[str]) -> Path | None:
        return next((folder / name for name in names if (folder / name).is_file()), None)

    def get(names: Sequence[str]) -> Path:
        found = find(names)
        if found is None:
            raise EquicliError(f"transformers:{folder}: none of {', '.join(names)} in this folder.")
        return found

    return _Files(f"transformers:{folder}", find, get, {"model": f"transformers:{folder.resolve().name}"}, "checkpoint")
