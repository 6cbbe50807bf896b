"""Poses that nothing learns, for baselines: none, and those of a frame."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from equicli.canonicalization.canonicalizer import SIZE, Canonicalizer, Context, Pose
from equicli.devices import wide
from equicli.groups import FiniteGroup, Group, PlanarGroup
from equicli.groups.action import inscribed_disc
from equicli.prediction.inputs import Inputs
from equicli.prediction.signature import Ask
from equicli.settings import CanonicalizerSettings


class NoCanonicalizer(Canonicalizer):
    """Leaves every input as it is: the prediction network alone, or averaged over all poses (arXiv 1804.10306)."""

    method = "no canonicalization"
    learns = False
    finds_poses = False
    group: FiniteGroup


@dataclass(frozen=True)
class FrameSpec:
    """`size` is the side in pixels of what it looks at; None, in artifacts of format 1, what the network is shown."""

    size: Annotated[int, Field(ge=1, le=4096)] | None


class FrameCanonicalizer(Canonicalizer):
    """The frame of Puny et al. (arXiv 2110.03336) for images: the brightness gradient's direction, as an element.

    The mean of brightness · (position from the centre) within the inscribed disc is a vector m(x) with m(g·x) = g·m(x).
    The frame F(x) is the element of C_n whose turn is nearest to its direction. But for ties there is one, so that
    averaging over the frame is choosing that pose.
    """

    Spec = FrameSpec
    learns = False
    method = "a frame from the brightness gradient, [Frame Averaging](https://arxiv.org/abs/2110.03336)"
    group: PlanarGroup
    spec: FrameSpec

    def __init__(self, spec: FrameSpec, context: Context) -> None:
        super().__init__(context)
        self.spec, self.view = spec, self.look(spec.size or SIZE, context.normalization)

    @classmethod
    def takes(cls, group: Group) -> bool:
        return isinstance(group, PlanarGroup) and not group.reflections

    @classmethod
    def create(cls, settings: CanonicalizerSettings, context: Context) -> "FrameCanonicalizer":
        return cls(FrameSpec(SIZE), context)

    @classmethod
    def rebuild(cls, spec: FrameSpec, context: Context) -> "FrameCanonicalizer":
        return cls(spec, context)

    def find(self, inputs: Inputs, ask: Ask) -> Pose:
        if self.spec.size is not None:
            return super().find(inputs, ask)
        shown = inputs.at(self.group, None)
        if isinstance(shown, Tensor):
            return self(shown)
        found = [self(image[None]) for image in shown]
        scores = torch.cat([pose.scores for pose in found if pose.scores is not None])
        return Pose(torch.cat([pose.element for pose in found]), scores)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of square images x (b, c, s, s): 0° is brighter at the top."""
        side = x.shape[-1]
        brightness = wide(x).mean(dim=1)
        brightness = brightness * inscribed_disc(side).to(brightness.device)
        along = (torch.arange(side, device=brightness.device, dtype=torch.float64) + 0.5) / side - 0.5
        right, up = (brightness.sum(1) * along).sum(1), -(brightness.sum(2) * along).sum(1)
        # A direction is turned from "up", counter-clockwise.
        direction = torch.atan2(-right, up)
        angles = torch.tensor([math.radians(self.group.angle(g)) for g in range(self.group.order)], dtype=torch.float64)
        scores = torch.cos(direction[:, None] - angles.to(direction.device)).float().to(x.device)
        return Pose(scores.argmax(dim=1), scores)
