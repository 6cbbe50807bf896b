"""What a canonicalization network is shown: the image made small and normalized for it."""

import torch
from torch import Tensor, nn

from equicli.data.normalization import Normalization


class SmallInput(nn.Module):
    """From images normalized for the prediction network (b, 3, h, w) to what the canonicalization network sees."""

    def __init__(self, size: int, given: Normalization, wanted: Normalization) -> None:
        """
        Args:
            size: side in pixels of the result.
            given: how the images that `forward` takes were normalized.
            wanted: how the canonicalization network expects its images to be normalized.
        """
        super().__init__()
        self.size = size
        scale, shift = wanted.after(given)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", scale.view(3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return shrink(x.float(), self.size) * self.scale + self.shift


def shrink(image: Tensor, size: int) -> Tensor:
    """Resize (b, c, h, w) to (b, c, size, size), bilinearly and antialiased.

    In float64, so that resizing commutes with turning by 90° to within one float32 rounding, and equal views give
    equal scores.
    """
    if image.shape[-2:] == (size, size):
        return image
    # One channel at a time: all of them at once in float64 take twice as long, most of it spent on fresh memory.
    resized = [
        nn.functional.interpolate(channel.double(), (size, size), mode="bilinear", antialias=True).to(image.dtype)
        for channel in image.split(1, dim=1)
    ]
    return torch.cat(resized, dim=1)
