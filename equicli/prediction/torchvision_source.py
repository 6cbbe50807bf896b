"""Prediction networks from torchvision: `torchvision:NAME`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torchvision.models as zoo
from torch import nn

from equicli.data.normalization import Normalization
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError, did_you_mean
from equicli.prediction.checkpoint import load_weights, sha256_of
from equicli.prediction.classes import imagenet_class_names
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Load a classification network of torchvision's, with its default published weights from the web or the cache."""
    name, arguments = request.name, dict(request.arguments)
    known = zoo.list_models(module=zoo)
    if name not in known:
        raise UsageError(f"--model torchvision:{name}: torchvision knows no such network.{did_you_mean(name, known)}")
    network = create(name, arguments)
    published = zoo.get_model_weights(name)
    if request.revision not in (None, *published.__members__):
        raise UsageError(f"--revision {request.revision}: torchvision:{name} has {', '.join(published.__members__)}.")
    weights = published[request.revision] if request.revision else published.DEFAULT
    provenance = {"model": f"torchvision:{name}"}
    if request.pretrained:
        provenance |= _load_published(network, weights)
    recipe = weights.transforms()
    size = request.image_size or recipe.crop_size[0]
    preprocess = Preprocess(
        size,
        round(size * recipe.resize_size[0] / recipe.crop_size[0]),
        recipe.interpolation.value,
        Normalization(tuple(recipe.mean), tuple(recipe.std)),
    )
    outputs = arguments.get("num_classes", len(weights.meta["categories"]))
    class_names = imagenet_class_names(outputs) if isinstance(outputs, int) else None
    return PretrainedNetwork(network, NetworkSpec("torchvision", name, arguments), preprocess, class_names, provenance)


def create(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network of torchvision's with untrained weights.

    Raises:
        EquicliError: torchvision does not know it, or does not take these arguments.
    """
    if name not in zoo.list_models(module=zoo):
        raise EquicliError(f"torchvision knows no classification network '{name}'.")
    try:
        network: nn.Module = zoo.get_model(name, weights=None, **arguments)
    except (TypeError, ValueError) as error:
        raise EquicliError(f"torchvision:{name}: cannot be built ({error}). Check --model-arg.") from error
    return network


def _load_published(network: nn.Module, weights: Any) -> dict[str, str]:
    try:
        state = torch.hub.load_state_dict_from_url(
            weights.url, map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except (URLError, OSError) as error:
        raise EquicliError(
            f"torchvision:{weights}: cannot be downloaded ({error}). Connect once, or give --checkpoint FILE."
        ) from error
    load_weights(network, state, str(weights))
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    return {"revision": weights.name, "file": file.name, "sha256": sha256_of(file)}
