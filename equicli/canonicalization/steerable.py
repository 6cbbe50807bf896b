"""Steerable canonicalizer (EquiAdapt, arXiv 2310.01647) for SO(2) and O(2): vectors that turn with the image."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.canonicalization.fisher import mode
from equicli.canonicalization.inputs import SmallInput
from equicli.canonicalization.layers import make_plain
from equicli.canonicalization.sizes import Size, Width
from equicli.canonicalization.steerable_fields import steerable_network
from equicli.config import CanonicalizerSettings
from equicli.data.normalization import HALF
from equicli.groups import Group, MatrixGroup

Loss = Literal["likelihood", "cosine"]


class SteerableSettings(CanonicalizerSettings):
    """What the network is built from."""

    kind: Literal["steerable"] = "steerable"
    size: Size = Field(65, description="side in pixels of the square image that it looks at: 17, 25, 33, …")
    width: Width = Field(32, description="channels of the first stage")
    loss: Loss = Field(
        "likelihood", description="of the prior: -log p of a matrix Fisher distribution, or 1 - cos θ for comparison"
    )


@dataclass(frozen=True)
class SteerableSpec:
    """What is stored of them."""

    size: Size
    width: Width
    loss: Loss


class SteerableCanonicalizer(Canonicalizer):
    """The pose is the most probable R under p(R | x) ∝ exp tr(FᵀR), whose F(x) turns with the image: F(h·x) = h F(x).

    The columns of F are vectors that the network predicts: one for SO(2), whose direction is the pose; two for O(2),
    which tell handedness, too. Every pose is orthogonal, R Rᵀ = I.
    """

    Settings = SteerableSettings
    Spec = SteerableSpec
    method = "EquiAdapt, [Equivariant Adaptation of Large Pretrained Models](https://arxiv.org/abs/2310.01647)"
    learning_rate = 1e-2
    group: MatrixGroup

    def __init__(self, spec: SteerableSpec, context: Context, *, plain: bool) -> None:
        """
        Args:
            plain: with ordinary convolutions, as it is shipped, not with kernels that are computed from weights.
        """
        super().__init__(context)
        self.spec, self.size = spec, spec.size
        self.small = SmallInput(spec.size, context.normalization, HALF)
        self.network: nn.Module = steerable_network(self.group, spec.width, plain=plain)

    @classmethod
    def takes(cls, group: Group) -> bool:
        return isinstance(group, MatrixGroup) and group.dimension == 2

    @classmethod
    def create(cls, settings: SteerableSettings, context: Context) -> "SteerableCanonicalizer":
        return cls(SteerableSpec(settings.size, settings.width, settings.loss), context, plain=False)

    @classmethod
    def rebuild(cls, spec: SteerableSpec, context: Context) -> "SteerableCanonicalizer":
        return cls(spec, context, plain=True)

    def ship(self) -> "SteerableCanonicalizer":
        make_plain(self.network)
        return self.eval()

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of images x (b, 3, h, w), normalized for the prediction network."""
        vectors = self.network(self.small(x)).float()  # (b, 1 or 2, 2), the columns of F
        parameter = nn.functional.pad(vectors.mT, (0, 2 - vectors.shape[1]))
        # Trained on 1 - cos θ, the length of F means nothing.
        scores = parameter if self.spec.loss == "likelihood" else None
        return Pose(mode(parameter, self.group.reflections), scores)
