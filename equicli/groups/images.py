"""How elements act on what is given pixel by pixel, (..., h, w) with the y axis down.

Every element is a multiple of 90° and perhaps a mirroring, followed by a rotation by less than 90°. The first part
permutes pixels and is exact in every dtype. The second, where there is one, interpolates once, on a canvas of the same
size. So act(g, act(q, x)) and act(gq, x) are the same bit for bit for every multiple of 90° and mirroring q, whatever g
is. (Images that are not square are turned exactly by 180° and interpolated from there.)
"""

import math
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from equicli.groups.elements import Element, act_on_frame, matrix, round_to
from equicli.groups.group import FiniteGroup, Group, Rows, is_finite

# What lies outside of an image: the nearest pixel, the image mirrored at its border, or zero.
PADDINGS = {"edge": "border", "reflect": "reflection", "zeros": "zeros"}
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")

Number = TypeVar("Number", float, Tensor)


def turn_image(group: Group, element: Element, image: Tensor, padding: str, interpolation: str = "bilinear") -> Tensor:
    """Act on images, scalar feature maps and masks; see `action.act`.

    Args:
        interpolation: one of INTERPOLATIONS, where the grid is left.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation '{interpolation}' is none of {', '.join(INTERPOLATIONS)}.")
    if padding not in PADDINGS:
        raise ValueError(f"padding '{padding}' is none of {', '.join(PADDINGS)}.")
    height, width = frame = image.shape[-2:]
    quarters = act_on_frame(group, element, (height, width)) != frame or height == width
    parts: tuple[float | Tensor, ...]
    if not is_finite(group):
        entries = matrix(group, element)
        parts = _split(entries[..., 0, 0], entries[..., 0, 1], entries[..., 1, 0], entries[..., 1, 1], quarters)
    elif isinstance(element, int):
        parts = _split_rows(group.rows(element), quarters)
    else:
        every = zip(*(_split_rows(group.rows(g), quarters) for g in range(group.order)), strict=True)
        parts = tuple(torch.tensor(values, device=element.device)[element] for values in every)
    mirrored, half, quarter, cos, sin = parts
    image = _permute(image, mirrored, 2 * half + quarter)
    if not (is_finite(group) and group.exact):
        rotated = sin != 0
        if isinstance(rotated, Tensor):  # selects, so that no pixel is rounded
            rotated = rotated.reshape(-1, *[1] * (image.ndim - 1))
            image = torch.where(rotated, _rotate(image, cos, sin, padding, interpolation), image)
        elif rotated:
            image = _rotate(image, cos, sin, padding, interpolation)
    # In one layout whatever was done, because networks sum in another order in another layout.
    return image.contiguous()


def turn_regular(group: FiniteGroup, element: Element, feature: Tensor, padding: str) -> Tensor:
    """Act on feature maps in the regular representation: turn each, and permute them by γ ↦ gγ; see `action.act`."""
    if feature.ndim < 3 or feature.shape[-3] != group.order:
        raise ValueError(f"a regular feature map of {group.name} is (..., {group.order}, h, w), not {feature.shape}.")
    turned = turn_image(group, element, feature, padding)
    g = torch.as_tensor(element, device=feature.device)
    source = group.compose(group.inverse(g)[..., None], torch.arange(group.order, device=feature.device))
    shape = source.shape[:-1] + (1,) * (feature.ndim - 2 - source.ndim) + (group.order, 1, 1)
    return turned.take_along_dim(source.reshape(shape), dim=-3)


def inscribed_disc(size: int | tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return the pixels of an image that are its own at every angle.

    Args:
        size: the side of a square image, or (height, width).

    Returns:
        bool (height, width): the pixels whose centres lie in the largest centred disc that an interpolation at any
        angle fills without padding, of diameter min(height, width) - 1.
    """
    height, width = (size, size) if isinstance(size, int) else size
    # Doubled, so that these are integers and the disc is symmetric bit for bit.
    y = 2 * torch.arange(height, device=device) - (height - 1)
    x = 2 * torch.arange(width, device=device) - (width - 1)
    return y[:, None] ** 2 + x**2 <= (min(height, width) - 1) ** 2


def _split_rows(rows: Rows, quarters: bool) -> tuple[float, float, float, float, float]:
    (a, b), (c, d) = rows
    return _split(a, b, c, d, quarters)


