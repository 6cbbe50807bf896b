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
    scores = _of_pixels(output)
    if scores.ndim == 3:
        return scores
    frame = inputs.shape[-2:]
    if scores.shape[-2:] != frame:
        scores = functional.interpolate(scores.float(), frame, mode="bilinear", align_corners=False)
    if scores.shape[1] == 1:
        return torch.as_tensor(scores[:, 0] > 0, dtype=torch.uint8)
    likeliest = scores.argmax(dim=1)
    return likeliest.to(torch.uint8) if scores.shape[1] <= 256 else likeliest


def classes_and_information(output: Any, inputs: Tensor) -> dict[str, Tensor]:
    """The likeliest class of each pixel, and how much these tell of the image.

    Args:
        output, inputs: see `classes`.

    Returns:
        `classes` as there. `information`, float32 (b,): how much a pixel tells of its class, in nats, from 0 to log k:
        the entropy of the pixels' mean probabilities, less the mean of their entropies. Large where the
        network sees several things and is sure of each; 0 where it says the same of every pixel, and of a network that
        says no scores. It is taken before anything is turned back: a sum over a turned image is rounded otherwise.
    """
    scores = _of_pixels(output)
    said = classes(scores, inputs)
    if scores.ndim == 3:
        return {"classes": said, "information": torch.zeros(len(said), device=said.device)}
    scores = scores.float()
    if scores.shape[1] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
    log_p = scores.log_softmax(dim=1)
    p = log_p.exp()
    mean = p.mean(dim=(2, 3))
    entropies = -(p * log_p).sum(dim=1).mean(dim=(1, 2))
    return {"classes": said, "information": -(mean * mean.clamp_min(1e-30).log()).sum(dim=1) - entropies}


def _of_pixels(output: Any) -> Tensor:
    """Scores (b, k, h, w), or classes (b, h, w)."""
    if isinstance(output, Mapping):
        output = next((output[name] for name in ("out", "logits") if name in output), None)
    if isinstance(output, Tensor) and (output.ndim == 4 or (output.ndim == 3 and not output.is_floating_point())):
        return output
    shape = f" {tuple(output.shape)}" if isinstance(output, Tensor) else ""
    raise ValueError(f"returns {type(output).__name__}{shape}, not a score for each class and pixel (b, k, h, w)")


# From a network's output and its inputs to the output that is declared.
READERS: dict[str, Callable[[Any, Any], Any]] = {
    "": as_it_is,
    "classes_and_information": classes_and_information,
}
