"""What a canonicalization network is shown: the image made small and normalized for it, and its turned views."""

import math

import torch
from torch import Tensor, nn

from equicli.data.normalization import Normalization
from equicli.groups import PlanarGroup
from equicli.groups.action import act

_QUARTERS = PlanarGroup(4, reflections=True)
_MIRROR = 4  # left-right


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


def sharp_views(group: PlanarGroup, image: Tensor, disc: Tensor) -> Tensor:
    """Return g⁻¹·x at half the size for every element g of a group that leaves the grid, read inside a disc.

    Interpolation at the final size would blur the views off the grid and not those on it, so that a network could tell
    which are which: upright training photos are always sharp on the grid. So each angle below 90° is turned to once, at
    twice the size and bicubically, and all else permutes pixels. In float64, for the sake of ties; see `shrink`.

    Args:
        image: (b, c, 2s, 2s).
        disc: (2s, 2s), 1 where images are read: a square that is turned off the grid loses its corners.

    Returns:
        (b, |G|, c, s, s).
    """
    size = image.shape[-1] // 2
    below_90 = PlanarGroup(math.lcm(4, group.n))
    steps = below_90.n // 4
    turned: dict[int, Tensor] = {}
    found = []
    for g in group.elements():
        inverse = group.inverse(g)
        mirrored = group.mirrored(inverse)
        step = below_90.find(-group.angle(inverse) % 360 if mirrored else group.angle(inverse), False)
        assert step is not None
        # g⁻¹ = mirror · quarter turns · a turn by less than 90°.
        quarters, rest = divmod(step, steps)
        if rest not in turned:
            view = act(below_90, rest, image.double(), interpolation="bicubic")
            turned[rest] = shrink(view * disc, size).to(image.dtype)
        found.append(act(_QUARTERS, _QUARTERS.compose(_MIRROR if mirrored else 0, quarters), turned[rest]))
    return torch.stack(found, dim=1)


def shrink(image: Tensor, size: int) -> Tensor:
    """Resize (b, c, h, w) to (b, c, size, size), bilinearly and antialiased.

    In float64, so that resizing commutes with turning by 90° to within one float32 rounding, and equal views give
    equal scores.
    """
    if image.shape[-2:] == (size, size):
        return image
    resized = nn.functional.interpolate(image.double(), (size, size), mode="bilinear", antialias=True)
    return resized.to(image.dtype)
