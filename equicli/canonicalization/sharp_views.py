"""All turned views of an image, off the grid as sharp as on it."""

import math

import torch
from torch import Tensor

from equicli.data.small_view import shrink
from equicli.devices import wide
from equicli.groups import PlanarGroup
from equicli.groups.action import act

_QUARTERS = PlanarGroup(4, reflections=True)
_MIRROR = 4  # left-right


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
            view = act(below_90, rest, wide(image), interpolation="bicubic")
            turned[rest] = shrink(view * disc.to(view.device), size).to(image)
        found.append(act(_QUARTERS, _QUARTERS.compose(_MIRROR if mirrored else 0, quarters), turned[rest]))
    return torch.stack(found, dim=1)
