"""What canonicalization costs beside the prediction network."""

import time
from collections.abc import Callable

import torch

from equicli.adapted import AdaptedModel
from equicli.devices import arithmetic, device_of
from equicli.prediction.inputs import Inputs
from equicli.prediction.signature import asking

# Each is timed at least so often, and for at least so long.
REPEATS, SECONDS = 5, 1.0


def relative_time(model: AdaptedModel, inputs: Inputs, precision: str) -> float:
    """Time of finding poses and turning inputs back ÷ time of the prediction network, on the same inputs.

    The two are timed in turns in one process, after a pass to warm up, because machines drift; and their shortest times
    are compared, because whatever else a machine does only adds.

    Args:
        inputs: on the model's device.
    """

    def canonicalize() -> object:
        pose = model.find_pose(inputs)
        return inputs.at(model.canonicalizer.group, None if pose is None else pose.element)

    return _ratio(canonicalize, model, inputs, precision)


def relative_cost(model: AdaptedModel, inputs: Inputs, precision: str) -> float:
    """Time of the whole adapted model ÷ time of the prediction network alone; see `relative_time`."""
    return _ratio(lambda: model.answer(inputs), model, inputs, precision)


def _ratio(what: Callable[[], object], model: AdaptedModel, inputs: Inputs, precision: str) -> float:
    ask = asking(model.prediction_network, model.signature)
    device = device_of(model)
    with torch.inference_mode(), arithmetic(device, precision):
        model.answer(inputs)
        shown = inputs.at(model.canonicalizer.group, None)
        pairs: list[tuple[float, float]] = []
        start = time.perf_counter()
        while len(pairs) < REPEATS or time.perf_counter() - start < SECONDS:
            pairs.append((_seconds(what, device), _seconds(lambda: ask(shown), device)))
    return min(own for own, _ in pairs) / min(alone for _, alone in pairs)


def added_parameters(model: AdaptedModel) -> int:
    return sum(parameter.numel() for parameter in model.canonicalizer.parameters())


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    _synchronize(device)
    start = time.perf_counter()
    function()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
