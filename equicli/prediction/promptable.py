"""Networks that answer prompts: points, boxes and masks in a picture, for each of which they draw a mask."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor, nn

from equicli.errors import UsageError

# What may lie beside the picture, for each of n prompts:
# - points (n, k, 2), x and y in pixels; an image of w x h spans [0, w] x [0, h]: the centre of its first pixel is
#   (0.5, 0.5). `point_labels` (n, k): 1 what is meant, 0 what is not; without them all are meant.
# - boxes (n, 4), left, top, right and bottom in the same pixels.
# - masks (n, h, w): bool, or logits.
# - labels (n,): classes, which the answer has, too; 1 where nothing says.
PROMPTS = {
    "points": "keypoints",
    "point_labels": "invariant",
    "boxes": "boxes",
    "masks": "mask",
    "labels": "invariant",
}
# Of a network that takes each image with its prompts.
INPUTS = {"image": "image", **PROMPTS}
# That point at something.
_POINTING = ("points", "boxes", "masks")


class Promptable(Protocol):
    """What such a network has beside `forward`, which does both."""

    def encode(self, image: Tensor) -> Any:
        """What it knows of an image (3, h, w), once for many prompts."""
        ...

    def decode(self, encoded: Any, prompts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks, bool (n, 1, h, w), of n prompts; `boxes` (n, 4) around them, `scores` (n,) and `labels` (n,)."""
        ...


# What a point of a program's is, beside 0 (not meant) and 1 (meant): nothing, and the first and last corner of a box.
NO_POINT, FIRST_CORNER, LAST_CORNER = -1, 2, 3


class InPrograms(Protocol):
    """What it has, too, where programs are made of it: it sees a picture in a square, at its left and top."""

    @property
    def side(self) -> int:
        """The edge of the square, in pixels."""
        ...

    @property
    def pads_boxes(self) -> bool:
        """Whether the last point of every prompt is nothing; else only of those without a box."""
        ...

    def resized(self, frame: Tensor) -> Tensor:
        """(height, width) in the square of a picture of this (height, width): float64 (2,), whole numbers."""
        ...

    def embed(self, square: Tensor) -> tuple[Tensor, ...]:
        """What it knows of a normalized square (1, 3, side, side), outside of the picture 0."""
        ...

    def draw(self, features: Sequence[Tensor], points: Tensor, marks: Tensor) -> tuple[Tensor, Tensor]:
        """Answer n prompts of k points in the square.

        Args:
            features: what `embed` returned. points: (n, k, 2), x and y in pixels of the square. marks: int64 (n, k),
                what each is; see `pads_boxes`.

        Returns:
            Logits (n, 1, s, s) all over the square, and how well each is expected to fit, (n,).
        """
        ...


def makes_programs(network: nn.Module) -> "TypeGuard[InPrograms]":
    return hasattr(network, "embed") and hasattr(network, "draw")


def takes_prompts(network: nn.Module) -> "TypeGuard[Promptable]":
    return hasattr(network, "encode") and hasattr(network, "decode")


def read_prompts(prompts: Mapping[str, Any], frame: tuple[int, int]) -> dict[str, Tensor]:
    """Check prompts of one picture, and take lists of numbers for tensors.

    Args:
        frame: (height, width) of the picture that they lie in.

    Raises:
        UsageError: they are no prompts, or do not go together.
    """
    unknown = sorted(set(prompts) - set(PROMPTS))
    if unknown:
        raise UsageError(f"prompts: '{unknown[0]}' is none of {', '.join(PROMPTS)}.")
    whole = ("point_labels", "labels")
    read = {name: _tensor(name, value) for name, value in prompts.items() if value is not None}
    read = {name: value.long() if name in whole else value for name, value in read.items()}
    for name, value in read.items():
        if not value.ndim:
            raise UsageError(f"prompts: {name} is a single number; of n prompts it has n rows.")
    counts = {name: len(value) for name, value in read.items() if name in _POINTING}
    if not counts:
        raise UsageError(f"prompts: nothing is pointed at; give {', '.join(_POINTING[:-1])} or {_POINTING[-1]}.")
    n = next(iter(counts.values()))
    k = read["points"].shape[1] if "points" in read and read["points"].ndim == 3 else 0
    wanted = {"points": (n, k, 2), "point_labels": (n, k), "boxes": (n, 4), "masks": (n, *frame), "labels": (n,)}
    for name, value in read.items():
        if tuple(value.shape) != wanted[name] or (name == "points" and not k):
            said = "(n, k, 2)" if name == "points" else str(wanted[name])
            raise UsageError(
                f"prompts: {name} of shape {tuple(value.shape)}; of {n} prompts in this picture it is {said}."
            )
        if value.is_floating_point() and not value.isfinite().all():
            raise UsageError(f"prompts: {name} that are not finite.")
    if "point_labels" in read and "points" not in read:
        raise UsageError("prompts: point_labels without points.")
    return read


def count_prompts(prompts: Mapping[str, Tensor]) -> int:
    return next((len(prompts[name]) for name in _POINTING if name in prompts), 0)


def _tensor(name: str, value: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"prompts: {name} are no numbers in a regular array.") from error
    if name == "masks" and not tensor.is_floating_point():
        return tensor != 0
    if tensor.dtype in (torch.bool, torch.float32) or name in ("point_labels", "labels"):
        return tensor
    return tensor.float()
