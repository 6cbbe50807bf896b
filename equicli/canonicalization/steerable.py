"""Steerable canonicalizer (EquiAdapt, arXiv 2310.01647) for SO(2) and O(2): vectors that turn with the image."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.fisher import mode
from equicli.canonicalization.kernel_canonicalizer import KernelCanonicalizer, KernelSettings
from equicli.canonicalization.sizes import Size, Width
from equicli.canonicalization.steerable_fields import steerable_network
from equicli.groups import Group, MatrixGroup

Loss = Literal["likelihood", "cosine"]


class SteerableSettings(KernelSettings):
    """What the network is built from, and how it is trained."""

    kind: Literal["steerable"] = "steerable"
    loss: Loss = Field(
        "likelihood", description="of the prior: -log p of a matrix Fisher distribution, or 1 - cos θ for comparison"
    )


@dataclass(frozen=True)
class SteerableSpec:
    """The same, as it is stored."""

    size: Size
    width: Width
    loss: Loss


class SteerableCanonicalizer(KernelCanonicalizer):
    """The pose is the most probable R under p(R | x) ∝ exp tr(FᵀR), whose F(x) turns with the image: F(h·x) = h F(x).

    The columns of F are vectors that the network predicts: one for SO(2), whose direction is the pose; two for O(2),
    which tell handedness, too. Every pose is orthogonal, R Rᵀ = I.
    """

    Settings = SteerableSettings
    Spec = SteerableSpec
    learning_rate = 1e-2
    group: MatrixGroup
    spec: SteerableSpec

    @classmethod
    def takes(cls, group: Group) -> bool:
        return isinstance(group, MatrixGroup) and group.dimension == 2

    def build(self, plain: bool) -> nn.Module:
        return steerable_network(self.group, self.spec.width, plain=plain)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of small views x; see `Canonicalizer`."""
        vectors = self.network(x).float()  # (b, 1 or 2, 2), the columns of F
        parameter = nn.functional.pad(vectors.mT, (0, 2 - vectors.shape[1]))
        # Trained on 1 - cos θ, the length of F means nothing.
        scores = parameter if self.spec.loss == "likelihood" else None
        return Pose(mode(parameter, self.group.reflections), scores)
