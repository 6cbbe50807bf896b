"""How what a network returns becomes what its signature says. Named in artifacts."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def as_it_is(output: Any, inputs: Any) -> Any:
    return output


def classes(output: Any, inputs: Tensor) -> Tensor:
    """The likeliest class of each pixel: uint8 (b, h, w), or int64 of more than 256 classes.

    Args:
        output: a score for each class and pixel, (b, k, h', w'), or a mapping with these as `out` (torchvision) or
            `logits` (transformers); scores of fewer pixels are interpolated. k = 1 is one class beside the background.
            Or classes, integers (b, h, w), already.
        inputs: the images, (b, c, h, w).

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(output, Mapping):
        output = next((output[name] for name in ("out", "logits") if name in output), None)
    if isinstance(output, Tensor) and output.ndim == 3 and not output.is_floating_point():
        return output
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = f" {tuple(output.shape)}" if isinstance(output, Tensor) else ""
        raise ValueError(f"returns {type(output).__name__}{shape}, not a score for each class and pixel (b, k, h, w)")
    frame = inputs.shape[-2:]
    if output.shape[-2:] != frame:
        output = functional.interpolate(output.float(), frame, mode="bilinear", align_corners=False)
    if output.shape[1] == 1:
        return torch.as_tensor(output[:, 0] > 0, dtype=torch.uint8)
    likeliest: Tensor = output.argmax(dim=1)
    return likeliest.to(torch.uint8) if output.shape[1] <= 256 else likeliest


# From a network's output and its inputs to the output that is declared.
READERS: dict[str, Callable[[Any, Any], Any]] = {"": as_it_is, "classes": classes}
