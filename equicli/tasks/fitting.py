"""Which task fits what a network answers, where another one was asked for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from equicli.errors import EquicliError
from equicli.prediction.promptable import takes_prompts
from equicli.prediction.signature import Signature, try_network

_ASKED = (Signature(), Signature(lists=True))


def check_fits(network: nn.Module, task: str, example: Tensor) -> None:
    """Refuse a network whose answer is that of another task.

    Args:
        example: an image (1, 3, h, w) as the network takes it.

    Raises:
        EquicliError: it is; says which task fits.
    """
    for signature in _ASKED:
        try:
            found = _task_of(try_network(network, signature, example))
        except EquicliError:  # it does not take images so
            continue
        if found is None:
            continue
        if found[0] != task:
            raise EquicliError(f"--model: {found[1]}; write --task {found[0]}, or name another network.")
        return
    if takes_prompts(network):
        raise EquicliError(f"--model: {type(network).__name__} answers prompts; write --task prompted.")


def _task_of(output: Any) -> tuple[str, str] | None:
    if isinstance(output, Tensor) and output.ndim == 2 and output.is_floating_point():
        return "classification", f"a classifier, which says one of {output.shape[1]:,} classes of a whole picture"
    if isinstance(output, list) and output and isinstance(output[0], Mapping) and {"boxes", "scores"} <= set(output[0]):
        return "instances", "a detector, which returns boxes"
    if isinstance(output, Mapping):
        output = next((output[name] for name in ("out", "logits") if name in output), None)
    if isinstance(output, Tensor) and output.ndim == 4 and torch.is_floating_point(output):
        return "semantic", "a network that says a class of every pixel"
    return None
