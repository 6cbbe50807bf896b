"""How elements act on what is given pixel by pixel, (..., h, w) with the y axis down.

Every element is a multiple of 90° and perhaps a mirroring, followed by what is left: a rotation by less than 90° of a
square image, by 45° at most of a rectangle. The first part permutes pixels and is exact in every dtype. The second,
where there is one, interpolates once. So act(g, act(q, x)) and act(gq, x) are the same bit for bit for every multiple
of 90° and mirroring q, whatever g is. (A batch of rectangles is turned exactly by 180° and interpolated from there.)
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from equicli.devices import moved, wide_device
from equicli.groups.elements import Element, Frame, act_on_frame, is_batch, matrix, round_to, singles, take_apart
from equicli.groups.group import Group, is_finite

# What lies outside of an image: the nearest pixel, the image mirrored at its border, or zero.
PADDINGS = {"edge": "border", "reflect": "reflection", "zeros": "zeros"}
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


def turn_image(
    group: Group,
    element: Element,
    image: Tensor,
    padding: str,
    interpolation: str = "bilinear",
    canvas: Frame | None = None,
) -> Tensor:
    """Act on images, scalar feature maps and masks; see `action.act`.

    Args:
        interpolation: one of INTERPOLATIONS, where the grid is left.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation '{interpolation}' is none of {', '.join(INTERPOLATIONS)}.")
    if padding not in PADDINGS:
        raise ValueError(f"padding '{padding}' is none of {', '.join(PADDINGS)}.")
    height, width = image.shape[-2:]
    batch = is_batch(group, element)
    if batch and canvas is not None and height != width:  # each in its own shape first
        pairs = zip(singles(group, element, image.shape[0]), image, strict=True)
        each = [turn_image(group, one, x, padding, interpolation, canvas) for one, x in pairs]
        return torch.stack(each) if each else image.new_empty((0, *image.shape[1:-2], *canvas))
    act_on_frame(group, element, (height, width))  # refuses what has no shape
    mirrored, quarters, cos, sin = _parts(group, element, 90 if height == width else 180 if batch else 45, image.device)
    if height != width and not batch:
        mirrored, quarters = bool(mirrored), int(quarters)
    image = _permute(image, mirrored, quarters)
    canvas = (image.shape[-2], image.shape[-1]) if canvas is None else canvas
    # Between frames of which one side is odd and one is even, pixels move by half.
    aligned = all((new - old) % 2 == 0 for new, old in zip(canvas, image.shape[-2:], strict=True))
    interpolated = (False if is_finite(group) and group.exact else sin != 0) if aligned else True
    if isinstance(interpolated, Tensor):  # selects, so that no pixel is rounded
        chosen = interpolated.reshape(-1, *[1] * (image.ndim - 1)) if batch else interpolated
        turned = _rotate(image, cos, sin, padding, interpolation, canvas)
        image = torch.where(chosen, turned, _recentre(image, padding, canvas))
    elif interpolated:
        image = _rotate(image, cos, sin, padding, interpolation, canvas)
    else:
        image = _recentre(image, padding, canvas)
    # In one layout whatever was done, because networks sum in another order in another layout.
    return image.contiguous()


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


def _parts(
    group: Group, element: Element, most: int, device: torch.device
) -> tuple[float | Tensor, float | Tensor, float | Tensor, float | Tensor]:
    """What `take_apart` makes of one element, or of each of a batch, (b,)."""
    if not is_finite(group):
        entries = moved(matrix(group, element), device)
        return take_apart(entries[..., 0, 0], entries[..., 0, 1], entries[..., 1, 0], entries[..., 1, 1], most)
    if isinstance(element, int):
        (a, b), (c, d) = group.rows(element)
        return take_apart(a, b, c, d, most)
    rows = [group.rows(g) for g in range(group.order)]
    every = zip(*(take_apart(a, b, c, d, most) for (a, b), (c, d) in rows), strict=True)
    mirrored, quarters, cos, sin = (torch.tensor(values, device=element.device)[element] for values in every)
    return mirrored, quarters, cos, sin


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


