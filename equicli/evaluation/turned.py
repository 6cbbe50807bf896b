"""Chains of turns, each carried out after the other, and the mean of a network's outputs over a group."""

from collections.abc import Callable, Sequence

from torch import Tensor

from equicli.adapted import average_outputs, each_view
from equicli.groups import PlanarGroup
from equicli.groups.action import act

Turn = tuple[PlanarGroup, int]
_QUARTERS = PlanarGroup(4, reflections=True)


def turn(image: Tensor, turns: Sequence[Turn], padding: str = "edge") -> Tensor:
    """Act on images (b, c, h, w) by each of `turns`, the first one first.

    Turns by multiples of 90° permute pixels; any other interpolates, as a user's pictures would be.

    Args:
        padding: what turned images show from outside.
    """
    for group, element in turns:
        image = act(group, element, image, padding=padding)
    return image


def symmetrize(
    network: Callable[[Tensor], Tensor], image: Tensor, turns: Sequence[Turn], group: PlanarGroup, padding: str = "edge"
) -> Tensor:
    """The logarithm of the mean over g in `group` of the probabilities (b, k) at g⁻¹ · the turned images."""
    turned = turn(image, _leave_out(turns, group), padding)
    return average_outputs(None, map(network, each_view(group, turned, padding)), "probabilities")


def _leave_out(turns: Sequence[Turn], group: PlanarGroup) -> list[Turn]:
    """A last turn without the part, a multiple of 90° or mirroring, that `group` has, too: a mean over it is the same.

    Of two turns that only differ by such a part, the network then sees the images of one.
    """
    if not turns:
        return []
    *before, (elements, h) = turns
    shared = [q for q in _QUARTERS.elements() if group.find(_QUARTERS.angle(q), _QUARTERS.mirrored(q)) is not None]
    steps = [elements.find(_QUARTERS.angle(q), _QUARTERS.mirrored(q)) for q in shared]
    least = min(elements.compose(q, h) for q in steps if q is not None)
    return [*before, (elements, least)]
