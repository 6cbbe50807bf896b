"""Canonicalization networks for SO(2) and O(2): steerable CNNs (Weiler & Cesa, arXiv 1911.08251), images to vectors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

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
from equicli.groups import MatrixGroup

FREQUENCIES = 2
MOMENTUM = 0.1  # of running statistics


@dataclass(frozen=True)
class Irrep:
    """How a field turns: by `frequency` times the angle of the image. With frequency 0 it has one channel and stays as
    it is, but for its sign under mirroring where `odd`; else it has two channels, mirrored as (x, -y) by (x, -y)."""

    frequency: int
    odd: bool = False

    @property
    def size(self) -> int:
        return 2 if self.frequency else 1

    @property
    def parity(self) -> Tensor:
        """(size,): the sign of each channel under the mirroring (x, -y)."""
        return torch.tensor([1.0, -1.0] if self.frequency else [-1.0 if self.odd else 1.0], dtype=torch.float64)

    def turned(self, angle: Tensor) -> Tensor:
        """The matrix of a rotation, (…, size, size)."""
        if not self.frequency:
            return torch.ones_like(angle)[..., None, None]
        cos, sin = (self.frequency * angle).cos(), (self.frequency * angle).sin()
        return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


# The types of fields of a layer, with the number of fields of each. Channels come in this order, field by field.
Layout = Sequence[tuple[Irrep, int]]
TRIVIAL, VECTOR = Irrep(0), Irrep(1)


class SteerableConv(KernelConv):
    """Convolution between fields of O(2) or SO(2): K(g·p) = ρ_out(g) K(p) ρ_in(g)⁻¹ at every pixel p of its kernel."""

    def __init__(self, group: MatrixGroup, inputs: Layout, outputs: Layout, side: int, *, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.outputs, self.side, self.stride = inputs, outputs, side, stride
        self.weights = nn.ParameterDict()  # "o i" to (fields out, fields in, k)
        for o, (after, fields_out) in enumerate(outputs):
            bases = {i: steerable_basis(group, before, after, side) for i, (before, _) in enumerate(inputs)}
            # The variance of each output is then the mean variance of the inputs.
            fan_in = sum(inputs[i][1] * len(basis) for i, basis in bases.items())
            for i, basis in bases.items():
                if len(basis):
                    self.register_buffer(f"basis_{o}_{i}", basis, persistent=False)
                    weight = torch.randn(fields_out, inputs[i][1], len(basis)) / math.sqrt(fan_in)
                    self.weights[f"{o}_{i}"] = nn.Parameter(weight)

    def kernel(self) -> Tensor:
        return torch.cat(
            [torch.cat([self._block(o, i) for i in range(len(self.inputs))], 1) for o in range(len(self.outputs))]
        )

    def _block(self, o: int, i: int) -> Tensor:
        """The kernel between two types of fields."""
        if (name := f"{o}_{i}") not in self.weights:
            rows, columns = channels(self.outputs[o : o + 1]), channels(self.inputs[i : i + 1])
            return next(self.parameters()).new_zeros(rows, columns, self.side, self.side)
        block = torch.einsum("oik,kabst->oaibst", self.weights[name], self.get_buffer(f"basis_{name}"))
        return block.flatten(2, 3).flatten(0, 1)


def steerable_basis(group: MatrixGroup, before: Irrep, after: Irrep, side: int) -> Tensor:
    """All band-limited kernels between two fields, (k, after.size, before.size, side, side); k may be 0.

    In polar coordinates they are K(r, θ) = ring(r) · ρ_after(θ) C ρ_before(θ)⁻¹, for any matrix C; for O(2), of those
    that mirroring keeps.
    """
    x, y = kernel_points(side)
    radius, angle = (x**2 + y**2).sqrt(), torch.atan2(y, x)
    left, right = after.turned(angle), before.turned(angle).mT
    n, m = after.frequency, before.frequency
    if n and m:
        unit, mirror = torch.eye(2, dtype=torch.float64), torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
        quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
        constants = [(abs(n - m), unit), (abs(n - m), quarter), (n + m, mirror), (n + m, mirror @ quarter)]
    else:
        entries = torch.eye(after.size * before.size, dtype=torch.float64)
        constants = [(n + m, entry.view(after.size, before.size)) for entry in entries]
    found = []
    for frequency, constant in constants:
        if group.reflections and (after.parity[:, None] * constant * before.parity != constant).any():
            continue
        angular = left @ constant @ right * ((radius > 0) | (frequency == 0))[..., None, None]
        for centre, width, highest in RINGS[: side // 2 + 1]:
            if frequency <= highest:
                kernel = ring(radius, centre, width)[..., None, None] * angular
                found.append(kernel * math.sqrt(after.size) / kernel.norm())
    if not found:
        return torch.zeros(0, after.size, before.size, side, side)
    return torch.stack(found).permute(0, 3, 4, 1, 2).float().contiguous()


class FieldNorm(nn.Module):
    """Batch normalization of fields: of vectors only the length, whose mean square becomes 1 in each channel."""

    owner: Tensor
    running_square: Tensor

    def __init__(self, layout: Layout) -> None:
        """
        Args:
            layout: trivial fields first.
        """
        super().__init__()
        self.scalars = layout[0][1]
        self.scalar_norm = nn.BatchNorm2d(self.scalars, momentum=MOMENTUM)
        self.register_buffer("owner", owner(layout[1:]), persistent=False)
        self.register_buffer("running_square", torch.ones(fields(layout[1:])))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (b, c, h, w)."""
        scalars, vectors = x[:, : self.scalars], x[:, self.scalars :]
        if self.training:
            # The sums over the channels of each field, over their number.
            zeros = torch.zeros_like(self.running_square)
            square = zeros.index_add(0, self.owner, vectors.float().square().mean((0, 2, 3)))
            square = square / zeros.index_add(0, self.owner, torch.ones_like(self.owner, dtype=square.dtype))
            with torch.no_grad():
                self.running_square.lerp_(square, MOMENTUM)
        else:
            square = self.running_square
        scale = (square + self.scalar_norm.eps).rsqrt()[self.owner]
        return torch.cat([self.scalar_norm(scalars), vectors * scale[:, None, None]], 1)


