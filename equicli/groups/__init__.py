"""Symmetry groups: their elements and laws (`planar`, `continuous`), and how elements act (`action`).

`parse_group("c4")` gives the group; that needs no torch. `equicli.groups.action.act` moves pixels, boxes and points;
`equicli.groups.transport.transport` lists, tuples and mappings of them.
"""

from collections.abc import Callable

from equicli.errors import UsageError
from equicli.groups.continuous import CONTINUOUS, MatrixGroup
from equicli.groups.group import FiniteGroup, Group, as_finite, is_finite
from equicli.groups.planar import MAX_ORDER, PlanarGroup, parse_planar
from equicli.groups.rotations import Rotations, Turns, acting

__all__ = [
    "FiniteGroup",
    "Group",
    "MatrixGroup",
    "PlanarGroup",
    "Rotations",
    "Turns",
    "acting",
    "as_finite",
    "is_finite",
    "parse_group",
    "parse_planar_group",
]

# What a user can write, and what reads it. A new group is one file and one line here.
REGISTRY: dict[str, Callable[[str], Group | None]] = {
    f"c4 for rotations by 90°, d4 for these and reflections (any number from 1 to {MAX_ORDER})": parse_planar,
    "so2 for all rotations, o2 for these and reflections, so3 and so2z (about the z axis) for points": CONTINUOUS.get,
}


def parse_group(name: str) -> Group:
    """Return the group that `name` (`c4`, `D8`, `so2`, `o2`, `so3`, `so2z`) stands for.

    Raises:
        UsageError: the name is no group, or its order is outside 1..360.
    """
    for parse in REGISTRY.values():
        group = parse(name.strip().lower())
        if group is not None:
            return group
    raise UsageError(f"--group {name}: not a group. Write {'; '.join(REGISTRY)}.")


def parse_planar_group(name: str) -> PlanarGroup:
    """Return the C_n or D_n that `name` stands for, where nothing else will do.

    Raises:
        UsageError: the name is no group, or another one.
    """
    group = parse_group(name)
    if not isinstance(group, PlanarGroup):
        raise UsageError(f"--group {name}: cannot be used here. Write {next(iter(REGISTRY))}.")
    return group
