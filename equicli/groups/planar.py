"""The finite groups of the image plane: C_n (rotations) and D_n (rotations and reflections)."""

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equicli.errors import UsageError
from equicli.groups.group import Index, Rows

if TYPE_CHECKING:
    from torch import Generator, Tensor

MAX_ORDER = 360


@dataclass(frozen=True)
class PlanarGroup:
    """C_n, or D_n with `reflections`.

    An element is the integer `mirrored * n + k`: mirror left-right first (if mirrored), then rotate by `k * 360 / n`
    degrees counter-clockwise as the image is displayed. The identity is 0. The methods that take elements accept
    Python integers and integer tensors alike.
    """

    n: int
    reflections: bool = False

    @property
    def name(self) -> str:
        return f"{'d' if self.reflections else 'c'}{self.n}"

    @property
    def dimension(self) -> int:
        """2, the image plane; points in space are turned about z, and mirrored in x."""
        return 2

    @property
    def order(self) -> int:
        """|G|, the number of elements."""
        return 2 * self.n if self.reflections else self.n

    @property
    def exact(self) -> bool:
        """Whether every element permutes the pixels of a square image, so that nothing is interpolated."""
        return 4 % self.n == 0

    def elements(self) -> range:
        return range(self.order)

    def angle(self, element: int) -> float:
        """Degrees in [0, 360), counter-clockwise as displayed, of the rotation that follows the mirroring."""
        return (element % self.n) * 360 / self.n

    def mirrored(self, element: int) -> bool:
        return element >= self.n

    def label(self, element: int) -> str:
        """`r90` for a rotation by 90°, `r90m` where a mirroring comes first."""
        return f"r{self.angle(element):g}{'m' if self.mirrored(element) else ''}"

    def find(self, angle: float, mirrored: bool) -> int | None:
        """Return the element of this angle in degrees and handedness, or None where the group has none.

        Angles may be rounded as `label` rounds them.
        """
        step = round(angle * self.n / 360)
        # Labels err by 5e-4°, and angles of groups up to MAX_ORDER differ by 2.7e-3°.
        if (mirrored and not self.reflections) or abs(angle - step * 360 / self.n) > 1e-3:
            return None
        return int(mirrored) * self.n + step % self.n

    def sample(self, count: int, generator: "Generator | None" = None) -> "Tensor":
        """Draw elements uniformly: int64 (count,), on the CPU."""
        import torch

        return torch.randint(self.order, (count,), generator=generator)

    def rows(self, element: int) -> Rows:
        """The (2, 2) matrix of an element, y axis up. Its entries are exactly 0 and ±1 where it is a multiple of 90°.

        Raises:
            ValueError: the group has no such element.
        """
        if element not in self.elements():
            raise ValueError(f"{self.name} has no element {element}, only 0 to {self.order - 1}.")
        quarter, rest = divmod(4 * (element % self.n), self.n)
        cos, sin = math.cos(math.pi / 2 * rest / self.n), math.sin(math.pi / 2 * rest / self.n)
        for _ in range(quarter):
            cos, sin = -sin, cos
        sign = -1 if self.mirrored(element) else 1
        return (sign * cos, -sin), (sign * sin, cos)

    def compose(self, g: Index, h: Index) -> Index:
        """Return gh: h acts first, then g."""
        k_g, m_g = g % self.n, g // self.n
        k_h, m_h = h % self.n, h // self.n
        # A mirroring reverses the sense of a rotation that it follows: m r = r⁻¹ m.
        return (k_g + (1 - 2 * m_g) * k_h) % self.n + (m_g + m_h) % 2 * self.n

    def inverse(self, g: Index) -> Index:
        """Return g⁻¹. A mirrored element is its own inverse."""
        k, m = g % self.n, g // self.n
        return (2 * m - 1) * k % self.n + m * self.n


def parse_planar(name: str) -> PlanarGroup | None:
    """Read `c8` and `d4`; None is for other names.

    Raises:
        UsageError: an order outside 1..MAX_ORDER.
    """
    match = re.fullmatch(r"([cd])(\d+)", name)
    if match is None:
        return None
    group = PlanarGroup(n=int(match[2]), reflections=match[1] == "d")
    if not 1 <= group.n <= MAX_ORDER:
        raise UsageError(f"--group {name}: the number of rotations must be from 1 to {MAX_ORDER}, as in c4 or c8.")
    return group