class Gate(nn.Module):
    """ELU for trivial fields; each other field is multiplied by the sigmoid of a trivial field of its own.

    From channels (trivial fields, gates, other fields) to (trivial fields, other fields).
    """

    owner: Tensor

    def __init__(self, layout: Layout) -> None:
        """
        Args:
            layout: of the output, trivial fields first.
        """
        super().__init__()
        self.sizes = [layout[0][1], fields(layout[1:]), channels(layout[1:])]
        self.register_buffer("owner", owner(layout[1:]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        scalars, gates, vectors = x.split(self.sizes, 1)
        return torch.cat([functional.elu(scalars), vectors * gates.sigmoid()[:, self.owner]], 1)


def channels(layout: Layout) -> int:
    return sum(irrep.size * count for irrep, count in layout)


def fields(layout: Layout) -> int:
    return sum(count for _, count in layout)


def owner(layout: Layout) -> Tensor:
    """The number of the field that each channel belongs to, int64 (channels,)."""
    sizes = [irrep.size for irrep, count in layout for _ in range(count)]
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def steerable_network(group: MatrixGroup, width: int, *, plain: bool = False) -> nn.Sequential:
    """A network from images (b, 3, s, s) to vectors (b, k, 2) that turn with the image: v(R·x) = R v(x), y axis up.

    k is 1 for SO(2), and 2 for O(2), where one vector could not tell an image from its mirror image. The law holds
    exactly for multiples of 90° and mirrorings, and for other angles as far as pixels allow.

    Args:
        width: channels at the first stage, without gates; at least one field of each kind.
        plain: with ordinary convolutions, for weights from `make_plain`.
    """

    def conv(inputs: Layout, outputs: Layout, side: int) -> nn.Module:
        if plain:
            return plain_conv(channels(inputs), channels(outputs), side, 1)
        return SteerableConv(group, inputs, outputs, side)

    kinds = [TRIVIAL, *map(Irrep, range(1, FREQUENCIES + 1))]
    # An image has no odd part that a convolution could see; the first stage does without such fields.
    inner_kinds = [*kinds, Irrep(0, odd=True)] if group.reflections else kinds
    count = width / sum(kind.size for kind in inner_kinds)
    layouts: list[Layout] = [
        [(TRIVIAL, 3)],
        [(kind, max(1, round(count))) for kind in kinds],
        *2 * [[(kind, max(1, round(2 * count))) for kind in inner_kinds]],
    ]
    stages: list[nn.Module] = []
    for stage, (before, after) in enumerate(pairwise(layouts)):
        gated = [(TRIVIAL, fields(after)), *after[1:]]  # a gate for each field that is not trivial
        # At an eighth of the size there would be too few pixels to turn.
        shrink = [Halve()] if stage < 2 else []
        stages += [conv(before, gated, KERNEL_SIZE), FieldNorm(gated), Gate(after), *shrink]
    inner = [(VECTOR, layouts[-1][0][1])]
    vectors = [(VECTOR, 2 if group.reflections else 1)]
    head = [conv(layouts[-1], inner, KERNEL_SIZE), WindowedMean(), conv(inner, vectors, 1)]
    return nn.Sequential(Window(), *stages, *head, nn.Flatten(), nn.Unflatten(1, (fields(vectors), 2)))
