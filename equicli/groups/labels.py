"""How elements are written: `r90` for a rotation by 90°, `r90m` where a mirroring left-right comes first."""

import math
import re
from typing import TYPE_CHECKING

from equicli.groups.group import Group, is_finite

if TYPE_CHECKING:
    from torch import Tensor


def parse_label(label: str) -> tuple[float, bool] | None:
    """Read `r90` and `r90m`: the angle in degrees, and whether a mirroring comes first; None is for other texts."""
    match = re.fullmatch(r"r([0-9]{1,3}(?:\.[0-9]{1,9})?)(m?)", label)
    return (float(match[1]), bool(match[2])) if match else None


def read_label(group: Group, label: str) -> "int | Tensor | None":
    """Return the element of any group that a label stands for; None if it is no label, or the group has no such one."""
    pose = parse_label(label)
    return None if pose is None else group.find(*pose)


def write_label(group: Group, element: "int | Tensor") -> str:
    """Return the label of one element of any group; angles of a continuous one are told to 0.001°.

    Raises:
        ValueError: a rotation of space about another axis than z.
    """
    if is_finite(group):
        return group.label(int(element))
    assert not isinstance(element, int)
    rows = element.tolist()
    (a, b), (c, d) = (row[:2] for row in rows[:2])
    if group.dimension == 3 and not math.isclose(rows[2][2], 1, abs_tol=1e-9):
        raise ValueError(f"only rotations about the z axis have labels, not all of {group.name}.")
    angle = round(math.degrees(math.atan2(-b, d)), 3) % 360
    return f"r{angle:g}{'m' if a * d - b * c < 0 else ''}"
