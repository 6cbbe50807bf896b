"""How an element of any group acts on any kind of data: `act`, and `act_on_frame` for an image's height and width."""

import torch
from torch import Tensor

from equicli.groups.coordinates import turn_boxes, turn_keypoints, turn_points
from equicli.groups.elements import Canvas, Element, Frame, act_on_frame, as_single, is_batch, matrix
from equicli.groups.group import FiniteGroup, Group, is_finite
from equicli.groups.images import PADDINGS, inscribed_disc, turn_image

__all__ = [
    "KINDS",
    "PADDINGS",
    "Canvas",
    "Element",
    "Frame",
    "act",
    "act_on_frame",
    "inscribed_disc",
    "kind_of",
    "matrix",
    "views",
]

KINDS = ("image", "mask", "keypoints", "boxes", "points", "logits", "per-point", "invariant")


# Those that no element moves.
STAYING = ("logits", "per-point", "invariant")


def act(
    group: Group,
    element: Element,
    value: Tensor,
    kind: str = "image",
    frame: Frame | None = None,
    *,
    padding: str = "edge",
    interpolation: str = "bilinear",
    canvas: Frame | None = None,
) -> Tensor:
    """Return g·x, of the same kind and dtype.

    Rotations are about the centre of the image or the origin of space, counter-clockwise as the image is displayed or
    as seen from the tip of the axis. Multiples of 90° and mirrorings are exact: pixels are permuted, and coordinates in
    whole or half pixels are not rounded. Any other element interpolates `value` once: compose elements before acting.
    Half precision is computed in float32.

    Args:
        element: of a finite group, a number or an int64 tensor (b,); of a continuous one, a matrix (d, d) or (b, d, d).
            One element acts on all of `value`, a batch of them on the entries of its first axis.
        value: by `kind`,

            - `image`: images and scalar feature maps (..., h, w); integers are interpolated and rounded.
            - `mask`: (..., h, w) of any dtype, also bool; takes the nearest pixel and makes no new value.
            - `keypoints`: (..., 2), x and y in pixels; an image of w x h spans [0, w] x [0, h], so that the centre of
              its first pixel is (0.5, 0.5).
            - `boxes`: (..., 4), left, top, right and bottom in the same pixels. The result is the smallest upright box
              around the turned box, and may reach outside of the frame. Beyond multiples of 90° boxes grow: act(g,
              act(h, box)) contains act(gh, box).
            - `points`: (..., 3), points or directions in space. Groups of the image plane act on x and y.
            - `per-point`: (..., n, k), what is said of each of n points, in their order; it is returned as it is.
            - `logits`, `invariant`: anything; it is returned as it is.
        frame: (height, width) of the image before the action, for keypoints and boxes.
        padding: what images and masks show from outside: the nearest pixel (`edge`), the image mirrored at its border
            (`reflect`), or 0 (`zeros`).
        canvas: (height, width) of the image after the action, about the same centre: images and masks are cut or padded
            to it, keypoints and boxes shifted. None is what `act_on_frame` tells; multiples of 90° stay exact where
            each side is as odd or even as there.

    Returns:
        The same shape as `value`, but for the canvas of images. Images are contiguous, and those that the identity
        leaves may be `value` itself.

    Raises:
        ValueError: there is no such kind or padding, the group does not act on this kind, a frame is missing, there is
            not one element for each value, or images of a batch that are not square would get different shapes.
    """
    element = as_single(group, element)
    if kind in STAYING:
        return value
    if isinstance(element, Tensor) and is_batch(group, element) and element.shape[0] != value.shape[0]:
        raise ValueError(f"{element.shape[0]} elements of {group.name} cannot act on a batch of {value.shape[0]}.")
    match kind:
        case "image":
            return turn_image(group, element, value, padding, interpolation, canvas)
        case "mask":
            return turn_image(group, element, value, padding, "nearest", canvas)
        case "keypoints":
            return turn_keypoints(group, element, value, _known(frame, kind), canvas)
        case "boxes":
            return turn_boxes(group, element, value, _known(frame, kind), canvas)
        case "points":
            return turn_points(group, element, value)
    raise ValueError(f"kind '{kind}' is none of {', '.join(KINDS)}.")


def kind_of(group: Group) -> str:
    """The kind that a group is made for: images of groups of the plane, points of groups of space."""
    return "points" if group.dimension == 3 else "image"


def views(group: Group, image: Tensor, *, padding: str = "edge") -> Tensor:
    """Return g⁻¹·x for every element g of a finite group, in their order: (b, ..., h, w) to (b, |G|, ..., h, w).

    Images that are not square keep their canvas.

    Raises:
        ValueError: 90° changes the shape of images that are not square, or the group is continuous.
    """
    group = _finite(group)
    height, width = image.shape[-2:]
    frame = act_on_frame(group, torch.arange(group.order), (height, width))  # refuses different shapes
    turned = [act(group, group.inverse(g), image, padding=padding, canvas=frame) for g in range(group.order)]
    return torch.stack(turned, dim=1)


def _finite(group: Group) -> FiniteGroup:
    if not is_finite(group):
        raise ValueError(f"{group.name} has infinitely many elements; this needs a finite group, such as c8.")
    return group


def _known(frame: Frame | None, kind: str) -> Frame:
    if frame is None:
        raise ValueError(f"the kind '{kind}' needs the frame (height, width) of the image before the action.")
    return frame
