"""The finite groups of the image plane: C_n (rotations) and D_n (rotations and reflections)."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

# One element, or an integer tensor of elements: the laws below are plain arithmetic and hold for both.
Element = TypeVar("Element", int, "Tensor")


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
        """Return the element of this angle in degrees and handedness, or None where the group has none."""
        steps = angle * self.n / 360
        if (mirrored and not self.reflections) or not math.isclose(steps, round(steps), abs_tol=1e-9):
            return None
        return int(mirrored) * self.n + round(steps) % self.n

    def compose(self, g: Element, h: Element) -> Element:
        """Return gh: h acts first, then g."""
        k_g, m_g = g % self.n, g // self.n
        k_h, m_h = h % self.n, h // self.n
        # A mirroring reverses the sense of a rotation that it follows: m r = r⁻¹ m.
        return (k_g + (1 - 2 * m_g) * k_h) % self.n + (m_g + m_h) % 2 * self.n

    def inverse(self, g: Element) -> Element:
        """Return g⁻¹. A mirrored element is its own inverse."""
        k, m = g % self.n, g // self.n
        return (2 * m - 1) * k % self.n + m * self.n
