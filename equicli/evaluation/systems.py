"""What is evaluated beside each other: the network alone, adapted, averaged over all poses, and at the true pose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from equicli.adapted import AdaptedModel, Prediction
from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.prior import Prior
from equicli.groups import Group, PlanarGroup, Turns, acting
from equicli.groups.elements import Element
from equicli.policy import average_outputs
from equicli.prediction.inputs import Inputs, Views
from equicli.prediction.signature import Ask

# In the order of tables.
SYMMETRIZED = "symmetrized"
SYSTEMS = ("vanilla", "adapted", SYMMETRIZED, "oracle")
_QUARTERS = PlanarGroup(4, reflections=True)


@dataclass(frozen=True)
class Turned:
    """A batch of inputs, acted on by one element of R.

    inputs: h·x. element: h.
    exact: whether a turn by 90° only moves pixels; not where pictures are compressed again.
    indices: the inputs' numbers, int64 (b,), by which clouds are turned; of pictures nothing depends on them.
    """

    inputs: Inputs
    elements: Turns
    element: int
    exact: bool = True
    indices: Tensor | None = None


# What a system remembers of a batch, by turn.
Memory = dict[int, Any]


class System(Protocol):
    """One way to predict. Systems themselves keep nothing between calls."""

    @property
    def name(self) -> str: ...

    def passes(self, pose: Pose | None) -> float:
        """Of the prediction network for each input: the mean over those of these poses."""
        ...

    def answer(self, turned: Turned, ask: Ask, memory: Memory) -> Prediction:
        """What it says of a batch at one turn, in the frame of h·x.

        Args:
            ask: asks the prediction network, or knows already what it says.
            memory: empty at the first turn of a batch.
        """
        ...


@dataclass(frozen=True)
class Vanilla:
    """The prediction network alone."""

    model: AdaptedModel
    name: str = "vanilla"

    def passes(self, pose: Pose | None) -> float:
        return 1

    def answer(self, turned: Turned, ask: Ask, memory: Memory) -> Prediction:
        return Prediction(_asked(self.model, turned.inputs, self.model.canonicalizer.group, None, ask), None)


@dataclass(frozen=True)
class Adapted:
    """The artifact that ships.

    cached: whether the network may be known to say the same of equal inputs; else it is asked anew at every turn, which
        measures whether it does.
    """

    model: AdaptedModel
    cached: bool = False
    name: str = "adapted"

    def passes(self, pose: Pose | None) -> float:
        return self.model.passes(pose)

    def answer(self, turned: Turned, ask: Ask, memory: Memory) -> Prediction:
        return self.model.answer(turned.inputs, ask if self.cached else None)


@dataclass(frozen=True)
class Symmetrized:
    """The mean of the network's probabilities over a group.

    What it remembers is by turn what the network said from every pose, and of turns by multiples of 90° only the first.
    """

    model: AdaptedModel
    group: PlanarGroup
    name: str = SYMMETRIZED

    def passes(self, pose: Pose | None) -> float:
        return self.group.order

    def answer(self, turned: Turned, ask: Ask, memory: Memory) -> Prediction:
        h = turned.element
        if turned.exact and isinstance(turned.elements, PlanarGroup):
            h = self._representative(turned.elements, h)
        if h not in memory:  # then h is this turn, as its representative comes first
            views = Views(turned.inputs, self.group, ask, self.model.signature.outputs)
            memory[h] = [views.at(g) for g in range(self.group.order)]
        return Prediction(average_outputs(None, memory[h], "probabilities"), None)

    def _representative(self, elements: PlanarGroup, h: int) -> int:
        """The least of the turns qh, with q a multiple of 90° or mirroring that the group has: their means are one."""
        shared = [
            q for q in _QUARTERS.elements() if self.group.find(_QUARTERS.angle(q), _QUARTERS.mirrored(q)) is not None
        ]
        steps = [elements.find(_QUARTERS.angle(q), _QUARTERS.mirrored(q)) for q in shared]
        return min(elements.compose(q, h) for q in steps if q is not None)


@dataclass(frozen=True)
class Oracle:
    """The network at the true pose: ĝ = h, and before it the pose that the prior names for untouched inputs."""

    model: AdaptedModel
    prior: Prior
    name: str = "oracle"

    def passes(self, pose: Pose | None) -> float:
        return 1

    def answer(self, turned: Turned, ask: Ask, memory: Memory) -> Prediction:
        pose = self._pose(turned, self.model.canonicalizer.group)
        return Prediction(_asked(self.model, turned.inputs, *pose, ask), None)

    def upright(self, inputs: Inputs, elements: Turns, ask: Ask, indices: Tensor | None = None) -> Any:
        """What the network says of untouched inputs in the pose that it expects."""
        group = self.model.canonicalizer.group
        return _asked(self.model, inputs, *self._pose(Turned(inputs, elements, 0, indices=indices), group), ask)

    def _pose(self, turned: Turned, group: Group) -> tuple[Group, Element]:
        """The pose of h·x, in a group that has the elements of R and the poses of the prior."""
        elements, h = turned.elements, turned.element
        if not isinstance(elements, PlanarGroup):
            assert turned.indices is not None
            space, turn = acting(elements, h, turned.indices)
            expected = space.find(*self.prior.main)
            assert isinstance(turn, Tensor) and isinstance(expected, Tensor)
            return space, space.compose(turn, expected)
        steps = group.n if isinstance(group, PlanarGroup) else 360  # poses of others are told in whole degrees
        fine = PlanarGroup(math.lcm(elements.n, steps), reflections=True)
        angle, pose = fine.find(elements.angle(h), elements.mirrored(h)), fine.find(*self.prior.main)
        assert angle is not None and pose is not None
        return fine, fine.compose(angle, pose)


def _asked(model: AdaptedModel, inputs: Inputs, group: Group, element: Element | None, ask: Ask) -> Any:
    return Views(inputs, group, ask, model.signature.outputs).at(element)


def systems_of(
    model: AdaptedModel, prior: Prior, elements: Turns, names: Sequence[str], *, cached: bool
) -> list[System]:
    """The systems of these names, in the order of SYSTEMS.

    Args:
        elements: R; symmetrization averages over it where the model's group is no C_n or D_n.
        cached: see `Adapted`.
    """
    group = model.canonicalizer.group
    every: list[System] = [Vanilla(model), Adapted(model, cached), Oracle(model, prior)]
    averaged = group if isinstance(group, PlanarGroup) else elements
    if isinstance(averaged, PlanarGroup):
        every.insert(2, Symmetrized(model, averaged))
    return [system for system in every if system.name in names]
