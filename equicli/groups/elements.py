"""An element of any group as a matrix, how far two are apart, and what one does to the frame of an image."""

import math
from typing import Literal, TypeVar

import torch
from torch import Tensor

from equicli.devices import wide, wide_device
from equicli.groups.group import Group, is_finite

# One element for all, or one for each value of a batch. See `Group`.
Element = int | Tensor
# Height and width of an image, in pixels.
Frame = tuple[int, int]
# The result of turning an image: as large as the image, or so large that no corner is lost.
Canvas = Literal["same", "grow"]

Number = TypeVar("Number", float, Tensor)

# An angle that exceeds 45° by less than this counts as 45°, however its matrix was rounded. Of its sine and cosine.
_TIE = 1e-6
# What a grown canvas may cut off, in pixels: matrices are rounded.
_SLIVER = 1e-3


def matrix(group: Group, element: Element) -> Tensor:
    """Return the orthogonal matrix of an element, y axis up: (d, d), or (b, d, d) for a batch of elements.

    float64 for a finite group, else the element itself.

    Raises:
        ValueError: an element of another shape or kind than the group has.
    """
    if is_finite(group):
        if isinstance(element, int):
            return torch.tensor(group.rows(element), dtype=torch.float64)
        table = [group.rows(g) for g in range(group.order)]
        device = wide_device(element.device)
        return torch.tensor(table, dtype=torch.float64, device=device)[element.to(device)]
    d = group.dimension
    if isinstance(element, int) or element.shape[-2:] != (d, d) or element.ndim > 3:
        shape = element if isinstance(element, int) else tuple(element.shape)
        raise ValueError(f"an element of {group.name} is a matrix ({d}, {d}) or a batch (b, {d}, {d}), not {shape}.")
    return element


def as_single(group: Group, element: Element) -> Element:
    """Return a number where a tensor () holds one element of a finite group, as when a batch is taken apart."""
    if isinstance(element, Tensor) and element.ndim == 0 and is_finite(group):
        return int(element)
    return element


def is_batch(group: Group, element: Element) -> bool:
    """Whether there is one element for each value of a batch, not one for all."""
    return isinstance(element, Tensor) and element.ndim == (1 if is_finite(group) else 3)


def inverse(group: Group, element: Element) -> Element:
    """Return g⁻¹ of an element of any group."""
    return group.inverse(element)  # type: ignore[arg-type]


def multiply(group: Group, h: Element, elements: Tensor) -> Tensor:
    """Return hg for each g of a batch of elements, on their device: (b,) or (b, d, d)."""
    if is_finite(group):
        return group.compose(torch.full_like(elements, int(h)), elements)
    return group.compose(torch.as_tensor(h).to(elements), elements)


def singles(group: Group, element: Element, count: int) -> list[Element]:
    """Return one element for each of `count` values.

    Raises:
        ValueError: a batch of another number of elements.
    """
    if not isinstance(element, Tensor) or not is_batch(group, element):
        return [as_single(group, element)] * count
    if element.shape[0] != count:
        raise ValueError(f"{element.shape[0]} elements of {group.name} cannot act on a batch of {count}.")
    return element.tolist() if is_finite(group) else list(element)


def distance(group: Group, g: Element, h: Element) -> Tensor:
    """Return the angle of the rotation that takes h to g, g h⁻¹, in degrees from 0 to 180; batches broadcast.

    inf where one mirrors and the other does not. Computed in float64, and as precise near 0° and 180° as elsewhere.
    """
    a, b = (matrix(group, e) if is_finite(group) else torch.as_tensor(e) for e in (g, h))
    device = next((e.device for e in (g, h) if isinstance(e, Tensor)), a.device)
    a, b = (wide(entries).to(wide_device(device)) for entries in (a, b))
    turn = (a[..., :, None, :] * b[..., None, :, :]).sum(-1)  # a bᵀ, which mixed precision would round as a matmul
    sine = (turn - turn.mT).square().sum((-2, -1)).sqrt() / 8**0.5
    angle = torch.atan2(sine, cosine(a, b)).rad2deg()
    return angle.where(torch.linalg.det(turn) > 0, math.inf)


