"""How elements act on coordinates: keypoints and boxes in an image, points in space."""

import torch
from torch import Tensor

from equicli.devices import in_float64
from equicli.groups.continuous import about_z
from equicli.groups.elements import Element, Frame, act_on_frame, check_plane, matrix, round_to
from equicli.groups.group import Group


def turn_keypoints(
    group: Group, element: Element, keypoints: Tensor, frame: Frame, canvas: Frame | None = None
) -> Tensor:
    """Act on pixel coordinates (..., 2); see `action.act`."""
    check_plane(group)
    new_frame = act_on_frame(group, element, frame) if canvas is None else canvas
    turn = _in_pixels(group, element)
    # About the centres of both frames. At multiples of 90° the shift is a whole number of pixels, or of their halves.
    centre, new_centre = (turn.new_tensor([width / 2, height / 2]) for height, width in (frame, new_frame))
    return _apply(turn, keypoints, new_centre - (turn * centre).sum(-1))


def turn_boxes(group: Group, element: Element, boxes: Tensor, frame: Frame, canvas: Frame | None = None) -> Tensor:
    """Act on boxes (..., 4), left, top, right, bottom; see `action.act`."""
    corners = torch.stack([boxes[..., [x, y]] for x in (0, 2) for y in (1, 3)], dim=-2)  # (..., 4, 2)
    corners = turn_keypoints(group, element, corners, frame, canvas)
    return torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1)


def boxes_around(masks: Tensor) -> Tensor:
    """The smallest boxes around masks, bool (n, h, w): float32 (n, 4), of an empty one 0, 0, 0, 0."""
    ends = []
    for axis in (1, 2):
        hit = masks.any(dim=axis)
        first = hit.to(torch.uint8).argmax(dim=1)
        last = hit.shape[1] - hit.flip(1).to(torch.uint8).argmax(dim=1)
        ends.append((first, torch.where(hit.any(dim=1), last, first)))
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], dim=1).float()


def turn_points(group: Group, element: Element, points: Tensor) -> Tensor:
    """Act on vectors (..., 3) about the origin; see `action.act`."""
    turn = matrix(group, element)
    return _apply(about_z(turn) if group.dimension == 2 else turn, points)


def _in_pixels(group: Group, element: Element) -> Tensor:
    """The matrix of an element where the y axis points down, (2, 2) or (b, 2, 2)."""
    up = in_float64(matrix(group, element))
    return up * up.new_tensor([[1, -1], [-1, 1]])


def _sum(products: Tensor) -> Tensor:
    """Sum over the last axis; of three numbers the same, bit for bit, in whatever order they come.

    So that (gh)·(h⁻¹x) is g·x exactly where h only swaps axes and changes signs.
    """
    if products.shape[-1] != 3:
        return products.sum(-1)
    a, b, c = products.unbind(-1)
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    middle, high = torch.minimum(high, c), torch.maximum(high, c)
    low, middle = torch.minimum(low, middle), torch.maximum(low, middle)
    return (low + high) + middle


def _apply(turn: Tensor, vectors: Tensor, shift: Tensor | None = None) -> Tensor:
    """Multiply vectors (b, ..., d) by one matrix (d, d) or one for each of the batch (b, d, d), and shift by (b, d).

    Products and sums, not a matmul: mixed precision and TF32 would round it. Entries of 0 and ±1 are exact.
    """
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    if turn.ndim == 3:
        between = (1,) * (vectors.ndim - 2)
        turn = turn.reshape(turn.shape[0], *between, *turn.shape[1:])
        shift = None if shift is None else shift.reshape(shift.shape[0], *between, shift.shape[1])
    out = _sum(turn.to(wide) * wide[..., None, :])
    if shift is not None:
        out = out + shift.to(wide)
    return round_to(out, vectors.dtype)
