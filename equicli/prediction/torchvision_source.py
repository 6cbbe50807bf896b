"""Prediction networks from torchvision: `torchvision:NAME`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision.models as zoo
from torch import nn

from equicli.data.normalization import Normalization
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError, did_you_mean, reason
from equicli.prediction.checkpoint import load_own, read_checkpoint
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.classes import imagenet_class_names
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.reachable import address_answers


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Load a classification network of torchvision's, with its default published weights from the web or the cache."""
    name, arguments = request.name, dict(request.arguments)
    known = zoo.list_models(module=zoo)
    if name not in known:
        raise UsageError(f"--model torchvision:{name}: torchvision knows no such network.{did_you_mean(name, known)}")
    published = zoo.get_model_weights(name)
    if request.revision not in (None, *published.__members__):
        raise UsageError(f"--revision {request.revision}: torchvision:{name} has {', '.join(published.__members__)}.")
    weights = published[request.revision] if request.revision else published.DEFAULT
    arguments = {**_arguments_of(name, weights), **arguments}
    network = create(name, arguments)
    provenance = {"model": f"torchvision:{name}"}
    if request.pretrained:
        provenance |= _load_published(network, weights, provenance["model"])
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
    except Exception as error:
        raise EquicliError(f"torchvision:{name}: cannot be built ({reason(error)}). Check --model-arg.") from error
    return network


def _arguments_of(name: str, weights: Any) -> dict[str, Any]:
    """What torchvision's own builders derive from the weights they load."""
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "init_weights": False}
    if name.startswith("vit_"):
        return {"image_size": weights.meta["min_size"][0]}
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
