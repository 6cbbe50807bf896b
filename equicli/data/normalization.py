"""Per-channel normalization of RGB images in [0, 1], or of their luminance."""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


# One of grey, or red, green and blue.
Means = tuple[Finite] | tuple[Finite, Finite, Finite]
Deviations = tuple[Positive] | tuple[Positive, Positive, Positive]


class Normalization(NamedTuple):
    """(x - mean) / std of an image in [0, 1]: for red, green and blue, or for its luminance alone."""

    mean: Means
    std: Deviations

    @property
    def channels(self) -> int:
        """Of the network that it is for: 3, or 1 of grey."""
        return len(self.mean)

    def __call__(self, image: Tensor) -> Tensor:
        """Normalize (..., 3, h, w): uint8 in [0, 255] or floating point in [0, 1], to float32 (..., channels, h, w)."""
        shown = luminance(image) if self.channels == 1 and image.shape[-3] == 3 else image
        unit = shown.float() / 255 if shown.dtype == torch.uint8 else shown.float()
        mean, std = (torch.tensor(v, device=image.device).view(-1, 1, 1) for v in self)
        return (unit - mean) / std

    def rgb(self) -> "Normalization":
        """For three equal channels in place of one."""
        return self if self.channels == 3 else Normalization((self.mean[0],) * 3, (self.std[0],) * 3)

    def grey(self) -> "Normalization":
        """For luminance: the averages of what it is of three channels."""
        return Normalization((sum(self.mean) / self.channels,), (sum(self.std) / self.channels,))

    def after(self, other: "Normalization") -> tuple[Tensor, Tensor]:
        """Return scale and shift, each (3,), that turn an image normalized by `other` into one normalized by this.

        An image of one channel becomes one of three.
        """
        new, old = self.rgb(), other.rgb()
        own_mean, own_std, other_mean, other_std = (
            torch.tensor(v, dtype=torch.float64) for v in (new.mean, new.std, old.mean, old.std)
        )
        return (other_std / own_std).float(), ((other_mean - own_mean) / own_std).float()


def luminance(image: Tensor) -> Tensor:
    """The grey (..., 1, h, w) of an image (..., 3, h, w); of uint8 the same as Pillow's."""
    if image.dtype != torch.uint8:
        weights = image.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
        return (image * weights).sum(dim=-3, keepdim=True)
    red, green, blue = image.int().split(1, dim=-3)
    grey: Tensor = (red * 19595 + green * 38470 + blue * 7471 + (1 << 15)) >> 16
    return grey.to(torch.uint8)


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
