"""The matrix Fisher distribution of a rotation R of the plane, or of a rotation or reflection: p(R) ∝ exp tr(FᵀR).

Over SO(2) it is the von Mises distribution of the angle. Its concentration is the length of what a network predicts, so
that a network can say how sure it is; and its negative log-likelihood is convex in F, while 1 - cos θ has no slope
where R is turned by 180°.
"""

import math

import torch
from torch import Tensor

# Below, F has a direction but passes no gradient, which would be as large as 1 / length.
TINY = 1e-6


def mode(parameter: Tensor, reflections: bool) -> Tensor:
    """Return the most probable R, (b, 2, 2), with R Rᵀ = I; it turns with F.

    Args:
        parameter: F, (b, 2, 2). Where it prefers no direction, the identity is returned.
        reflections: choose among reflections, too.
    """
    rotation, reflection = _directions(parameter)
    c, s = _unit(rotation).unbind(-1)
    chosen = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2)
    if not reflections:
        return chosen
    c, s = _unit(reflection).unbind(-1)
    mirrored = torch.stack([torch.stack([c, s], -1), torch.stack([s, -c], -1)], -2)
    better = _length(reflection) > _length(rotation)
    return torch.where(better[:, None, None], mirrored, chosen)


def log_density(parameter: Tensor, poses: Tensor, reflections: bool) -> Tensor:
    """Return log p of each of some R, relative to the uniform distribution.

    Args:
        parameter: F, (b, 2, 2).
        poses: R, (k, 2, 2).

    Returns:
        (b, k).
    """
    fit = (parameter[:, None] * poses.to(parameter)).sum((-2, -1))
    log_rotations, log_reflections = (_log_i0(_length(direction)) for direction in _directions(parameter))
    total = torch.logaddexp(log_rotations, log_reflections) - math.log(2) if reflections else log_rotations
    return fit - total[:, None]


def _directions(parameter: Tensor) -> tuple[Tensor, Tensor]:
    """Two vectors (b, 2): tr(FᵀR) is their product with (cos θ, sin θ), of a rotation and of a reflection."""
    (a, b), (c, d) = ((row[:, 0], row[:, 1]) for row in parameter.unbind(1))
    return torch.stack([a + d, c - b], -1), torch.stack([a - d, c + b], -1)


def _unit(vector: Tensor) -> Tensor:
    # By the larger entry first, so that nothing under- or overflows.
    largest = vector.detach().abs().amax(-1, keepdim=True)
    vector = torch.where(largest > TINY, vector, vector.detach())
    vector = vector / largest.where(largest > 0, 1) + torch.tensor([1.0, 0.0]).to(vector) * (largest == 0)
    unit: Tensor = vector / vector.norm(dim=-1, keepdim=True)
    return unit


def _length(vector: Tensor) -> Tensor:
    return (vector.square().sum(-1) + TINY**2).sqrt()


def _log_i0(x: Tensor) -> Tensor:
    """log of the modified Bessel function I₀, without overflow."""
    value: Tensor = torch.special.i0e(x).log() + x
    return value
