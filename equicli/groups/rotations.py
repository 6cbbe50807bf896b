"""Seeded random rotations of space by which point clouds are turned to measure a model: another for each cloud."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from equicli.groups.continuous import CONTINUOUS, MatrixGroup
from equicli.groups.planar import PlanarGroup

if TYPE_CHECKING:
    from torch import Tensor

    from equicli.groups.elements import Element
    from equicli.groups.group import Group

ABOUT_Z, ALL = CONTINUOUS["so2z"], CONTINUOUS["so3"]


@dataclass(frozen=True)
class Rotations:
    """A list of turns: none, then `n` about z, and of SO(3) then `n` rotations of all of space.

    Turn h of a cloud is drawn by the seed, h and the cloud's number, so that it is the same for every system, in every
    order of clouds and batches. A list, and no group.

    group: the largest that is drawn from, `so2z` or `so3`.
    """

    group: MatrixGroup
    n: int
    seed: int = 0

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def order(self) -> int:
        """How many turns there are."""
        return 1 + self.n * len(self._drawn_from)

    @property
    def exact(self) -> bool:
        return False

    @property
    def scenarios(self) -> dict[str, range]:
        """The turns that are drawn from each group, by its name."""
        return {
            group.name: range(1 + index * self.n, 1 + (index + 1) * self.n)
            for index, group in enumerate(self._drawn_from)
        }

    def elements(self) -> range:
        return range(self.order)

    def angle(self, element: int) -> float:
        """0: rotations of space are told by their labels."""
        return 0.0

    def mirrored(self, element: int) -> bool:
        return False

    def label(self, element: int) -> str:
        """`r0` for none, `so3-2` for the second of SO(3)."""
        if element == 0:
            return "r0"
        return f"{self._drawn_from[(element - 1) // self.n].name}-{(element - 1) % self.n + 1}"

    def matrices(self, element: int, clouds: "Tensor") -> "Tensor":
        """The turn of each cloud: float64 (b, 3, 3).

        Args:
            clouds: their numbers, int64 (b,).
        """
        import numpy as np
        import torch

        if element == 0:
            return torch.eye(3, dtype=torch.float64).expand(len(clouds), 3, 3)
        group = self._drawn_from[(element - 1) // self.n]
        drawn = [
            np.random.default_rng((self.seed, element, cloud)).standard_normal(group.gaussian)
            for cloud in clouds.tolist()
        ]
        return group.from_gaussian(torch.from_numpy(np.stack(drawn)))

    @property
    def _drawn_from(self) -> tuple[MatrixGroup, ...]:
        return (ABOUT_Z, ALL) if self.group.name == ALL.name else (ABOUT_Z,)


# What test inputs are turned by: pictures by all elements of a group, clouds by a list.
Turns: TypeAlias = PlanarGroup | Rotations


def acting(turns: Turns, h: int, indices: "Tensor") -> "tuple[Group, Element]":
    """Turn h as an element of a group: one for all inputs, or of clouds one for each.

    Args:
        indices: the inputs' numbers, int64 (b,).
    """
    if isinstance(turns, PlanarGroup):
        return turns, h
    return ALL, turns.matrices(h, indices)
