"""Prediction networks from torchvision: `torchvision:NAME`, its classifiers, detectors and segmentation networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision.models as zoo
from torch import nn

from equicli.data.normalization import Normalization
from equicli.data.preprocess import AS_THEY_ARE, Preprocess
from equicli.errors import EquicliError, UsageError, did_you_mean, reason
from equicli.prediction.checkpoint import load_own, read_checkpoint
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.classes import imagenet_class_names
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.reachable import address_answers

# Networks by what they return.
CLASSIFIERS, DETECTORS, SEGMENTERS = "classifiers", "detectors", "segmenters"
_MODULES = {CLASSIFIERS: zoo, DETECTORS: zoo.detection, SEGMENTERS: zoo.segmentation}
# The first published weights of these were trained where batch normalization adds no epsilon.
_WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
_EPSILON = "norm_eps"


def kind_of(name: str) -> str | None:
    """Whether a network of torchvision's is one of its classifiers, detectors or segmenters; None of an unknown one."""
    return next((kind for kind, module in _MODULES.items() if name in zoo.list_models(module=module)), None)


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Load a network of torchvision's, with its default published weights from the web or the cache."""
    name, arguments = request.name, dict(request.arguments)
    kind = kind_of(name)
    if kind is None:
        known = [known for module in _MODULES.values() for known in zoo.list_models(module=module)]
        raise UsageError(f"--model torchvision:{name}: torchvision knows no such network.{did_you_mean(name, known)}")
    published = zoo.get_model_weights(name)
    if request.revision not in (None, *published.__members__):
        raise UsageError(f"--revision {request.revision}: torchvision:{name} has {', '.join(published.__members__)}.")
    weights = published[request.revision] if request.revision else published.DEFAULT
    arguments = {**_arguments_of(name, weights, kind, pretrained=request.pretrained), **arguments}
    network = create(name, arguments)
    provenance = {"model": f"torchvision:{name}"}
    if request.pretrained:
        provenance |= _load_published(network, weights, provenance["model"])
    names = _class_names(kind, weights, arguments)
    preprocess = _preprocess(kind, weights, request.image_size, f"--model torchvision:{name}")
    return PretrainedNetwork(network, NetworkSpec("torchvision", name, arguments), preprocess, names, provenance)


def create(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network of torchvision's with untrained weights.

    Raises:
        EquicliError: torchvision does not know it, or does not take these arguments.
    """
    kind = kind_of(name)
    if kind is None:
        raise EquicliError(f"torchvision knows no network '{name}'.")
    given = {key: value for key, value in arguments.items() if key != _EPSILON}
    # Without this its detectors and segmenters fetch weights for a part of themselves.
    backbone = {} if kind == CLASSIFIERS else {"weights_backbone": None}
    try:
        network: nn.Module = zoo.get_model(name, weights=None, **backbone, **given)
    except Exception as error:
        raise EquicliError(f"torchvision:{name}: cannot be built ({reason(error)}). Check --model-arg.") from error
    if _EPSILON in arguments:
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = float(arguments[_EPSILON])
    return network


def _preprocess(kind: str, weights: Any, image_size: int | None, flag: str) -> Preprocess:
    if kind == DETECTORS:
        if image_size is not None:
            raise UsageError(f"{flag}: resizes pictures itself; in place of --image-size, --model-arg min_size=N.")
        return AS_THEY_ARE  # they resize and normalize themselves
    recipe = weights.transforms()
    normalization = Normalization(tuple(recipe.mean), tuple(recipe.std))
    if kind == SEGMENTERS:
        return Preprocess(None, image_size or recipe.resize_size[0], recipe.interpolation.value, normalization)
    size = image_size or recipe.crop_size[0]
    resize = round(size * recipe.resize_size[0] / recipe.crop_size[0])
    return Preprocess(size, resize, recipe.interpolation.value, normalization)


def _class_names(kind: str, weights: Any, arguments: Mapping[str, Any]) -> tuple[tuple[str, ...], ...] | None:
    """What each output is called, as long as there are as many as the published weights have."""
    published: Sequence[str] = weights.meta["categories"]
    outputs = arguments.get("num_classes", len(published))
    if kind == CLASSIFIERS:
        return imagenet_class_names(outputs) if isinstance(outputs, int) else None
    return tuple((name,) for name in published) if outputs == len(published) else None


def _arguments_of(name: str, weights: Any, kind: str, *, pretrained: bool) -> dict[str, Any]:
    """What torchvision's own builders derive from the weights they load."""
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "init_weights": False}
    if name.startswith("vit_"):
        return {"image_size": weights.meta["min_size"][0]}
    if pretrained and name in _WITHOUT_EPSILON:
        return {_EPSILON: 0.0}
    if pretrained and kind == SEGMENTERS and name.startswith(("fcn", "deeplabv3")):
        return {"aux_loss": True}
    return {}


def _load_published(network: nn.Module, weights: Any, name: str) -> dict[str, str]:
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        expected = file.stem.rpartition("-")[2]
        if not address_answers(weights.url):
            raise EquicliError(
                f"--model {name}: not in the local cache, and {weights.url} cannot be reached. Connect once, or give "
                "--checkpoint FILE."
            )
        try:
            torch.hub.download_url_to_file(weights.url, str(file), expected, progress=False)
        except (OSError, RuntimeError) as error:
            raise EquicliError(
                f"--model {name}: cannot be downloaded ({reason(error)}). Connect once, or give --checkpoint FILE."
            ) from error
    load_own(network, read_checkpoint(file), str(file))
    return {"revision": weights.name, "file": file.name, "sha256": sha256_of(file)}
