"""What every canonicalizer is: a module from an input to its pose."""

from typing import NamedTuple

from torch import Tensor, nn

from equicli.groups import PlanarGroup


class Pose(NamedTuple):
    """Where an input stands: x = ĝ·x̂, with x̂ its canonical form.

    For a batch of b inputs and a group of order |G|:
    element: int64 (b,), ĝ as an element of the canonicalizer's group.
    scores: float32 (b, |G|), s(g | x) in the group's order; softmax over them is p(g | x).
    vectors: float32 (b, |G|, d), the unit vectors f(g⁻¹·x) that the scores come from.
    """

    element: Tensor
    scores: Tensor
    vectors: Tensor


class Canonicalizer(nn.Module):
    """Equivariant map from inputs to poses: s(hg | h·x) = s(g | x), hence ĝ(h·x) = h·ĝ(x).

    Its input is what the prediction network takes, already normalized for that network.
    """

    group: PlanarGroup

    def forward(self, x: Tensor) -> Pose:
        raise NotImplementedError

    # nn.Module leaves the type of a call open.
    def __call__(self, x: Tensor) -> Pose:
        return super().__call__(x)  # type: ignore[no-any-return]
