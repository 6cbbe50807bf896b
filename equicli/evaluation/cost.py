"""What canonicalization costs beside the prediction network."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from equicli.adapted import AdaptedModel
from equicli.devices import arithmetic, device_of
from equicli.prediction.inputs import Inputs
from equicli.prediction.signature import asking

# Each is timed at least so often, and all for at least so long.
REPEATS, SECONDS = 6, 1.0
# The repeats are dealt out to so many series; what these say apart is the spread of what all say.
SERIES = 3
# Something disturbed the clock where the spread's ends are so far apart, as a factor.
WIDE = 1.3


class RelativeTime(NamedTuple):
    """A time ÷ another; `low` and `high` of what single series of repeats say of it."""

    value: float
    low: float
    high: float


class Operations(NamedTuple):
    """Floating-point operations for each input, two for a multiplication with its addition (`torch.utils.flop_counter`:
    of matrix products, convolutions and attention; no others).

    canonicalizer: of finding a pose and turning the input back. network: of one pass of the prediction network.
    """

    canonicalizer: int
    network: int


def relative_time(model: AdaptedModel, inputs: Inputs, precision: str) -> RelativeTime:
    """Time of finding poses and turning inputs back ÷ time of the prediction network, on the same inputs.

    The two are timed in turns in one process, after a pass to warm up, because machines drift; and their shortest times
    are compared, because whatever else a machine does only adds. On a CPU it is the processor time of this process,
    which does not count while others have the processor.

    Args:
        inputs: on the model's device.
    """
    return _ratio(_canonicalizing(model, inputs), model, inputs, precision)


def relative_cost(model: AdaptedModel, inputs: Inputs, precision: str) -> RelativeTime:
    """Time of the whole adapted model ÷ time of the prediction network alone; see `relative_time`."""
    return _ratio(lambda: model.answer(inputs), model, inputs, precision)


def count_operations(model: AdaptedModel, inputs: Inputs) -> Operations:
    """Count what no clock can bend; see `Operations`."""
    return Operations(_operations(_canonicalizing(model, inputs), inputs), _operations(_asking(model, inputs), inputs))


def relative_operations(model: AdaptedModel, inputs: Inputs) -> float | None:
    """Operations of the whole adapted model ÷ those of the prediction network alone; None where these are 0."""
    alone = _operations(_asking(model, inputs), inputs)
    return _operations(lambda: model.answer(inputs), inputs) / alone if alone else None


def added_parameters(model: AdaptedModel) -> int:
    return sum(parameter.numel() for parameter in model.canonicalizer.parameters())


def cost_of(model: AdaptedModel, inputs: Inputs, precision: str) -> dict[str, Any]:
    """What `metrics.json` says of the cost."""
    timed, counted = relative_time(model, inputs, precision), count_operations(model, inputs)
    return {
        "added_parameters": added_parameters(model),
        "relative_time": timed.value,
        "relative_time_range": [timed.low, timed.high],
        "canonicalizer_flops": counted.canonicalizer,
        "network_flops": counted.network,
    }


def _operations(function: Callable[[], object], inputs: Inputs) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops()) // len(inputs)


def _canonicalizing(model: AdaptedModel, inputs: Inputs) -> Callable[[], object]:
    def canonicalize() -> object:
        pose = model.find_pose(inputs)
        return inputs.at(model.canonicalizer.group, None if pose is None else pose.element)

    return canonicalize


def _asking(model: AdaptedModel, inputs: Inputs) -> Callable[[], object]:
    ask, shown = asking(model.prediction_network, model.signature), inputs.at(model.canonicalizer.group, None)
    return lambda: ask(shown)


def _ratio(what: Callable[[], object], model: AdaptedModel, inputs: Inputs, precision: str) -> RelativeTime:
    device, alone = device_of(model), _asking(model, inputs)
    with torch.inference_mode(), arithmetic(device, precision):
        model.answer(inputs)
        pairs: list[tuple[float, float]] = []
        start = time.perf_counter()
        while len(pairs) < REPEATS or time.perf_counter() - start < SECONDS:
            pairs.append((_seconds(what, device), _seconds(alone, device)))
    value = _shortest(pairs)
    series = [value, *(_shortest(pairs[first::SERIES]) for first in range(SERIES))]
    return RelativeTime(value, min(series), max(series))


def _shortest(pairs: list[tuple[float, float]]) -> float:
    return min(own for own, _ in pairs) / min(alone for _, alone in pairs)


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    _synchronize(device)
    start = clock()
    function()
    _synchronize(device)
    return clock() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
