"""Resizing as two products with fixed matrices, which any runtime has: what exported programs do.

The weights are those of `torch.nn.functional.interpolate(antialias=True)` and of Pillow, to the last bit. In eager mode
interpolation itself takes a third of the time, as these matrices are mostly zeros.
"""

from collections.abc import Callable

import torch
from torch import Tensor

BAND = 8  # outputs that are computed at once, of the few inputs that they depend on


def triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = -0.5 * (((x - 5) * x + 8) * x - 4)
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), torch.zeros_like(x))


Kernel = Callable[[Tensor], Tensor]
# By Pillow's names, with how far each reaches.
KERNELS: dict[str, tuple[Kernel, float]] = {"bilinear": (triangle, 1), "bicubic": (cubic, 2), "lanczos": (lanczos, 3)}


def weights(
    length: int,
    size: Tensor | int,
    outputs: Tensor,
    interpolation: str = "bilinear",
    device: torch.device | None = None,
) -> Tensor:
    """What each of `length` pixels counts for pixels of a picture that is resized to `size`: float64 (length, outputs).

    Args:
        outputs: which of the resized picture's pixels, (m,); of what lies outside of it all weights are 0.
    """
    kernel, reach = KERNELS[interpolation]
    positions = torch.arange(length, dtype=torch.float64, device=device)
    outputs = outputs.to(torch.float64)
    whole = torch.as_tensor(size, dtype=torch.float64, device=device)
    scale = torch.ones_like(positions).sum() / whole  # by a sum, as a program's length is no number
    stretched = scale.clamp(min=1)
    centre = (outputs + 0.5) * scale
    # Only whole pixels within reach, as Pillow and torch count them.
    first, last = (centre - reach * stretched + 0.5).floor(), (centre + reach * stretched + 0.5).floor()
    near = (positions[:, None] >= first) & (positions[:, None] < last)
    found = kernel((positions[:, None] - centre + 0.5) / stretched) * near
    found = found / found.sum(dim=0)
    inside = (outputs >= 0) & (outputs < whole)
    return torch.where(inside, found, torch.zeros_like(found))


def shrink_by_products(image: Tensor, size: int) -> Tensor:
    """Resize float64 (..., h, w) to (..., size, size), bilinearly and antialiased."""
    height, width = image.shape[-2:]
    outputs = torch.arange(size, device=image.device)
    rows, columns = (weights(side, size, outputs, device=image.device) for side in (height, width))
    tall = torch.cat([part.mT @ image[..., a:b, :] for a, b, part in _bands(rows, height, size)], dim=-2)
    return torch.cat([tall[..., a:b] @ part for a, b, part in _bands(columns, width, size)], dim=-1)


def _bands(matrix: Tensor, length: int, size: int) -> list[tuple[int, int, Tensor]]:
    """A matrix of weights (length, size) in parts: which inputs, from and to, and their weights for BAND outputs."""
    if not isinstance(length, int):  # a program that takes pictures of any size
        return [(0, length, matrix)]
    scale, found = length / size, []
    for start in range(0, size, BAND):
        end, reach = min(start + BAND, size), max(scale, 1)
        a = max(int((start + 0.5) * scale - reach) - 1, 0)
        b = min(int((end - 0.5) * scale + reach) + 2, length)
        found.append((a, b, matrix[a:b, start:end]))
    return found
