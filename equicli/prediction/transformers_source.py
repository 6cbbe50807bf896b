"""Prediction networks from transformers: `transformers:owner/name[@revision]`, or a folder that transformers wrote.

Of what others publish, only JSON and tensors are read. transformers builds the network from its own classes; a
configuration chooses among those by name, and whatever in it would run code or read other files is not passed on.
"""

import copy
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from equicli.errors import EquicliError, reason
from equicli.prediction import transformers_detectors, transformers_sam, zero_shot
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.published_files import build_published, open_files, read_json, refuse_other_problems
from equicli.prediction.transformers_class import Before, put_before
from equicli.prediction.transformers_library import class_names_of, description, entries, quiet, transformers
from equicli.prediction.transformers_preprocess import find_preprocess

# They take something else than a batch of pictures, or are another library's networks.
_REFUSED = re.compile("Perceiver|ImageGPT|Siglip2|ShieldGemma|TimmWrapper")
# Last layers of networks that average two of them.
_TWO_HEADS = (
    ("cls_classifier", "distillation_classifier"),
    ("classifier", "classifier_distill"),
    ("head", "dist_head"),
)


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Load an image classifier of transformers', or a zero-shot network, from the Hub or from a local folder."""
    transformers()
    files = open_files(request)
    published = read_json(files.get(("config.json",)), f"{files.name}: config.json")
    architecture = _architecture(published, files.name)
    if architecture in zero_shot.PROMPTS:
        return zero_shot.load(files, published, request)
    if architecture in transformers_sam.NETWORKS:
        return transformers_sam.load(files, published, architecture, request)
    if architecture in transformers_detectors.NETWORKS:
        return transformers_detectors.load(files, published, architecture, request)
    refuse_other_problems(published, files.name)
    arguments = {**_published_arguments(architecture, published), **request.arguments}
    if "num_classes" in arguments:  # what timm calls it
        arguments["num_labels"] = arguments.pop("num_classes")
    network, provenance = build_published(files, request, lambda: create(architecture, arguments))
    config: Any = network.config
    preprocess, remarks = find_preprocess(files, config, request.image_size)
    class_names = class_names_of(published.get("id2label"), config.num_labels)
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
    if architecture in zero_shot.PROMPTS:
        return zero_shot.create(architecture, arguments)
    if architecture in transformers_sam.NETWORKS:
        return transformers_sam.create(architecture, arguments)
    if architecture in transformers_detectors.NETWORKS:
        return transformers_detectors.create(architecture, arguments)
    kind = _kind(architecture)
    if kind is None:
        raise EquicliError(f"transformers {transformers().__version__} has no image classifier '{architecture}'.")
    unknown = sorted(set(arguments) - entries(kind.config_class) - {"num_labels"})
    if unknown:
        raise EquicliError(f"{architecture} takes no argument '{unknown[0]}'. Check --model-arg.")
    outputs = arguments.get("num_labels")
    if type(outputs) is not int or outputs < 1:
        raise EquicliError(f"{architecture}: num_labels is {outputs!r}; a classifier has a number of outputs.")
    try:
        with quiet():
            network: nn.Module = put_before(_Logits, kind)(kind.config_class(**copy.deepcopy(dict(arguments))))
    except Exception as error:  # constructors fail in any way
        raise EquicliError(
            f"{architecture}: transformers cannot build it ({reason(error)}). Check --model-arg."
        ) from error
    return network.eval()


class _Logits(Before):
    """Put before a class of transformers': takes images (b, 3, h, w) and returns logits (b, classes)."""

    def forward(self, images: Tensor) -> Tensor:
        forward: Callable[..., Any] = super().forward
        # Asked for only where it is needed: resampling positions to the size they have is not exact in every network.
        other = _resamples(self.kind) and tuple(images.shape[-2:]) != _native_size(self.config)
        options = {"interpolate_pos_encoding": True} if other else {}
        logits: Tensor = forward(pixel_values=images, **options).logits
        return logits

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What `find_head` asks a network for: the name of its last layer, where there are two."""
        children = dict(self.named_children())
        return next(({"classifier": names} for names in _TWO_HEADS if all(n in children for n in names)), {})


@cache
def _resamples(kind: Any) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(kind.forward).parameters


def _native_size(config: Any) -> tuple[int, int] | None:
    size = getattr(config, "image_size", None)
    return tuple(size) if isinstance(size, list | tuple) else (size, size) if size is not None else None


def _kind(architecture: str) -> Any:
    """The class of an image classifier of transformers', of a network that tells classes of pixels, or of a zero-shot
    network, by its name; None for others."""
    if architecture in (*zero_shot.PROMPTS, *transformers_sam.NETWORKS, *transformers_detectors.NETWORKS):
        return getattr(transformers(), architecture, None)
    auto = importlib.import_module(f"{transformers().__name__}.models.auto.modeling_auto")
    tables = (auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES, auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES)
    names = [entry for table in tables for entry in table.values()]
    known = {name for entry in names for name in ([entry] if isinstance(entry, str) else entry)}
    if architecture not in known or _REFUSED.match(architecture):
        return None
    return getattr(transformers(), architecture, None)


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
        f"{name}: {said}, which is no network that equicli can load by transformers "
        f"{transformers().__version__}. Name a checkpoint that ends in ForImageClassification or "
        "ForSemanticSegmentation; or CLIP, SigLIP, DETR, RT-DETR or SAM."
    )


def _published_arguments(architecture: str, published: Mapping[str, Any]) -> dict[str, Any]:
    """What of a published configuration rebuilds the network."""
    known = entries(_kind(architecture).config_class)
    arguments = {key: description(value) for key, value in published.items() if key in known}
    labels = published.get("id2label")
    # transformers writes neither where there are two.
    outputs = len(labels) if isinstance(labels, dict) else published.get("num_labels", 2)
    return {**arguments, "num_labels": outputs}
