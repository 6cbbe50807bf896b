"""Frames of principal axes (Puny et al., arXiv 2110.03336): the rotations that a cloud's own axes allow."""

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from equicli.canonicalization.canonicalizer import Context, Pose
from equicli.canonicalization.points.base import PointCanonicalizer
from equicli.devices import in_float64
from equicli.groups import Group, MatrixGroup
from equicli.prediction.evidence import EVIDENCE
from equicli.prediction.inputs import Inputs
from equicli.prediction.signature import Ask
from equicli.settings import CanonicalizerSettings

Choice = Literal["skewness", "network", "none"]


class PointFrameSettings(CanonicalizerSettings):
    """How one of a cloud's frames is chosen."""

    kind: Literal["frame"] = "frame"
    choose: Choice = Field(
        "skewness",
        description="of a cloud's frames. skewness: where each axis points to the longer tail; network: that which the "
        "prediction network is surest of, a pass for each; none: they are alike, for policy=mean",
    )


@dataclass(frozen=True)
class PointFrameSpec:
    """The same, as it is stored."""

    choose: Choice


class PointFrameCanonicalizer(PointCanonicalizer):
    """The principal axes of a cloud, but for their signs: 4 rotations of SO(3), 2 of SO(2) about z.

    The axis of the largest variance becomes the first. Where two variances are equal, as of a ball, a cube or a pole
    about its axis, any axes between are principal, and those that are taken do not turn with the cloud.
    """

    Settings = PointFrameSettings
    Spec = PointFrameSpec
    learns = False
    method = "frames of principal axes, [Frame Averaging](https://arxiv.org/abs/2110.03336)"
    spec: PointFrameSpec

    def __init__(self, spec: PointFrameSpec, context: Context) -> None:
        super().__init__(context)
        self.spec = spec
        self.passes = self.ranks(context.group) if spec.choose == "network" else 0

    @classmethod
    def ranks(cls, group: Group) -> int:
        return 2 if isinstance(group, MatrixGroup) and group.about_z else 4

    @classmethod
    def create(cls, settings: PointFrameSettings, context: Context) -> "PointFrameCanonicalizer":
        return cls(PointFrameSpec(settings.choose), context)

    @classmethod
    def rebuild(cls, spec: PointFrameSpec, context: Context) -> "PointFrameCanonicalizer":
        return cls(spec, context)

    def find(self, inputs: Inputs, ask: Ask) -> Pose:
        pose = super().find(inputs, ask)
        if self.spec.choose != "network":
            return pose
        assert pose.candidates is not None
        sure = [EVIDENCE["confidence"](ask(inputs.at(self.group, g))) for g in pose.candidates.unbind(1)]
        return best_of(torch.stack(sure, dim=1), pose.candidates)

    def forward(self, x: Tensor) -> Pose:
        """Find the frames of clouds x (b, n, 3)."""
        points = _centred(x)
        axes = _plane_axes(points) if self.group.about_z else _axes(points)
        frames = []
        for signs in itertools.product((1, -1), repeat=1 if self.group.about_z else 2):
            # Both change the sign of the third, or of the second about z: the determinant stays 1.
            s, t = (signs[0], signs[0]) if self.group.about_z else signs
            last = 1 if self.group.about_z else s * t
            frames.append(axes * axes.new_tensor([s, t, last]))
        candidates = torch.stack(frames, dim=1)  # (b, frames, 3, 3)
        along = torch.einsum("bni,bfij->bfnj", points, candidates)
        spread = along.square().mean(dim=2).clamp(min=1e-24)
        skewness = along.pow(3).mean(dim=2) / spread.pow(1.5)
        kept = skewness[..., :1] if self.group.about_z else skewness
        scores = kept.sum(dim=2).to(x.device).float()
        pose = best_of(scores, candidates.to(x))
        return pose._replace(scores=torch.zeros_like(scores)) if self.spec.choose == "none" else pose


def best_of(scores: Tensor, candidates: Tensor) -> Pose:
    """The pose of the best score (b, m) of candidates (b, m, 3, 3)."""
    best = scores.argmax(dim=1)
    return Pose(candidates[torch.arange(best.shape[0], device=best.device), best], scores, candidates=candidates)


def principal_axes(x: Tensor, *, about_z: bool) -> Tensor:
    """The principal axes of clouds x (b, n, 3) as columns of rotations (b, 3, 3), of the largest variance first.

    Their signs, and axes of equal variance, are any.
    """
    points = _centred(x)
    return (_plane_axes(points) if about_z else _axes(points)).to(x)


def _centred(x: Tensor) -> Tensor:
    points = in_float64(x)
    return points - points.mean(dim=1, keepdim=True)


def _axes(points: Tensor) -> Tensor:
    """Principal axes as columns (b, 3, 3), of the largest variance first, with determinant 1."""
    axes = torch.linalg.eigh(points.mT @ points / points.shape[1]).eigenvectors.flip(-1)
    return torch.cat([axes[..., :2], torch.linalg.cross(axes[..., 0], axes[..., 1])[..., None]], dim=-1)


def _plane_axes(points: Tensor) -> Tensor:
    """The first principal axis of x and y, what is at 90° to it, and z, as columns (b, 3, 3)."""
    flat = points[..., :2]
    c, s = torch.linalg.eigh(flat.mT @ flat / points.shape[1]).eigenvectors[..., -1].unbind(-1)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    columns = [torch.stack(v, -1) for v in ((c, s, zero), (-s, c, zero), (zero, zero, one))]
    return torch.stack(columns, dim=-1)
