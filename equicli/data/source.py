"""What training goes through again and again: a Source of images, in memory or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


class Images(NamedTuple):
    """Some images of a source.

    pixels: uint8 (b, 3, s, s), small views before normalization, or inputs of the prediction network.
    aspects: float32 (b,), width ÷ height of the pictures that were squashed to these squares; 1 where none was.
    targets: what is right for each, as the task has it.
    looks: float32 (b, 3, t, t), the normalized views that a canonicalizer is shown of each where a model is evaluated;
        None where they are not kept.
    poses: float32 (b, |G|), how right each pose is for each, or what it costs; None where nothing is known.
    """

    pixels: Tensor
    aspects: Tensor
    targets: list[Any]
    looks: Tensor | None = None
    poses: Tensor | None = None


class Source(Protocol):
    """Images that can be taken by their numbers, in any order and as often as is wanted."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Images:
        """The images of these numbers, int64 (b,), on the training's device."""
        ...


@dataclass(frozen=True)
class Resident:
    """A source of tensors, in memory or mapped from a file, all images of one size. The fields are those of `Images`,
    for all n.
    """

    pixels: Tensor
    aspects: Tensor
    targets: Sequence[Any]
    looks: Tensor | None = None
    poses: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Tensor) -> Images:
        chosen = indices.to(self.pixels.device)
        targets = [self.targets[i] for i in indices.tolist()]
        looks = None if self.looks is None else self.looks[chosen]
        poses = None if self.poses is None else self.poses[indices].to(self.pixels.device)
        return Images(self.pixels[chosen], self.aspects[indices], targets, looks, poses)


@dataclass(frozen=True)
class Joined:
    """Two sources as one, the images of `first` before those of `second`. What is taken comes on the device of `first`;
    it has neither looks nor poses.
    """

    first: Source
    second: Source

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def take(self, indices: Tensor) -> Images:
        later = indices >= len(self.first)
        parts = self.first.take(indices[~later]), self.second.take(indices[later] - len(self.first))
        # Where each lies in these two, one after the other.
        rows = torch.cat([(~later).nonzero(), later.nonzero()])[:, 0].argsort()
        device = parts[0].pixels.device
        pixels = torch.cat([part.pixels.to(device) for part in parts])[rows.to(device)]
        targets = [target for part in parts for target in part.targets]
        aspects = torch.cat([part.aspects for part in parts])[rows]
        return Images(pixels, aspects, [targets[row] for row in rows.tolist()])
