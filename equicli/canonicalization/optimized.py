"""EquiOptAdapt (arXiv 2405.14089): any network becomes an equivariant canonicalizer by scoring all |G| views."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Context, Pose
from equicli.canonicalization.view_network import ViewCanonicalizer, ViewSettings
from equicli.data.normalization import Normalization
from equicli.groups import Group
from equicli.prediction.network import NetworkSpec

# Below, one rounding of a cosine would move scores by more than what evaluation counts as a tie.
TEMPERATURE_RANGE = (0.02, 1.0)


class OptimizedSettings(ViewSettings):
    """What the network is, and how its vectors are compared."""

    kind: Literal["optimized"] = "optimized"
    vector_size: int = Field(128, ge=2, le=4096, description="length of the vector that is compared with the reference")
    reference: Literal["fixed", "learned"] = Field("fixed", description="the vector that upright views should give")
    temperature: float = Field(0.1, ge=0.02, le=1.0, description="initial temperature of the scores; learned")


@dataclass(frozen=True)
class OptimizedSpec:
    """`normalization` is the network's own; `provenance` is where a pretrained one started from."""

    network: NetworkSpec
    normalization: Normalization
    size: Annotated[int, Field(ge=1, le=4096)]
    vector_size: Annotated[int, Field(ge=1, le=65536)]
    provenance: Mapping[str, str] = field(default_factory=dict)
    glance: int | None = None


class OptimizedCanonicalizer(ViewCanonicalizer):
    """Scores s_g(x) = cos(r, f(g⁻¹·x)) / τ, with f the canonicalization network and r a unit reference vector.

    The temperature τ is learned: cosines are bounded, so without it the prior loss could not approach zero.
    """

    Settings = OptimizedSettings
    Spec = OptimizedSpec
    method = (
        "EquiOptAdapt, [Improved Canonicalization for Model Agnostic Equivariance](https://arxiv.org/abs/2405.14089)"
    )
    compares_views = True

    def __init__(
        self,
        spec: OptimizedSpec,
        context: Context,
        network: nn.Module,
        *,
        temperature: float = 0.1,
        learn_reference: bool = False,
    ) -> None:
        """
        Args:
            network: f, from (b, 3, size, size) to (b, vector_size).
            temperature: initial τ, within TEMPERATURE_RANGE.
            learn_reference: let training move r, which otherwise stays as it is drawn.
        """
        super().__init__(spec, context, network)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        reference = nn.functional.normalize(torch.randn(spec.vector_size), dim=0)
        self.reference: Tensor
        if learn_reference:
            self.reference = nn.Parameter(reference)
        else:
            self.register_buffer("reference", reference)

    @classmethod
    def serves(cls, trained: Group, group: Group) -> bool:
        return cls.takes(group)  # its network scores views, whichever they are

    @classmethod
    def create(cls, settings: OptimizedSettings, context: Context) -> "OptimizedCanonicalizer":
        found, look = settings.load(settings.vector_size)
        spec = OptimizedSpec(
            found.spec,
            found.preprocess.normalization,
            look.size,
            settings.vector_size,
            found.provenance,
            look.glance,
        )
        learned = settings.reference == "learned"
        made = cls(spec, context, found.network, temperature=settings.temperature, learn_reference=learned)
        made.remarks = found.remarks
        return made

    def judge(self, x: Tensor) -> Pose:
        vectors = nn.functional.normalize(self.see(x), dim=-1)  # (b, |G|, d)
        low, high = TEMPERATURE_RANGE
        temperature = self.log_temperature.exp()
        # Clamped in value only: the gradient passes, so that a temperature at an end of the range can leave it.
        temperature = temperature + (temperature.clamp(low, high) - temperature).detach()
        cosines = (vectors * nn.functional.normalize(self.reference, dim=0)).sum(dim=-1)
        scores = cosines / temperature  # (b, |G|)
        return Pose(scores.argmax(dim=1), scores, vectors)
