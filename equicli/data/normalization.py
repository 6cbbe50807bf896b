"""Per-channel normalization of RGB images in [0, 1]."""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Normalization(NamedTuple):
    """(x - mean) / std, for red, green and blue of an image in [0, 1]."""

    mean: tuple[Finite, Finite, Finite]
    std: tuple[Positive, Positive, Positive]

    def __call__(self, image: Tensor) -> Tensor:
        """Normalize (..., 3, h, w): uint8 in [0, 255] or floating point in [0, 1], to float32."""
        unit = image.float() / 255 if image.dtype == torch.uint8 else image.float()
        mean, std = (torch.tensor(v, device=image.device).view(3, 1, 1) for v in self)
        return (unit - mean) / std

    def after(self, other: "Normalization") -> tuple[Tensor, Tensor]:
        """Return scale and shift, each (3,), that turn an image normalized by `other` into one normalized by this."""
        own_mean, own_std, other_mean, other_std = (
            torch.tensor(v, dtype=torch.float64) for v in (self.mean, self.std, other.mean, other.std)
        )
        return (other_std / own_std).float(), ((other_mean - own_mean) / own_std).float()


IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