def cosine(g: Tensor, h: Tensor) -> Tensor:
    """Return the cosine of the angle between rotations that are given as matrices (..., d, d); batches broadcast.

    In the plane it is 0 where one mirrors and the other does not.
    """
    return ((g * h).sum((-2, -1)) - (g.shape[-1] - 2)) / 2


def act_on_frame(group: Group, element: Element, frame: Frame, canvas: Canvas = "same") -> Frame:
    """Return the (height, width) of g·x for an image x of this (height, width).

    `same`: a square stays as it is. One element swaps the sides of a rectangle where the nearest multiple of 90° is 90°
    or 270°; 45° away from two of them, it is the one from which the rest is +45°. A batch of elements keeps a rectangle
    (so that shapes never depend on values).

    `grow`: the smallest canvas about the same centre that holds the whole turned image, to whole pixels; for multiples
    of 90° it is that of `same`.

    Raises:
        ValueError: the frames of a batch would differ, or the group does not act on images.
    """
    element = as_single(group, element)
    check_plane(group)
    if isinstance(element, Tensor) and is_batch(group, element):
        return _batch_frame(group, element, frame, canvas)
    if canvas == "same" and frame[0] == frame[1]:
        return frame
    if is_finite(group) and isinstance(element, int):
        (a, b), (c, d) = group.rows(element)
    else:
        (a, b), (c, d) = matrix(group, element).tolist()
    _, quarters, cos, sin = take_apart(a, b, c, d, 45)
    height, width = frame[::-1] if quarters % 2 else frame
    if canvas == "same":
        return height, width
    return _hold(height * cos + width * abs(sin), height), _hold(width * cos + height * abs(sin), width)


def check_plane(group: Group) -> None:
    """Raise a ValueError unless the group acts on images."""
    if group.dimension != 2:
        raise ValueError(f"{group.name} acts on points in space; it does not act on images or what lies in them.")


def take_apart(
    a: Number, b: Number, c: Number, d: Number, most: int
) -> tuple[float | Number, float | Number, Number, Number]:
    """Take the matrix ((a, b), (c, d)) apart: mirror, then turn by multiples of 90°, then by what is left.

    Args:
        most: what may be left, in degrees: 45 for (-45°, 45°], 90 for [0°, 90°), 180 for [0°, 180°).

    Returns:
        Whether to mirror, how many times 90° to turn, and the cosine and sine of what is left. No arithmetic rounds, so
        that multiples of 90° leave a sine of exactly 0, and what is left is the same bit for bit after any of them.
    """
    mirrored = a * d - b * c < 0
    cos, sin = d, -b  # mirroring changes the first column only
    half = (sin < 0) | ((sin == 0) & (cos < 0))
    cos, sin = (1 - 2 * half) * cos, (1 - 2 * half) * sin
    quarters = 2 * half
    if most < 180:
        quarter = 1 * (cos <= 0)
        cos, sin = (1 - quarter) * cos + quarter * sin, (1 - quarter) * sin - quarter * cos
        quarters = quarters + quarter
    if most < 90:
        quarter = 1 * (sin - cos > _TIE)
        cos, sin = (1 - quarter) * cos + quarter * sin, (1 - quarter) * sin - quarter * cos
        quarters = quarters + quarter
    return mirrored, quarters, cos, sin


def round_to(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what was computed in float32 or float64 in the dtype that it came in; integers are rounded."""
    return (value if dtype.is_floating_point else value.round()).to(dtype)


def _batch_frame(group: Group, element: Tensor, frame: Frame, canvas: Canvas) -> Frame:
    if canvas == "grow":
        frames = {act_on_frame(group, one, frame, canvas) for one in singles(group, element, element.shape[0])}
        if len(frames) > 1:
            raise ValueError(
                f"images of {frame[1]}x{frame[0]} pixels would grow to different sizes. Give a list of them."
            )
        return frames.pop() if frames else frame
    if is_finite(group) and frame[0] != frame[1] and any(group.rows(g)[0][0] == 0 for g in range(group.order)):
        raise ValueError(
            f"images of {frame[1]}x{frame[0]} pixels cannot be turned one by one by {group.name}: "
            "90° changes their shape. Make them square, or give a list of them."
        )
    return frame


def _hold(length: float, side: int) -> int:
    """The smallest whole length that is as odd or even as a side, so that both have the same centre."""
    whole = math.ceil(length - _SLIVER)
    return whole + (whole - side) % 2
