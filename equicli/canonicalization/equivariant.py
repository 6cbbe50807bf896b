"""EquiAdapt (arXiv 2310.01647): a group-equivariant CNN scores the elements of C_n or D_n in one pass."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.escnn_fields import escnn_network
from equicli.canonicalization.kernel_canonicalizer import KernelCanonicalizer, KernelSettings
from equicli.canonicalization.regular_fields import Architecture, regular_network
from equicli.canonicalization.sizes import Size, Width
from equicli.groups import Group, PlanarGroup

Network = Literal[Architecture, "escnn"]


class EquivariantSettings(KernelSettings):
    """What the network is built from."""

    kind: Literal["equivariant"] = "equivariant"
    network: Network = Field(
        "gcnn", description="group-equivariant CNN, or wide residual network; escnn: the former of escnn's own layers"
    )


@dataclass(frozen=True)
class EquivariantSpec:
    """The same, as it is stored."""

    network: Network
    size: Size
    width: Width


class EquivariantCanonicalizer(KernelCanonicalizer):
    """Scores s(g | x) from a network whose output is one regular field of the group, averaged over space."""

    Settings = EquivariantSettings
    Spec = EquivariantSpec
    learning_rate = 5e-3
    group: PlanarGroup
    spec: EquivariantSpec

    @classmethod
    def takes(cls, group: Group) -> bool:
        return isinstance(group, PlanarGroup)

    def build(self, plain: bool) -> nn.Module:
        if self.spec.network == "escnn":
            return escnn_network(self.group, self.spec.width, plain=plain)
        return regular_network(self.group, self.spec.network, self.spec.width, plain=plain)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of small views x; see `Canonicalizer`."""
        scores = self.network(x).float()  # (b, |G|)
        return Pose(scores.argmax(dim=1), scores)
