"""By which elements test images are turned."""

from equicli.errors import UsageError
from equicli.groups import (
    MatrixGroup,
    PlanarGroup,
    Rotations,
    Turns,
    is_finite,
    parse_group,
    parse_planar_group,
)

# Rotations of each cloud, from each group that is drawn from.
PER_CLOUD = 5


def turns_for(group: str, rotations: int | None = None, elements: str | None = None, seed: int = 0) -> Turns:
    """What test images or clouds are turned by.

    Args:
        group: that was adapted.
        rotations: C_n, whatever the group; of clouds as many random ones, seeded by `seed`.
        elements: without rotations, `group` itself, or only its `rotations`; None is what fits the group.

    Raises:
        UsageError: there are no such turns of images.
    """
    space = parse_group(group)
    if isinstance(space, MatrixGroup) and space.dimension == 3:
        if elements is not None:
            raise UsageError(f"--elements {elements}: point clouds are turned at random; use --rotations, such as 5.")
        if rotations is not None and not 1 <= rotations <= 360:
            raise UsageError(f"--rotations {rotations}: the number of rotations must be from 1 to 360.")
        return Rotations(space, rotations or PER_CLOUD, seed)
    if rotations is not None:
        try:
            return parse_planar_group(f"c{rotations}")
        except UsageError:
            raise UsageError(f"--rotations {rotations}: the number of rotations must be from 1 to 360.") from None
    fitting, adapted = _fitting(group), parse_group(group)
    if elements == "rotations":
        return PlanarGroup(fitting.n)
    if elements == "group" and not is_finite(adapted):
        raise UsageError(f"--elements group: {group} has infinitely many elements; use --rotations, such as 8.")
    if elements == "group" and not isinstance(adapted, PlanarGroup):
        raise UsageError(f"--elements group: reports turn images by C_n and D_n, not by {group}; use --rotations.")
    return fitting


def _fitting(name: str) -> PlanarGroup:
    """What images are turned by unless somebody says otherwise: the group itself, where it is C_n or D_n."""
    group = parse_group(name)
    return group if isinstance(group, PlanarGroup) else PlanarGroup(4 if is_finite(group) else 8)
