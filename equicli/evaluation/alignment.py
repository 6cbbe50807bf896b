"""How far the poses that a canonicalizer finds in untouched images are from the prior."""

from typing import NamedTuple

import torch
from torch import Tensor

from equicli.canonicalization.prior import Prior
from equicli.groups import PlanarGroup


class Alignment(NamedTuple):
    """Distances between the distribution of ĝ and the prior's; 0 where they are the same.

    total_variation: in [0, 1].
    wasserstein: Wasserstein-1 distance on the circle in degrees, [0, 180]; nan for groups with reflections.
    mmd: maximum mean discrepancy with the kernel exp(cos(θ - φ) - 1), in [0, √2]; nan for groups with reflections.
    """

    total_variation: float
    wasserstein: float
    mmd: float


def align(group: PlanarGroup, poses: Tensor, prior: Prior) -> Alignment:
    """Compare poses of untouched images with a prior.

    A set of poses stands for the distribution of them to which the poses found have the least way on the circle.

    Args:
        poses: ĝ(x), int64 (n,).
    """
    found = poses.bincount(minlength=group.order).double() / len(poses)
    if prior.shares:
        expected = prior.distribution(group).double()
    else:
        expected = _nearest(group, found, [int(g) for g in prior.elements(group)])
    difference = found - expected
    nan = float("nan")
    variation = float(difference.abs().sum() / 2)
    if group.reflections:
        return Alignment(variation, nan, nan)
    # On a circle mass may flow either way round: the median flow is what the best choice leaves out.
    flow = difference.cumsum(0)
    moved = (flow - flow.median()).abs().sum() * 360 / group.n
    angles = torch.arange(group.n, dtype=torch.float64) * (2 * torch.pi / group.n)
    kernel = torch.exp(torch.cos(angles[:, None] - angles) - 1)
    return Alignment(variation, float(moved), float((difference @ kernel @ difference).clamp(min=0).sqrt()))


def _nearest(group: PlanarGroup, found: Tensor, poses: list[int]) -> Tensor:
    """The distribution over a set of poses that is nearest to another: each pose moves to the closest of them.

    Of its own handedness; where there is none, to the first.
    """
    expected = torch.zeros_like(found)
    for g in range(group.order):
        same = [s for s in poses if group.mirrored(s) == group.mirrored(g)] or poses[:1]
        apart = [abs((group.angle(g) - group.angle(s) + 180) % 360 - 180) for s in same]
        expected[same[apart.index(min(apart))]] += found[g]
    return expected
