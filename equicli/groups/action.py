"""How elements of a planar group act on images, (..., h, w) with the y axis down.

Multiples of 90° and mirrorings permute pixels (`rot90`, `flip`) and are exact in every dtype. Any other rotation
interpolates once, bilinearly, from the image it is given, on a canvas of the same size.
"""

import math

import torch
from torch import Tensor

from equicli.groups.planar import PlanarGroup

_QUARTERS = PlanarGroup(4, reflections=True)


def act(group: PlanarGroup, element: int | Tensor, image: Tensor) -> Tensor:
    """Return g·x.

    Args:
        element: one element for all images, or one for each, an int64 tensor of shape (b,).
        image: (b, c, h, w), of any dtype where the element is a multiple of 90°, floating point otherwise.

    Returns:
        (b, c, h, w), or (b, c, w, h) where a single element turns a non-square image by 90° or 270°.

    Raises:
        ValueError: images of a batch that are not square would get different shapes.
    """
    if isinstance(element, int):
        quarter = _quarter(group, element)
        if quarter is not None:
            return _act_exactly(quarter, image)
        return _interpolate(group, torch.full((image.shape[0],), element, device=image.device), image)

    quarters = [_quarter(group, g) for g in group.elements()]
    if any(q is not None and q % 2 for q in quarters) and image.shape[-1] != image.shape[-2]:
        raise ValueError(
            f"images of {image.shape[-1]}x{image.shape[-2]} pixels cannot be turned one by one by {group.name}: "
            "90° changes their shape. Make them square."
        )
    # Turned exactly by gathering from the few exact views; a weighted sum would not reproduce the pixels bit for bit.
    exact = [g for g in group.elements() if quarters[g] is not None]
    slots = torch.tensor([exact.index(g) if g in exact else 0 for g in group.elements()], device=image.device)
    turned = torch.stack([act(group, g, image) for g in exact], dim=1)  # (b, exact, c, h, w)
    out = turned[torch.arange(len(image), device=image.device), slots[element]]
    if len(exact) == group.order:
        return out
    is_exact = torch.tensor([q is not None for q in quarters], device=image.device)[element]
    return torch.where(is_exact[:, None, None, None], out, _interpolate(group, element, image))


def views(group: PlanarGroup, image: Tensor) -> Tensor:
    """Return g⁻¹·x for every element g, in their order: (b, c, h, w) with h = w to (b, |G|, c, h, w)."""
    return torch.stack([act(group, group.inverse(g), image) for g in group.elements()], dim=1)


def _quarter(group: PlanarGroup, element: int) -> int | None:
    """The same element in D4, or None where it is no multiple of 90°."""
    return _QUARTERS.find(group.angle(element), group.mirrored(element))


def _act_exactly(quarter: int, image: Tensor) -> Tensor:
    if _QUARTERS.mirrored(quarter):
        image = image.flip(-1)
    return torch.rot90(image, quarter % 4, (-2, -1))


def _interpolate(group: PlanarGroup, element: Tensor, image: Tensor) -> Tensor:
    """Turn each image about its centre, sampling bilinearly; pixels from outside repeat the edge."""
    height, width = image.shape[-2:]
    radians = (element % group.n).to(torch.float32) * (2 * math.pi / group.n)
    cos, sin = radians.cos()[:, None, None], radians.sin()[:, None, None]
    y, x = torch.meshgrid(
        torch.arange(height, device=image.device, dtype=torch.float32) - (height - 1) / 2,
        torch.arange(width, device=image.device, dtype=torch.float32) - (width - 1) / 2,
        indexing="ij",
    )
    # Where each output pixel comes from: turned back by the angle, then mirrored back. y points down.
    source_x, source_y = x * cos - y * sin, x * sin + y * cos  # (b, h, w)
    source_x = torch.where((element >= group.n)[:, None, None], -source_x, source_x)
    grid = torch.stack([source_x * 2 / width, source_y * 2 / height], dim=-1).to(image.dtype)
    return torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
