"""What the networks of `regular_fields` and `steerable_fields` share: convolutions whose kernels are computed from
fewer weights, so that they are equivariant, and what keeps the sampling of images from breaking that.

The kernels span the spaces that escnn's do, in closed form: escnn solves for those of non-abelian groups (D_n, O(2))
numerically, from random samples, so that in another process the same weights could mean another kernel.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNEL_SIZE = 5
# The radial profiles of a kernel, as escnn has them by default: radius and width of a Gaussian ring, and the highest
# angular frequency that its pixels resolve.
RINGS = ((0, 0.005, 0), (1, 0.6, 2), (2, 0.4, 2))


class Expanded(nn.Module):
    """Part of a network that is computed from fewer weights than it has as ordinary layers, and is shipped as those."""

    def plain(self) -> nn.Module:
        """The same as ordinary layers."""
        raise NotImplementedError


class KernelConv(Expanded):
    """A convolution without bias whose kernel is computed from weights."""

    stride = 1

    def kernel(self) -> Tensor:
        """The kernel (channels out, channels in, side, side), differentiable in the weights."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel()
        return functional.conv2d(x, kernel, stride=self.stride, padding=kernel.shape[-1] // 2)

    @torch.no_grad()
    def plain(self) -> nn.Conv2d:
        """The same as an ordinary convolution."""
        kernel = self.kernel()
        conv = plain_conv(kernel.shape[1], kernel.shape[0], kernel.shape[-1], self.stride).to(kernel)
        conv.weight.copy_(kernel)
        return conv


def plain_conv(inputs: int, outputs: int, side: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False)


def make_plain(network: nn.Module) -> None:
    """Put ordinary layers in place of all `Expanded` ones, which changes nothing but how weights are stored.

    The state dict is then that of the network built with `plain=True`.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, Expanded):
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, module.plain())


def kernel_points(side: int) -> tuple[Tensor, Tensor]:
    """The pixels of a kernel: x to the right and y up from its centre, float64 (side, side) each."""
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    y, x = torch.meshgrid(-axis, axis, indexing="ij")
    return x, y


def ring(radius: Tensor, centre: int, width: float) -> Tensor:
    return torch.exp(-((radius - centre) ** 2) / (2 * width**2))


class Window(nn.Module):
    """Fades an image or a feature map out towards the edge of the inscribed disc.

    What lies outside turns in and out of sight; so would the padding of convolutions, and an edge that is sharp.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * window(x.shape[-1], x)


class WindowedMean(nn.Module):
    """Average over space, weighted as by `Window`: (b, c, s, s) to (b, c, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        weights = window(x.shape[-1], x)
        return (x * (weights / weights.sum())).sum((-2, -1), keepdim=True)


def window(size: int, like: Tensor) -> Tensor:
    """(size, size), in the dtype and on the device of `like`: 1 in the middle, 0 from the inscribed circle on."""
    # Squares of doubled distances are integers, so that the window is symmetric bit for bit.
    axis = 2 * torch.arange(size, device=like.device) - (size - 1)
    radius = (axis[:, None] ** 2 + axis**2).to(like.dtype).sqrt() / 2
    fade = (((size - 1) / 2 - radius) / max(2, size / 8)).clamp(0, 1)
    return fade * fade * (3 - 2 * fade)


class Halve(nn.Module):
    """Halve a feature map without aliasing, and fade it out.

    The filter is binomial, near to a Gaussian and so to round, and reads every second pixel.
    """

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("filter", torch.outer(row, row), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[1]
        half = functional.conv2d(x, self.filter.expand(count, 1, -1, -1), stride=2, padding=2, groups=count)
        return half * window(half.shape[-1], half)
