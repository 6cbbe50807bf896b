"""The continuous groups: SO(2) and O(2) of the image plane, SO(3) and SO(2) about z of space."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class MatrixGroup:
    """All rotations of the plane or of space, whose elements are orthogonal matrices (d, d) or (b, d, d).

    reflections: mirrorings too (O instead of SO).
    about_z: of the rotations of space, those about the z axis only.
    """

    name: str
    dimension: int
    reflections: bool = False
    about_z: bool = False

    @property
    def order(self) -> None:
        """None: there are infinitely many elements."""
        return

    def compose(self, g: "Tensor", h: "Tensor") -> "Tensor":
        """Return gh: h acts first, then g."""
        # Not a matmul, which mixed precision and TF32 would round.
        return (g[..., :, :, None] * h[..., None, :, :]).sum(-2)

    def inverse(self, g: "Tensor") -> "Tensor":
        """Return g⁻¹, the transpose."""
        return g.mT

    def find(self, angle: float, mirrored: bool) -> "Tensor | None":
        """Return the element that mirrors left-right, if so, and then rotates (about z) by `angle` degrees: (d, d).

        float64, with entries of exactly 0 and ±1 at multiples of 90°; None where the group mirrors nothing.
        """
        import torch

        if mirrored and not self.reflections:
            return None
        quarter, rest = divmod(angle % 360, 90)
        cos, sin = math.cos(math.radians(rest)), math.sin(math.radians(rest))
        for _ in range(int(quarter)):
            cos, sin = -sin, cos
        sign = -1 if mirrored else 1
        turn = torch.tensor([[sign * cos, -sin], [sign * sin, cos]], dtype=torch.float64)
        return about_z(turn) if self.dimension == 3 else turn

    def sample(self, count: int, generator: "Generator | None" = None) -> "Tensor":
        """Draw elements uniformly (by the Haar measure): float64 (count, d, d), on the CPU.

        The QR decomposition of a Gaussian matrix with the signs of R made positive (Mezzadri, arXiv math-ph/0609050).
        """
        import torch

        return self.from_gaussian(torch.randn(count, *self.gaussian, generator=generator, dtype=torch.float64))

    @property
    def gaussian(self) -> tuple[int, int]:
        """The shape of the Gaussian matrix that `from_gaussian` makes an element of."""
        d = 2 if self.about_z else self.dimension
        return d, d

    def from_gaussian(self, matrix: "Tensor") -> "Tensor":
        """Make elements (b, d, d), uniform by the Haar measure, of matrices (b, *gaussian) of normal numbers."""
        import torch

        q, r = torch.linalg.qr(matrix)
        q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
        if not self.reflections:
            q = torch.cat([q[..., :1] * torch.linalg.det(q)[:, None, None].sign(), q[..., 1:]], dim=-1)
        return about_z(q) if self.about_z else q


def about_z(matrix: "Tensor") -> "Tensor":
    """Return what acts on x and y as the (…, 2, 2) matrix does, and keeps z: (…, 3, 3)."""
    import torch

    out = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
    return out + torch.diag(out.new_tensor([0, 0, 1]))


CONTINUOUS = {
    group.name: group
    for group in (
        MatrixGroup("so2", 2),
        MatrixGroup("o2", 2, reflections=True),
        MatrixGroup("so3", 3),
        MatrixGroup("so2z", 3, about_z=True),
    )
}
