"""The matrix Fisher distribution of a rotation R of space, p(R) ∝ exp tr(FᵀR), and what it says of the vertical alone.

Its normalization is an integral in one variable (T. Lee, Bayesian attitude estimation with the matrix Fisher
distribution on SO(3), arXiv 1710.03746), taken here by Gauss-Legendre quadrature.
"""

import math

import numpy as np
import torch
from torch import Tensor

NODES = 64
_QUADRATURE = np.polynomial.legendre.leggauss(NODES)  # type: ignore[no-untyped-call]


def log_density(parameter: Tensor, poses: Tensor) -> Tensor:
    """Return log p of each of some rotations, relative to the uniform distribution.

    Args:
        parameter: F, (b, 3, 3). poses: R, (k, 3, 3).

    Returns:
        (b, k).
    """
    fit = (parameter[:, None] * poses.to(parameter)).sum((-2, -1))
    return fit - log_normalization(parameter)[:, None]


def log_normalization(parameter: Tensor) -> Tensor:
    """log of the mean of exp tr(FᵀR) over all rotations, (b,).

    Args:
        parameter: F, (b, 3, 3).
    """
    values = torch.linalg.svdvals(parameter)
    sign = torch.linalg.det(parameter.detach()).sign()
    a, b, c = values[:, 0], values[:, 1], values[:, 2] * torch.where(sign < 0, -1.0, 1.0).to(values)
    nodes, weights = _QUADRATURE
    u, w = (torch.from_numpy(part).to(parameter) for part in (nodes, weights))
    # Over the variable that goes with the largest value the integrand is broadest, where it is integrated best.
    low, high = 0.5 * (a - b)[:, None] * (1 - u), 0.5 * (a + b)[:, None] * (1 + u)
    exponent = low + high + c[:, None] * u  # of the Bessel functions and the exponential
    scaled = torch.special.i0e(low) * torch.special.i0e(high)
    total: Tensor = (exponent + (0.5 * w * scaled).log()).logsumexp(dim=1)
    return total


def log_density_of_vertical(parameter: Tensor) -> Tensor:
    """log p that Rz is z, of the von Mises-Fisher distribution of the direction Rz, relative to the uniform one: (b,).

    Args:
        parameter: F, (b, 3, 3), whose third column is the mean direction times its concentration.
    """
    direction = parameter[:, :, 2]
    k = (direction.square().sum(-1) + 1e-12).sqrt()
    # log of sinh k / k, without overflow.
    log_mean = k + (-torch.expm1(-2 * k)).log() - math.log(2) - k.log()
    return direction[:, 2] - log_mean
