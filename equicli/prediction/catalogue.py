"""Names of networks to type, timm's and those of point clouds, and how large each is. No weights are downloaded."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import timm
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from equicli.prediction.points.source import CLASSES, NETWORKS, create
from equicli.prediction.short_names import SHORT_NAMES

MOST = 20  # of timm's names that are listed at once


def find_networks(text: str = "") -> tuple[dict[str, dict[str, Any]], int]:
    """Find the short names that contain a text, or stand for a name that does; where there are none, timm's own.

    Returns:
        By name `model` (timm's full name), `parameters` and `input_size` (side in pixels; None of what takes point
        clouds); and how many more of timm's names contain the text.
    """
    text = text.lower()
    short = {name: full for name, full in SHORT_NAMES.items() if text in name or text in full}
    clouds = [name for name in NETWORKS if text in name]
    if short or clouds:
        found = {name: _describe(full) for name, full in short.items()}
        return found | {name: _describe_of_clouds(name) for name in clouds}, 0
    # Those without outputs are no classifiers.
    names = [name for name in timm.list_pretrained(f"*{text}*") if timm.get_pretrained_cfg(name).num_classes]
    return {name: _describe(name) for name in names[:MOST]}, len(names[MOST:])


def _describe(full: str) -> dict[str, Any]:
    with torch.device("meta"), _NoValues():
        network = timm.create_model(full, pretrained=False)
    return _entry(full, network, timm.get_pretrained_cfg(full).input_size[-1])


def _describe_of_clouds(name: str) -> dict[str, Any]:
    with torch.device("meta"), _NoValues():
        return _entry(name, create(name, {"classes": CLASSES}), None)


def _entry(model: str, network: nn.Module, input_size: int | None) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"model": model, "parameters": parameters, "input_size": input_size}


class _NoValues(TorchFunctionMode):
    """Initializes nothing, which on the meta device has no effect and takes most of the time of building a network."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func.__name__.endswith("_") and not func.__name__.endswith("__"):  # acts in place on its first argument
            return (*args, *options.values())[0]
        if func is torch.linspace:  # from which versions of timm before 1.0.20 take drop rates
            options["device"] = "cpu"
        return func(*args, **options)
