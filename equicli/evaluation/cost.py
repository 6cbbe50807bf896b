"""What canonicalization costs beside the prediction network."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.devices import arithmetic

REPEATS = 5


def relative_time(model: AdaptedModel, images: Tensor, precision: str) -> float:
    """Time of finding poses and turning images back ÷ time of the prediction network, on the same images.

    The two are timed in turns in one process, each after a pass to warm up, and their medians compared, because
    machines drift.

    Args:
        images: normalized, (b, 3, h, w), on the model's device.
    """
    with torch.inference_mode(), arithmetic(images.device, precision):
        model.predict(images)
        pairs = [
            (_seconds(model.canonicalize, images), _seconds(model.prediction_network, images)) for _ in range(REPEATS)
        ]
    return median(own for own, _ in pairs) / median(network for _, network in pairs)


def relative_cost(model: AdaptedModel, images: Tensor, precision: str) -> float:
    """Time of the whole adapted model ÷ time of the prediction network alone; see `relative_time`."""
    with torch.inference_mode(), arithmetic(images.device, precision):
        model(images)
        pairs = [(_seconds(model, images), _seconds(model.prediction_network, images)) for _ in range(REPEATS)]
    return median(whole for whole, _ in pairs) / median(network for _, network in pairs)


def added_parameters(model: AdaptedModel) -> int:
    return sum(parameter.numel() for parameter in model.canonicalizer.parameters())


def _seconds(function: Callable[[Tensor], object], images: Tensor) -> float:
    _synchronize(images.device)
    start = time.perf_counter()
    function(images)
    _synchronize(images.device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
