"""EquiOptAdapt for point clouds: a network scores views of the cloud; the best pose of a cover is refined."""

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Context, Pose
from equicli.canonicalization.points.base import PointCanonicalizer
from equicli.canonicalization.points.frame import best_of, principal_axes
from equicli.devices import in_float64
from equicli.groups import Group, MatrixGroup
from equicli.groups.action import act
from equicli.groups.continuous import about_z
from equicli.groups.cover import cover
from equicli.groups.elements import inverse
from equicli.settings import CanonicalizerSettings

Width = Annotated[int, Field(ge=1, le=512)]
Rounds = Annotated[int, Field(ge=0, le=16)]
Axes = Literal["principal", "space"]

FIRST_STEP = 30.0  # degrees, of the refinement; half as much in each further round
# In training so many views of each cloud are scored, of so many of its points: others in every batch.
VIEWS, POINTS = 8, 256


class PointOptimizedSettings(CanonicalizerSettings):
    """What the network is, and how finely poses are sought."""

    kind: Literal["optimized"] = "optimized"
    width: Width = Field(32, description="channels of the first layer of the network that scores views")
    rounds: Rounds = Field(4, description="of refinement; 0 keeps to the 24 rotations of the cube, or 8 about z")
    axes: Axes = Field(
        "principal",
        description="from which views start. principal: the cloud's own, so that they turn with it; space: those of "
        "space, exact for the rotations of the cube",
    )


@dataclass(frozen=True)
class PointOptimizedSpec:
    """The same, as it is stored."""

    width: Width
    rounds: Rounds
    axes: Axes


class PointOptimizedCanonicalizer(PointCanonicalizer):
    """Scores s_g(x) = f(g⁻¹·x), with f a small PointNet, over a finite cover of the group; then steps up from the best.

    The cover is a subgroup whose elements only swap axes and change their signs (of SO(3); about z every second does).
    From the axes of space, the canonical form is the same for these, bit for bit, refinement included. From the cloud's
    principal axes, the cover turns with the cloud, so that its canonical form is the same for every rotation, to
    roundings, where no two principal variances are equal; and what stands or lies upright has a pose in it.

    In training some views of each cloud are scored, and half of the covers are turned at random, so that f learns how
    upright any view is.
    """

    Settings = PointOptimizedSettings
    Spec = PointOptimizedSpec
    method = (
        "EquiOptAdapt, [Improved Canonicalization for Model Agnostic Equivariance](https://arxiv.org/abs/2405.14089)"
    )
    learning_rate = 3e-3
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
        return cls(PointOptimizedSpec(settings.width, settings.rounds, settings.axes), context)

    @classmethod
    def rebuild(cls, spec: PointOptimizedSpec, context: Context) -> "PointOptimizedCanonicalizer":
        return cls(spec, context)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of clouds x (b, n, 3)."""
        candidates = self.cover.to(x).expand(x.shape[0], *self.cover.shape)
        if self.spec.axes == "principal":
            candidates = self.group.compose(principal_axes(x, about_z=self.group.about_z)[:, None], candidates)
        if self.training:
            return self._some(x, candidates)
        pose = self._scored(x, candidates)
        return self._refine(x, pose) if self.spec.rounds else pose

    def _scored(self, x: Tensor, candidates: Tensor) -> Pose:
        # View by view, as all at once would take much memory.
        scores = torch.stack([self.network(self._back(g, x)) for g in candidates.unbind(1)], dim=1)
        return best_of(scores, candidates)

    def _some(self, x: Tensor, candidates: Tensor) -> Pose:
        """The best of some candidates (b, m, 3, 3), by some points; of every second cloud they are turned at random."""
        turned = self.group.sample(len(x)).to(x)
        if self.spec.axes == "principal":
            turned[1::2] = torch.eye(3).to(x)
        drawn = torch.randperm(candidates.shape[1])[:VIEWS].to(x.device)
        tried = self.group.compose(turned[:, None], candidates[:, drawn])
        seen = x[:, torch.randperm(x.shape[1])[:POINTS].to(x.device)]
        views = [self._back(g, seen) for g in tried.unbind(1)]
        scores = self.network(torch.cat(views))  # in one batch, over which is normalized
        return best_of(scores.view(len(views), len(x)).mT, tried)

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
    """From views (b, n, 3) to how upright each looks, (b,): a small PointNet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.points = nn.Sequential(*itertools.chain.from_iterable(map(_layer, widths, widths[1:])))
        self.head = nn.Sequential(*_layer(8 * width, 2 * width), nn.Linear(2 * width, 1))

    def forward(self, view: Tensor) -> Tensor:
        features = self.points(view.flatten(0, 1)).unflatten(0, view.shape[:2])
        # In float64, so that the order of points rounds nothing that float32 shows.
        mean = in_float64(features).mean(dim=1).to(features)
        pooled = torch.cat([features.amax(dim=1), mean], dim=1)
        scores: Tensor = self.head(pooled)[:, 0]
        return scores


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()
