"""The prediction network's outputs at turned inputs, each computed once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equicli.groups import PlanarGroup
from equicli.groups.action import act

Turn = tuple[PlanarGroup, int]
_QUARTERS = PlanarGroup(4, reflections=True)


class TurnedBatch:
    """A batch of images that evaluation turns in many ways, and what the prediction network says of each.

    Turns by multiples of 90° permute pixels, so that chains of them that compose to the same element give the same
    images: the network sees those once. A chain with any other turn is carried out step by step, with an
    interpolation each, as a user's pictures would be.
    """

    def __init__(self, network: nn.Module, variants: Sequence[Tensor], padding: str = "edge") -> None:
        """
        Args:
            variants: the normalized images (b, c, h, w) as they came, one tensor for each picture of the same thing
                (several where the files' pictures were turned).
            padding: what turned images show from outside.
        """
        self._padding = padding
        self._network = network
        self._variants = variants
        self._logits: dict[object, Tensor] = {}

    def images(self, variant: int, turns: Sequence[Turn]) -> Tensor:
        """Variant number `variant`, acted on by each of `turns`, the first one first."""
        image = self._variants[variant]
        composed = _compose_exactly(turns)
        for group, element in turns if composed is None else [(_QUARTERS, composed)]:
            image = act(group, element, image, padding=self._padding)
        return image

    def logits(self, variant: int, turns: Sequence[Turn]) -> Tensor:
        """The prediction network's output (b, k) on `images(variant, turns)`, in float32."""
        turns = [(group, element) for group, element in turns if element != 0]
        composed = _compose_exactly(turns)
        key = (variant, tuple(turns) if composed is None else composed)
        if key not in self._logits:
            self._logits[key] = self._network(self.images(variant, turns)).float()
        return self._logits[key]

    def mean_probabilities(self, variant: int, turns: Sequence[Turn], group: PlanarGroup) -> Tensor:
        """Symmetrization: the mean over g in `group` of the probabilities (b, k) at g⁻¹ · the turned images."""
        turns = _leave_out(turns, group)
        total = torch.stack(
            [self.logits(variant, [*turns, (group, group.inverse(g))]).softmax(dim=-1) for g in group.elements()]
        )
        return total.mean(dim=0)


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


def _compose_exactly(turns: Sequence[Turn]) -> int | None:
    """The element of D4 that a chain of exact turns amounts to; None where one is not exact."""
    composed = 0
    for group, element in turns:
        quarter = _QUARTERS.find(group.angle(element), group.mirrored(element))
        if quarter is None:
            return None
        composed = _QUARTERS.compose(quarter, composed)
    return composed
