"""EquiAdapt (arXiv 2310.01647): a group-equivariant CNN scores the elements of C_n or D_n in one pass."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.canonicalization.inputs import SmallInput
from equicli.canonicalization.layers import make_plain
from equicli.canonicalization.regular_fields import Architecture, regular_network
from equicli.canonicalization.sizes import Size, Width
from equicli.config import CanonicalizerSettings
from equicli.data.normalization import HALF
from equicli.groups import Group, PlanarGroup


class EquivariantSettings(CanonicalizerSettings):
    """What the network is built from."""

    kind: Literal["equivariant"] = "equivariant"
    network: Architecture = Field("gcnn", description="group-equivariant CNN, or wide residual network")
    size: Size = Field(65, description="side in pixels of the square image that it looks at: 17, 25, 33, …")
    width: Width = Field(32, description="channels of the first stage")


@dataclass(frozen=True)
class EquivariantSpec:
    """The same, as it is stored."""

    network: Architecture
    size: Size
    width: Width


class EquivariantCanonicalizer(Canonicalizer):
    """Scores s(g | x) from a network whose output is one regular field of the group, averaged over space."""

    Settings = EquivariantSettings
    Spec = EquivariantSpec
    method = "EquiAdapt, [Equivariant Adaptation of Large Pretrained Models](https://arxiv.org/abs/2310.01647)"
    learning_rate = 5e-3
    group: PlanarGroup

    def __init__(self, spec: EquivariantSpec, context: Context, *, plain: bool) -> None:
        """
        Args:
            plain: with ordinary convolutions, as it is shipped, not with kernels that are computed from weights.
        """
        super().__init__(context)
        self.spec, self.size = spec, spec.size
        self.small = SmallInput(spec.size, context.normalization, HALF)
        self.network: nn.Module = regular_network(self.group, spec.network, spec.width, plain=plain)

    @classmethod
    def takes(cls, group: Group) -> bool:
        return isinstance(group, PlanarGroup)

    @classmethod
    def create(cls, settings: EquivariantSettings, context: Context) -> "EquivariantCanonicalizer":
        return cls(EquivariantSpec(settings.network, settings.size, settings.width), context, plain=False)

    @classmethod
    def rebuild(cls, spec: EquivariantSpec, context: Context) -> "EquivariantCanonicalizer":
        return cls(spec, context, plain=True)

    def ship(self) -> "EquivariantCanonicalizer":
        make_plain(self.network)
        return self.eval()

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of images x (b, 3, h, w), normalized for the prediction network."""
        scores = self.network(self.small(x)).float()  # (b, |G|)
        return Pose(scores.argmax(dim=1), scores)