def _rotate(
    image: Tensor, cos: float | Tensor, sin: float | Tensor, padding: str, interpolation: str, canvas: Frame
) -> Tensor:
    """Rotate about the centre, in float32 at least; integers are rounded."""
    if interpolation == "nearest":
        return _take_nearest(image, cos, sin, padding, canvas)
    flat = _flatten(image).to(torch.promote_types(image.dtype, torch.float32))
    grid = _grid(flat, cos, sin, canvas)
    turned = functional.grid_sample(
        flat, grid.expand(flat.shape[0], -1, -1, -1), interpolation, PADDINGS[padding], align_corners=False
    )
    if not image.dtype.is_floating_point:  # bicubic interpolation overshoots
        turned = turned.clamp(torch.iinfo(image.dtype).min, torch.iinfo(image.dtype).max)
    return round_to(turned, image.dtype).reshape(*image.shape[:-2], *canvas)


def _take_nearest(mask: Tensor, cos: float | Tensor, sin: float | Tensor, padding: str, canvas: Frame) -> Tensor:
    """Rotate about the centre, taking for each pixel the nearest one: no new value in any dtype, save padding's 0."""
    flat = _flatten(mask).flatten(2)  # (b, c, h·w)
    numbers = torch.arange(1, flat.shape[-1] + 1, dtype=torch.float64, device=wide_device(mask.device))
    numbers = numbers.reshape(1, 1, *mask.shape[-2:])
    grid = _grid(numbers, cos, sin, canvas)
    found = functional.grid_sample(
        numbers.expand(grid.shape[0], -1, -1, -1), grid, "nearest", PADDINGS[padding], align_corners=False
    )
    source = found.long().to(mask.device).flatten(2)  # (1 or b, 1, h'·w'), 0 for outside
    outside = flat.new_zeros(1).expand(*flat.shape[:2], 1)
    taken = torch.cat([outside, flat], dim=-1).gather(-1, source.expand(*flat.shape[:2], -1))
    return taken.reshape(*mask.shape[:-2], *canvas)


def _recentre(image: Tensor, padding: str, canvas: Frame) -> Tensor:
    """Crop or pad to a canvas about the same centre, by whole pixels."""
    for axis, side in zip((-2, -1), canvas, strict=True):
        own = image.shape[axis]
        if own == side:
            continue
        source = torch.arange(side, device=image.device) + (own - side) // 2
        outside = (source < 0) | (source >= own)
        if padding == "reflect":
            source = source % (2 * own)
            source = torch.minimum(source, 2 * own - 1 - source)
        image = image.index_select(axis, source.clamp(0, own - 1))
        if padding == "zeros":
            image = image.masked_fill(outside[:, None] if axis == -2 else outside, 0)
    return image


def _flatten(image: Tensor) -> Tensor:
    """(h, w), (b, h, w) or (b, ..., h, w) to (b, c, h, w). By shape, as len() would fix b in an exported program."""
    image = image[None] if image.ndim == 2 else image
    return image.reshape(image.shape[0], math.prod(image.shape[1:-2]), *image.shape[-2:])


def _grid(image: Tensor, cos: float | Tensor, sin: float | Tensor, canvas: Frame) -> Tensor:
    """Where each pixel of the canvas comes from, as `grid_sample` wants it: (b, h, w, 2), or (1, h, w, 2)."""
    height, width = image.shape[-2:]
    c, s = (torch.as_tensor(v, dtype=image.dtype, device=image.device).reshape(-1, 1, 1) for v in (cos, sin))
    y, x = torch.meshgrid(
        *(torch.arange(side, device=image.device, dtype=image.dtype) - (side - 1) / 2 for side in canvas),
        indexing="ij",
    )
    # The pixel, turned back. y points down.
    return torch.stack([(x * c - y * s) * (2 / width), (x * s + y * c) * (2 / height)], dim=-1)
