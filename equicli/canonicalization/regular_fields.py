"""Canonicalization networks for C_n and D_n: group-equivariant CNNs (Cohen & Welling, arXiv 1602.07576; in EquiAdapt,
arXiv 2310.01647) from images to one score for each element.

A regular field has one channel for each element of the group, in the group's order; acting on the image permutes them.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from equicli.canonicalization.layers import (
    KERNEL_SIZE,
    RINGS,
    Halve,
    KernelConv,
    Window,
    WindowedMean,
    kernel_points,
    plain_conv,
    ring,
)
from equicli.groups import PlanarGroup

Architecture = Literal["gcnn", "gwrn"]


class RegularConv(KernelConv):
    """Convolution from regular fields, or from images, to regular fields: a group convolution.

    K(p)[g, g'] = φ[g⁻¹g'](g⁻¹·p) at every pixel p of its kernel, and K(p)[g] = φ(g⁻¹·p) for images, with φ learned:
    combinations of functions that the pixels resolve at every angle.
    """

    basis: Tensor
    source: Tensor

    def __init__(
        self, group: PlanarGroup, inputs: int, outputs: int, side: int, *, stride: int = 1, images: bool = False
    ) -> None:
        """
        Args:
            inputs, outputs: numbers of fields.
            images: whether the inputs are channels of images, not regular fields.
        """
        super().__init__()
        self.stride = stride
        elements = torch.arange(group.order)
        # g⁻¹g', (|G|, |G|)
        source = torch.zeros_like(elements)[:, None]
        if not images:
            source = group.compose(group.inverse(elements)[:, None], elements)
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("basis", turned_basis(group, side), persistent=False)
        shape = (outputs, inputs, source.shape[1], self.basis.shape[1])
        # The variance of each output is then the mean variance of the inputs.
        self.weight = nn.Parameter(torch.randn(shape) / math.sqrt(math.prod(shape[1:])))

    def kernel(self) -> Tensor:
        phi = torch.einsum("oiuk,gkst->ogiust", self.weight, self.basis)
        kernel = phi.take_along_dim(self.source[None, :, None, :, None, None], 3)
        return kernel.flatten(2, 3).flatten(0, 1)


def turned_basis(group: PlanarGroup, side: int) -> Tensor:
    """Functions ψ of the pixels of a kernel, ring(r) · cos mθ and sin mθ, as ψ(g⁻¹·p): (|G|, k, side, side)."""
    x, y = kernel_points(side)
    turned = []
    for g in group.elements():
        (a, b), (c, d) = group.rows(group.inverse(g))
        point = torch.complex(a * x + b * y, c * x + d * y)
        radius = (x**2 + y**2).sqrt()
        direction = point / radius.where(radius > 0, 1)
        functions = []
        for centre, width, highest in RINGS[: side // 2 + 1]:
            functions.append(ring(radius, centre, width))
            for frequency in range(1, highest + 1):
                wave = ring(radius, centre, width) * direction**frequency
                functions += [wave.real, wave.imag]
        turned.append(torch.stack(functions))
    basis = torch.stack(turned)
    norms: Tensor = basis[0].flatten(1).norm(dim=1)
    return (basis / norms[:, None, None]).float()


class RegularNorm(nn.BatchNorm3d):
    """Batch normalization of (b, fields·|G|, h, w) with one mean and variance for all elements of a field."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unflatten(1, (self.num_features, -1))).flatten(1, 2)


class Residual(nn.Module):
    """The sum of a path and a shortcut."""

    def __init__(self, path: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.path, self.shortcut = path, shortcut

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.path(x) + self.shortcut(x)
        return total


def regular_network(
    group: PlanarGroup, architecture: Architecture, width: int, *, plain: bool = False
) -> nn.Sequential:
    """A network from images (b, 3, s, s) to scores (b, |G|) with s(hg | h·x) = s(g | x).

    The law holds exactly for multiples of 90° and mirrorings, and for other angles as far as pixels allow.

    Args:
        architecture: `gcnn`, a few convolutions; or `gwrn`, a wide residual network of three blocks.
        width: channels at the first stage, in width / |G| regular fields, and at least two.
        plain: with ordinary convolutions, for weights from `make_plain`.
    """
    # Not a single field, which a ReLU could shut for good.
    one, two, four = (max(2, round(factor * width / group.order)) for factor in (1, 2, 4))

    def conv(inputs: int, outputs: int, side: int = KERNEL_SIZE, *, stride: int = 1, images: bool = False) -> nn.Module:
        if plain:
            return plain_conv(inputs if images else inputs * group.order, outputs * group.order, side, stride)
        return RegularConv(group, inputs, outputs, side, stride=stride, images=images)

    def active(fields: int) -> list[nn.Module]:
        return [RegularNorm(fields), nn.ReLU()]

    def block(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
        path = [*active(inputs), conv(inputs, outputs, stride=stride), *active(outputs), conv(outputs, outputs)]
        shortcut = nn.Identity() if inputs == outputs and stride == 1 else conv(inputs, outputs, 1, stride=stride)
        return Residual(nn.Sequential(*path), shortcut)

    stages: list[nn.Module]
    if group.exact:
        # Strides are exact, and a quarter of the work.
        stages = [conv(3, one, stride=2, images=True)]
        if architecture == "gcnn":
            stages += [*active(one), conv(one, two, stride=2), *active(two), conv(two, four, stride=2), *active(four)]
            stages += [conv(four, four)]
        else:
            stages += [block(one, one), block(one, two, 2), block(two, four, 2)]
        stages += [*active(four), nn.AdaptiveAvgPool2d(1)]
    else:
        stages = [Window(), conv(3, one, images=True), *active(one), Halve()]
        if architecture == "gcnn":
            stages += [conv(one, two), *active(two), Halve(), conv(two, four), *active(four), Halve()]
        else:
            stages += [block(one, one), Halve(), block(one, two), Window(), block(two, four), *active(four)]
        stages += [WindowedMean()]
    return nn.Sequential(*stages, conv(four, 1, 1), nn.Flatten())
