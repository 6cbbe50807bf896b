"""Symmetry groups: their elements and laws (`planar`), and how an element acts on an image (`action`).

`parse_group("c4")` gives the group; the group needs no torch. `act` and `views` move pixels.
"""

import re

from equicli.errors import UsageError
from equicli.groups.planar import PlanarGroup

__all__ = ["PlanarGroup", "parse_group"]

MAX_ORDER = 360


def parse_group(name: str) -> PlanarGroup:
    """Return the group that `name` (`c4`, `C8`, `d4`) stands for.

    Raises:
        UsageError: the name is no group, or its order is outside 1..360.
    """
    match = re.fullmatch(r"([cd])(\d+)", name.strip().lower())
    if match is None:
        raise UsageError(f"--group {name}: not a group. Write c4 for rotations by 90°, d4 for these and reflections.")
    group = PlanarGroup(n=int(match[2]), reflections=match[1] == "d")
    if not 1 <= group.n <= MAX_ORDER:
        raise UsageError(f"--group {name}: the number of rotations must be from 1 to {MAX_ORDER}, as in c4 or c8.")
    return group
