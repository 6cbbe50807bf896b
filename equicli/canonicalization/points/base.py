"""What all canonicalizers of point clouds have in common: they look at every point, and their poses are matrices."""

from typing import Any

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.groups import Group, MatrixGroup

# Directions shorter than this part of a cloud's size are taken for none.
NONE = 1e-9


class WholeCloud:
    """Looks at all points as they are; stands where canonicalizers of pictures have a small view."""

    whole = False
    normalization = staticmethod(torch.Tensor.float)


class PointCanonicalizer(Canonicalizer):
    """Finds a rotation for each cloud x (b, n, 3) that is centred: ĝ(h·x) = h·ĝ(x), float (b, 3, 3), determinant +1."""

    group: MatrixGroup
    view: Any

    @classmethod
    def takes(cls, group: Group) -> bool:
        return isinstance(group, MatrixGroup) and group.dimension == 3

    def look(self, size: int, normalization: object) -> Any:
        return WholeCloud()


class NoPointCanonicalizer(PointCanonicalizer):
    """Leaves every cloud as it is: the prediction network alone."""

    method = "no canonicalization"
    learns = False
    finds_poses = False


def rotation_of(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The rotation whose third axis is along `first`, and whose first axis is along what `second` has beside it.

    Gram-Schmidt; the remaining axis is their cross product, so that the determinant is +1. Where `first` has no
    length, it is taken for the third axis of space, and where `second` has nothing beside it, for the axis of space
    that is farthest from `first`: a collinear cloud has its canonical form all the same, as a turn about its own line
    does not move it; a cloud with no direction at all has none.

    Args:
        first, second: (b, 3).

    Returns:
        The rotation (b, 3, 3), and the part of `second` at right angles to `first`, (b, 3).
    """
    up = first.new_tensor([0.0, 0.0, 1.0]).expand_as(first)
    third = _unit(first, up)
    beside = second - (second * third).sum(-1, keepdim=True) * third
    least = torch.nn.functional.one_hot(third.detach().abs().argmin(dim=-1), 3).to(third)
    other = least - (least * third).sum(-1, keepdim=True) * third
    x = _unit(beside, other / other.norm(dim=-1, keepdim=True))
    return torch.stack([x, torch.linalg.cross(third, x), third], dim=-1), beside


def _unit(vector: Tensor, otherwise: Tensor) -> Tensor:
    length = vector.detach().norm(dim=-1, keepdim=True)
    there = length > NONE
    safe = torch.where(there, vector, otherwise)
    return torch.where(there, safe / safe.norm(dim=-1, keepdim=True), otherwise)
