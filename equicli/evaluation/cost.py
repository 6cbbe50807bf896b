"""What canonicalization costs beside the prediction network."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.devices import arithmetic

# Each is timed at least so often, and for at least so long.
REPEATS, SECONDS = 5, 1.0


def relative_time(model: AdaptedModel, images: Tensor, precision: str) -> float:
    """Time of finding poses and turning images back ÷ time of the prediction network, on the same images.

    The two are timed in turns in one process, after a pass to warm up, because machines drift; and their shortest times
    are compared, because whatever else a machine does only adds.

    Args:
        images: normalized, (b, 3, h, w), on the model's device.
    """
    return _ratio(model.canonicalize, model, images, precision)


def relative_cost(model: AdaptedModel, images: Tensor, precision: str) -> float:
    """Time of the whole adapted model ÷ time of the prediction network alone; see `relative_time`."""
    return _ratio(model, model, images, precision)


def _ratio(what: Callable[[Tensor], object], model: AdaptedModel, images: Tensor, precision: str) -> float:
    with torch.inference_mode(), arithmetic(images.device, precision):
        model(images)
        pairs: list[tuple[float, float]] = []
        start = time.perf_counter()
        while len(pairs) < REPEATS or time.perf_counter() - start < SECONDS:
            pairs.append((_seconds(what, images), _seconds(model.prediction_network, images)))
    return min(own for own, _ in pairs) / min(alone for _, alone in pairs)


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
