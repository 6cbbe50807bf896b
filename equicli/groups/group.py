"""What every group is to the rest of the program. No torch here: `parse_group` needs none."""

from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar

if TYPE_CHECKING:
    from torch import Generator, Tensor

# The rows of a matrix.
Rows = tuple[tuple[float, ...], ...]
# One element of a finite group, or a batch of them.
Index = TypeVar("Index", int, "Tensor")


class Group(Protocol):
    """A group of rotations, with or without reflections: finite, or continuous.

    A finite group numbers its elements 0 … order - 1, with 0 the identity; a batch of b elements is an int64 tensor
    (b,). The elements of a continuous group are their own orthogonal matrices, floating point (d, d), or (b, d, d) for
    a batch. Matrices are in the mathematical sense: the y axis points up, and positive angles are counter-clockwise as
    the image is displayed, or as seen from the tip of the axis.
    """

    @property
    def name(self) -> str:
        """What `parse_group` reads: `c4`, `so2`."""
        ...

    @property
    def dimension(self) -> int:
        """d: 2 for a group of the image plane, 3 for a group of space."""
        ...

    @property
    def order(self) -> int | None:
        """|G|, the number of elements; None for a continuous group."""
        ...

    def compose(self, g: "Tensor", h: "Tensor", /) -> "Tensor":
        """Return gh: h acts first, then g. Batches broadcast."""
        ...

    def inverse(self, g: "Tensor", /) -> "Tensor":
        """Return g⁻¹."""
        ...

    def sample(self, count: int, generator: "Generator | None" = None, /) -> "Tensor":
        """Draw elements uniformly."""
        ...

    def find(self, angle: float, mirrored: bool, /) -> "int | Tensor | None":
        """Return the element that mirrors left-right, if so, then rotates (about z) by degrees; None without one."""
        ...


class FiniteGroup(Group, Protocol):
    """A group that numbers its elements, and says which matrices the numbers stand for."""

    @property
    def order(self) -> int: ...

    def compose(self, g: Index, h: Index, /) -> Index: ...

    def inverse(self, g: Index, /) -> Index: ...

    @property
    def exact(self) -> bool:
        """Whether every element permutes the pixels of a square image (the voxels of a cube)."""
        ...

    def rows(self, element: int, /) -> Rows:
        """The orthogonal (d, d) matrix of an element. Entries that are 0 or ±1 are exactly so."""
        ...

    def label(self, element: int, /) -> str:
        """What `labels.read_label` reads: `r90`, or `r90m` where a mirroring comes first."""
        ...


def is_finite(group: Group) -> TypeGuard[FiniteGroup]:
    """Whether the elements are numbers (C_n, D_n), not matrices (SO(2))."""
    return group.order is not None


def as_finite(group: Group) -> FiniteGroup:
    """Return a group that is known to be finite."""
    assert is_finite(group), f"{group.name} has infinitely many elements"
    return group
