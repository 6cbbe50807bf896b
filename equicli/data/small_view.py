"""The small view: what a canonicalizer looks at, the whole picture or its central square made small."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equicli.data.normalization import Normalization
from equicli.data.resampling import shrink_by_products
from equicli.devices import in_float64

LARGE = 3 * 512 * 512  # numbers in a picture


@dataclass(frozen=True)
class SmallView:
    """A square image of `size` pixels a side, normalized for the canonicalization network.

    whole: the whole picture, squashed to a square: right for groups of multiples of 90° and mirrorings, which take a
        squashed picture to the squashed turned picture. Else the central square, never squashed: other angles would
        make another shape of it.
    """

    size: int
    normalization: Normalization
    whole: bool = True

    def of_picture(self, picture: Tensor) -> Tensor:
        """From uint8 pixels (..., 3, h, w) of any size to (..., 3, size, size), float32."""
        return self.normalization(self.pixels(picture) / 255)

    def of_input(self, x: Tensor, given: Normalization) -> Tensor:
        """From images (b, 3, h, w) that are normalized as `given` to (b, 3, size, size), float32."""
        scale, shift = (value.to(x.device).view(3, 1, 1) for value in self.normalization.after(given))
        return self.pixels(x) * scale + shift

    def pixels(self, image: Tensor) -> Tensor:
        """The view before it is normalized, float32 (..., c, size, size), in the units of the image (..., c, h, w)."""
        return shrink(image if self.whole else central_square(image), self.size)


def shrink(image: Tensor, size: int) -> Tensor:
    """Resize (..., c, h, w) to (..., c, size, size), bilinearly and antialiased, float32.

    In float64, so that resizing commutes with turning by 90° to within one float32 rounding, and equal views give
    equal scores. In programs that are traced, which other runtimes may run, by products; see `resampling`.
    """
    if image.shape[-2:] == (size, size):
        return image.float()
    if torch.compiler.is_compiling():
        return shrink_by_products(in_float64(image), size).float().to(image.device)
    batch = image.unsqueeze(0) if image.ndim == 3 else image
    # Of large pictures one channel at a time: all at once in float64 take longer, most of it spent on fresh memory.
    channels = 1 if batch.numel() > LARGE else batch.shape[1]
    resized = [
        nn.functional.interpolate(in_float64(part), (size, size), mode="bilinear", antialias=True).float()
        for part in batch.split(channels, dim=1)
    ]
    return torch.cat(resized, dim=1).to(image.device).reshape(*image.shape[:-2], size, size)


def central_square(image: Tensor) -> Tensor:
    """The central square (..., s, s) of (..., h, w), s = min(h, w).

    An odd margin is split into halves: the image is shifted by half a pixel, the mean of two cuts, so that the square
    commutes with turning and mirroring, bit for bit.
    """
    side = min(image.shape[-2:])
    for axis in (-2, -1):
        start, odd = divmod(image.shape[axis] - side, 2)
        cut = image.narrow(axis, start, side)
        image = (cut.float() + image.narrow(axis, start + 1, side).float()) / 2 if odd else cut
    return image