def _split(
    a: Number, b: Number, c: Number, d: Number, quarters: bool
) -> tuple[float | Number, float | Number, float | Number, Number, Number]:
    """Take the matrix ((a, b), (c, d)) apart: mirror, then turn by 180°, by 90°, and by what is left.

    Returns:
        Whether to do each of the first three; cosine and sine of what is left, an angle in [0°, 90°), or in [0°, 180°)
        without `quarters`. No arithmetic rounds, so that multiples of 90° leave a sine of exactly 0.
    """
    mirrored = a * d - b * c < 0
    cos, sin = d, -b  # mirroring changes the first column only
    half = (sin < 0) | ((sin == 0) & (cos < 0))
    cos, sin = (1 - 2 * half) * cos, (1 - 2 * half) * sin
    if not quarters:
        return mirrored, half, False, cos, sin
    quarter = 1 * (cos <= 0)
    return mirrored, half, quarter, (1 - quarter) * cos + quarter * sin, (1 - quarter) * sin - quarter * cos


def _permute(image: Tensor, mirrored: float | Tensor, quarters: float | Tensor) -> Tensor:
    """Mirror left-right, if so, then rotate by `quarters` times 90°: of all images, or of each of a batch."""
    if not isinstance(mirrored, Tensor) and not isinstance(quarters, Tensor):
        return _turn(image, bool(mirrored), int(quarters))
    # One gather, which copies each pixel once, and not every turn of every image.
    height, width = image.shape[-2:]
    step = 1 if height == width else 2
    pixels = torch.arange(height * width, device=image.device).reshape(height, width)
    turns = torch.stack([_turn(pixels, bool(m), k).flatten() for m in (0, 1) for k in range(0, 4, step)])
    chosen = torch.as_tensor(mirrored * (4 // step) + quarters // step, device=image.device).long().reshape(-1)
    flat = _flatten(image).flatten(2)  # (b, c, h·w)
    return flat.gather(-1, turns[chosen][:, None].expand_as(flat)).reshape(image.shape)


def _turn(image: Tensor, mirrored: bool, quarters: int) -> Tensor:
    return torch.rot90(image.flip(-1) if mirrored else image, quarters, (-2, -1))


def _rotate(image: Tensor, cos: float | Tensor, sin: float | Tensor, padding: str, interpolation: str) -> Tensor:
    """Rotate about the centre, in float32 at least; integers are rounded."""
    if interpolation == "nearest":
        return _take_nearest(image, cos, sin, padding)
    flat = _flatten(image).to(torch.promote_types(image.dtype, torch.float32))
    grid = _grid(flat, cos, sin)
    turned = functional.grid_sample(
        flat, grid.expand(flat.shape[0], -1, -1, -1), interpolation, PADDINGS[padding], align_corners=False
    )
    if not image.dtype.is_floating_point:  # bicubic interpolation overshoots
        turned = turned.clamp(torch.iinfo(image.dtype).min, torch.iinfo(image.dtype).max)
    return round_to(turned, image.dtype).reshape(image.shape)


def _take_nearest(mask: Tensor, cos: float | Tensor, sin: float | Tensor, padding: str) -> Tensor:
    """Rotate about the centre, taking for each pixel the nearest one: no new value in any dtype, save padding's 0."""
    flat = _flatten(mask).flatten(2)  # (b, c, h·w)
    numbers = torch.arange(1, flat.shape[-1] + 1, dtype=torch.float64, device=mask.device)
    numbers = numbers.reshape(1, 1, *mask.shape[-2:])
    grid = _grid(numbers, cos, sin)
    found = functional.grid_sample(
        numbers.expand(grid.shape[0], -1, -1, -1), grid, "nearest", PADDINGS[padding], align_corners=False
    )
    source = found.long().flatten(2)  # (1 or b, 1, h·w), 0 for outside
    outside = flat.new_zeros(1).expand(*flat.shape[:2], 1)
    return torch.cat([outside, flat], dim=-1).gather(-1, source.expand_as(flat)).reshape(mask.shape)


def _flatten(image: Tensor) -> Tensor:
    """(h, w), (b, h, w) or (b, ..., h, w) to (b, c, h, w). By shape, as len() would fix b in an exported program."""
    image = image[None] if image.ndim == 2 else image
    return image.reshape(image.shape[0], math.prod(image.shape[1:-2]), *image.shape[-2:])


def _grid(image: Tensor, cos: float | Tensor, sin: float | Tensor) -> Tensor:
    """Where each pixel comes from, as `grid_sample` wants it: (b, h, w, 2), or (1, h, w, 2) for one angle."""
    height, width = image.shape[-2:]
    c, s = (torch.as_tensor(v, dtype=image.dtype, device=image.device).reshape(-1, 1, 1) for v in (cos, sin))
    y, x = torch.meshgrid(
        torch.arange(height, device=image.device, dtype=image.dtype) - (height - 1) / 2,
        torch.arange(width, device=image.device, dtype=image.dtype) - (width - 1) / 2,
        indexing="ij",
    )
    # The pixel, turned back. y points down.
    return torch.stack([(x * c - y * s) * (2 / width), (x * s + y * c) * (2 / height)], dim=-1)
