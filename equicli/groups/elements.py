"""An element of any group as a matrix, and what it does to the frame of an image."""

import torch
from torch import Tensor

from equicli.groups.group import Group, Rows, is_finite

# One element for all, or one for each value of a batch. See `Group`.
Element = int | Tensor
# Height and width of an image, in pixels.
Frame = tuple[int, int]


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
        return torch.tensor(table, dtype=torch.float64, device=element.device)[element]
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


def act_on_frame(group: Group, element: Element, frame: Frame) -> Frame:
    """Return the (height, width) of g·x for an image x of this (height, width).

    A number that stands for 90° or 270° swaps them. Anything else keeps the canvas as it is: other angles, and every
    element of a continuous group (so that shapes never depend on values).

    Raises:
        ValueError: the frames of a batch would differ, or the group does not act on images.
    """
    element = as_single(group, element)
    if group.dimension != 2:
        raise ValueError(f"{group.name} acts on points in space; it does not act on images or what lies in them.")
    if not is_finite(group) or frame[0] == frame[1]:
        return frame
    if isinstance(element, int):
        return frame[::-1] if _is_sideways(group.rows(element)) else frame
    if any(_is_sideways(group.rows(g)) for g in range(group.order)):
        raise ValueError(
            f"images of {frame[1]}x{frame[0]} pixels cannot be turned one by one by {group.name}: "
            "90° changes their shape. Make them square."
        )
    return frame


def round_to(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what was computed in float32 or float64 in the dtype that it came in; integers are rounded."""
    return (value if dtype.is_floating_point else value.round()).to(dtype)


def _is_sideways(rows: Rows) -> bool:
    return rows[0][0] == 0
