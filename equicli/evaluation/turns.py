"""By which elements test images are turned."""

from equicli.errors import UsageError
from equicli.groups import PlanarGroup, is_finite, parse_group, parse_planar_group


def turns_for(group: str, rotations: int | None = None, elements: str | None = None) -> PlanarGroup:
    """What test images are turned by.

    Args:
        group: that was adapted.
        rotations: C_n, whatever the group.
        elements: without rotations, `group` itself, or only its `rotations`; None is what fits the group.

    Raises:
        UsageError: there are no such turns of images.
    """
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
