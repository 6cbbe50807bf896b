"""The arrow from one picture of any size, with the prediction network's own preprocessing, bit for bit as Pillow's.

Pillow resizes columns, then rows, and rounds to bytes after each, with weights of 22 bits. (Of a picture that is
squashed it may begin with the rows; then a byte may differ.) All of that is whole numbers, which float64 holds exactly,
so the order of sums rounds nothing. A picture is never turned itself, as the shape of the result would depend on its
pose: the turn is in the weights, whose rows are reversed, and in which side comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.data.preprocess import Preprocess
from equicli.data.resampling import KERNELS, weights
from equicli.data.small_view import SmallView
from equicli.errors import UsageError
from equicli.export.graph import answer
from equicli.groups import Group, as_finite, is_finite
from equicli.groups.elements import Element, Frame, inverse, take_apart
from equicli.groups.transport import Kinds
from equicli.prediction.inputs import stays

_UNIT = 1 << 22  # of Pillow's weights


class PictureGraph(nn.Module):
    """From one picture, uint8 (h, w, 3), to what the model says of it; see `InputsGraph`. Batches are of one."""

    def __init__(self, model: AdaptedModel) -> None:
        """
        Raises:
            UsageError: the model's pictures cannot be prepared so.
        """
        super().__init__()
        why = _refusal(model)
        if why is not None:
            raise UsageError(f"--with-preprocessing: {why}; leave it out.")
        self.model = model

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        assert isinstance(self.model.preprocess, Preprocess)  # as `_refusal` says
        return answer(self.model, OnePicture(picture.permute(2, 0, 1), self.model.preprocess))


def _refusal(model: AdaptedModel) -> str | None:
    group, preprocess = model.canonicalizer.group, model.preprocess
    if not isinstance(preprocess, Preprocess):
        return "this network takes no pictures"
    if not (is_finite(group) and group.exact):
        return f"{group.name} turns pictures off the grid, and this takes a group of 90° steps"
    if preprocess.size is None:
        return "this network takes pictures as they are"
    if preprocess.interpolation not in KERNELS:
        return f"it resizes by {preprocess.interpolation}"
    if not stays(model.signature.outputs):
        return "what this network says lies in the picture"
    return None


@dataclass(frozen=True)
class OnePicture:
    """An input of one picture, uint8 (3, h, w), whose size a program does not know; see `Inputs`."""

    picture: Tensor
    preprocess: Preprocess

    def __len__(self) -> int:
        return 1

    def frames(self) -> list[Frame]:
        return [(self.picture.shape[-2], self.picture.shape[-1])]

    def small(self, view: SmallView) -> Tensor:
        return view.of_picture(self.picture)[None]

    def at(self, group: Group, element: Element | None) -> Tensor:
        number = element if isinstance(element, Tensor) else torch.tensor([element or 0])
        reversed_y, reversed_x, swaps = turns(group)[inverse(group, number)].unbind(dim=1)
        pixels = self.picture.double()
        height, width = self.picture.shape[-2:]
        rows, columns = self._weights(height, width)
        upright = _rows(mix(rows, reversed_y), _columns(pixels, mix(columns, reversed_x)))
        # Of a picture on its side, what are its columns then come first.
        lying_rows, lying_columns = self._weights(width, height)
        lying = _columns(_rows(mix(lying_columns, reversed_y), pixels), mix(lying_rows, reversed_x))
        seen = torch.where(swaps, lying.mT, upright).to(torch.uint8)
        normalized: Tensor = self.preprocess.normalization(seen)[None]
        return normalized

    def back(self, group: Group, element: Element | None, output: Any, kinds: Kinds) -> Any:
        return output

    def turned(self, group: Group, element: Element) -> "OnePicture":
        raise NotImplementedError("a program is asked about a picture as it comes")

    def carried_back(self, group: Group, element: Element, output: Any, kinds: Kinds) -> Any:
        raise NotImplementedError("a program is asked about a picture as it comes")

    def take(self, rows: Tensor) -> "OnePicture":
        return self

    def _weights(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Of a picture's rows and of its columns, in units of 1 / _UNIT: float64 (height, size) and (width, size).

        The places are those of `Preprocess.placement`.
        """
        own = self.preprocess
        assert own.size is not None
        sides = [torch.ones(side, dtype=torch.float64).sum() for side in (height, width)]
        short, resize = torch.minimum(*sides), float(own.resize or own.size)
        found = []
        for side, length in zip(sides, (height, width), strict=True):
            resized = torch.full_like(side, resize) if own.squash else (resize * side / short).floor()
            gap = resized - own.size
            half = gap.clamp(min=0) / 2
            start = (half.floor() if own.floor else half.round()) - ((-gap).clamp(min=0) / 2).floor()
            exact = weights(length, resized, torch.arange(own.size) + start, own.interpolation)
            found.append(exact.sign() * (exact.abs() * _UNIT + 0.5).floor())
        return found[0], found[1]


def turns(group: Group) -> Tensor:
    """For each element: whether it reverses rows, whether it reverses columns, and then swaps both: bool (|G|, 3)."""
    table: list[Sequence[bool]] = []
    for g in range(as_finite(group).order):
        (a, b), (c, d) = as_finite(group).rows(g)
        mirrored, quarters, _, _ = take_apart(a, b, c, d, 90)
        table.append((quarters in (2, 3), (quarters in (1, 2)) != bool(mirrored), quarters % 2 == 1))
    return torch.tensor(table)


def mix(matrix: Tensor, reverse: Tensor) -> Tensor:
    return torch.where(reverse, matrix.flip(0), matrix)


def _rows(matrix: Tensor, pixels: Tensor) -> Tensor:
    return _bytes(matrix.mT @ pixels)


def _columns(pixels: Tensor, matrix: Tensor) -> Tensor:
    return _bytes(pixels @ matrix)


def _bytes(weighed: Tensor) -> Tensor:
    """Round to bytes as Pillow does."""
    return ((weighed + _UNIT / 2) / _UNIT).floor().clamp(0, 255)
