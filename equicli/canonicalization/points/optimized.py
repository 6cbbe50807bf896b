"""EquiOptAdapt for point clouds: a network scores views of the cloud; the best pose of a cover is refined."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Context, Pose
from equicli.canonicalization.points.base import PointCanonicalizer
from equicli.canonicalization.points.frame import best_of
from equicli.devices import in_float64
from equicli.groups import Group, MatrixGroup
from equicli.groups.action import act
from equicli.groups.continuous import about_z
from equicli.groups.cover import cover
from equicli.groups.elements import inverse
from equicli.settings import CanonicalizerSettings

Width = Annotated[int, Field(ge=1, le=512)]
Rounds = Annotated[int, Field(ge=0, le=16)]

FIRST_STEP = 30.0  # degrees, of the refinement; half as much in each further round


class PointOptimizedSettings(CanonicalizerSettings):
    """What the network is, and how finely poses are sought."""

    kind: Literal["optimized"] = "optimized"
    width: Width = Field(32, description="channels of the first layer of the network that scores views")
    rounds: Rounds = Field(4, description="of refinement; 0 keeps to the 24 rotations of the cube, or 8 about z")


@dataclass(frozen=True)
class PointOptimizedSpec:
    """The same, as it is stored."""

    width: Width
    rounds: Rounds


class PointOptimizedCanonicalizer(PointCanonicalizer):
    """Scores s_g(x) = f(g⁻¹·x), with f a small PointNet, over a finite cover of the group; then steps up from the best.

    The cover is a subgroup whose elements only swap axes and change their signs (of SO(3); about z every second does),
    so that for these the canonical form is the same, bit for bit, refinement included. In training the cover is turned
    at random for every cloud, so that f learns how upright any view is.
    """

    Settings = PointOptimizedSettings
    Spec = PointOptimizedSpec
    method = (
        "EquiOptAdapt, [Improved Canonicalization for Model Agnostic Equivariance](https://arxiv.org/abs/2405.14089)"
    )
    spec: PointOptimizedSpec

    def __init__(self, spec: PointOptimizedSpec, context: Context) -> None:
        super().__init__(context)
        self.spec = spec
        self.network = ViewScore(spec.width)
        self.register_buffer("cover", cover(self.group), persistent=False)

    cover: Tensor

    @classmethod
    def ranks(cls, group: Group) -> int:
        assert isinstance(group, MatrixGroup)
        return len(cover(group))

    @classmethod
    def create(cls, settings: PointOptimizedSettings, context: Context) -> "PointOptimizedCanonicalizer":
        return cls(PointOptimizedSpec(settings.width, settings.rounds), context)

    @classmethod
    def rebuild(cls, spec: PointOptimizedSpec, context: Context) -> "PointOptimizedCanonicalizer":
        return cls(spec, context)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of clouds x (b, n, 3)."""
        candidates = self.cover.to(x).expand(x.shape[0], *self.cover.shape)
        if self.training:
            candidates = self.group.compose(self.group.sample(len(x)).to(x)[:, None], candidates)
        scores = torch.stack([self.network(self._back(g, x)) for g in candidates.unbind(1)], dim=1)
        pose = best_of(scores, candidates)
        return pose if self.training or not self.spec.rounds else self._refine(x, pose)

    def _refine(self, x: Tensor, pose: Pose) -> Pose:
        """Step from the best pose of the cover to better ones near it, while there are any.

        All steps are taken from the view that is best so far, never from x: views that are equal bit for bit stay so.
        """
        assert pose.scores is not None and pose.candidates is not None
        rows = torch.arange(x.shape[0], device=x.device)
        best = pose.scores.argmax(dim=1)
        start, scores = pose.element, pose.scores[rows, best]
        seen = self._back(start, x)
        turn = torch.eye(3, dtype=x.dtype, device=x.device).expand(x.shape[0], 3, 3)
        for number in range(self.spec.rounds):
            near = self._steps(FIRST_STEP / 2**number).to(x)
            tried = [self.group.compose(turn, step) for step in near]
            found = torch.stack([scores, *(self.network(self._back(g, seen)) for g in tried)], dim=1)
            chosen = found.argmax(dim=1)
            turn, scores = torch.stack([turn, *tried], dim=1)[rows, chosen], found[rows, chosen]
        element = self.group.compose(start, turn)
        every, refined = pose.candidates.clone(), pose.scores.clone()
        every[rows, best], refined[rows, best] = element, scores
        return Pose(element, refined, candidates=every)

    def _back(self, g: Tensor, x: Tensor) -> Tensor:
        """g⁻¹·x of matrices (b, 3, 3) and clouds (b, n, 3). Signed permutations round nothing."""
        return act(self.group, inverse(self.group, g), x, "points")

    def _steps(self, degrees: float) -> Tensor:
        """Rotations by an angle about each axis, both ways, (k, 3, 3)."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        both = [about_z(torch.tensor([[cos, -s], [s, cos]], dtype=torch.float64)) for s in (sin, -sin)]
        orders = [[0, 1, 2]] if self.group.about_z else [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
        return torch.stack([turn[order][:, order] for turn in both for order in orders])


class ViewScore(nn.Module):
    """From views (b, n, 3) to how upright each looks, (b,): a small PointNet without normalization over the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.points = nn.Sequential(
            *(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2 * width), nn.ReLU()),
            *(nn.Linear(2 * width, 4 * width), nn.ReLU()),
        )
        self.head = nn.Sequential(nn.Linear(8 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1))

    def forward(self, view: Tensor) -> Tensor:
        features = self.points(view)
        # In float64, so that the order of points rounds nothing that float32 shows.
        mean = in_float64(features).mean(dim=1).to(features)
        pooled = torch.cat([features.amax(dim=1), mean], dim=1)
        scores: Tensor = self.head(pooled)[:, 0]
        return scores
