"""Poses that nothing learns, for baselines: none, and those of a frame."""

import math

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.groups import FiniteGroup, Group, PlanarGroup
from equicli.groups.action import inscribed_disc


class NoCanonicalizer(Canonicalizer):
    """Leaves every input as it is: the network alone, or with the policy `mean` symmetrized (arXiv 1804.10306)."""

    method = "no canonicalization"
    learns = False
    finds_poses = False
    group: FiniteGroup

    def forward(self, x: Tensor) -> Pose:
        return Pose(torch.zeros(len(x), dtype=torch.int64, device=x.device))


class FrameCanonicalizer(Canonicalizer):
    """The frame of Puny et al. (arXiv 2110.03336) for images: the brightness gradient's direction, as an element.

    The mean of brightness · (position from the centre) within the inscribed disc is a vector m(x) with m(g·x) = g·m(x).
    The frame F(x) is the element of C_n whose turn is nearest to its direction. But for ties there is one, so that
    averaging over the frame is choosing that pose.
    """

    learns = False
    method = "a frame from the brightness gradient, [Frame Averaging](https://arxiv.org/abs/2110.03336)"
    group: PlanarGroup

    @classmethod
    def takes(cls, group: Group) -> bool:
        return isinstance(group, PlanarGroup) and not group.reflections

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of images x (b, c, h, w): 0° is brighter at the top."""
        side = x.shape[-1]
        along = (torch.arange(side, device=x.device, dtype=torch.float64) + 0.5) / side - 0.5
        brightness = x.double().mean(dim=1) * inscribed_disc(side).to(x.device)
        right, up = (brightness.sum(1) * along).sum(1), -(brightness.sum(2) * along).sum(1)
        # A direction is turned from "up", counter-clockwise.
        direction = torch.atan2(-right, up)
        angles = torch.tensor([math.radians(self.group.angle(g)) for g in range(self.group.order)], dtype=torch.float64)
        scores = torch.cos(direction[:, None] - angles.to(x.device)).float()
        return Pose(scores.argmax(dim=1), scores)
