"""EquiOptAdapt (arXiv 2405.14089): any network becomes an equivariant canonicalizer by scoring all |G| views."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.canonicalization.sharp_views import sharp_views
from equicli.data.normalization import Normalization
from equicli.groups import FiniteGroup, Group, PlanarGroup, is_finite
from equicli.groups.action import inscribed_disc, views
from equicli.prediction.network import NetworkSpec
from equicli.settings import CanonicalizerSettings, CheckpointPath

# Below, one rounding of a cosine would move scores by more than what evaluation counts as a tie.
TEMPERATURE_RANGE = (0.02, 1.0)


class OptimizedSettings(CanonicalizerSettings):
    """`network` is `conv` (ours) or any timm or torchvision network."""

    kind: Literal["optimized"] = "optimized"
    network: str = Field("conv", description="`conv`, a timm name, `hf-hub:owner/name` or `torchvision:NAME`")
    checkpoint: CheckpointPath | None = Field(None, description="weights to start from, in place of the Hub's")
    size: int = Field(64, ge=8, le=1024, description="side in pixels of the square image that it looks at")
    width: int = Field(32, ge=4, le=1024, description="channels of the first stage of `conv`")
    vector_size: int = Field(128, ge=2, le=4096, description="length of the vector that is compared with the reference")
    reference: Literal["fixed", "learned"] = Field("fixed", description="the vector that upright views should give")
    temperature: float = Field(0.1, ge=0.02, le=1.0, description="initial temperature of the scores; learned")

    @model_validator(mode="after")
    def _loadable(self) -> "OptimizedSettings":
        if self.network == "conv" and self.checkpoint is not None:
            raise ValueError("--canonicalizer-checkpoint needs --canonicalizer-network; conv starts untrained")
        if self.network.startswith("python:"):
            raise ValueError(
                "a canonicalization network of your own code could not be loaded again; name timm's or torchvision's"
            )
        return self


@dataclass(frozen=True)
class OptimizedSpec:
    """`normalization` is the network's own; `provenance` is where a pretrained one started from."""

    network: NetworkSpec
    normalization: Normalization
    size: Annotated[int, Field(ge=1, le=4096)]
    vector_size: Annotated[int, Field(ge=1, le=65536)]
    provenance: Mapping[str, str] = field(default_factory=dict)


class OptimizedCanonicalizer(Canonicalizer):
    """Scores s_g(x) = cos(r, f(g⁻¹·x)) / τ, with f the canonicalization network and r a unit reference vector.

    Equivariant for any f, because acting on x only permutes the views. The temperature τ is learned: cosines are
    bounded, so without it the prior loss could not approach zero.
    """

    Settings = OptimizedSettings
    Spec = OptimizedSpec
    method = (
        "EquiOptAdapt, [Improved Canonicalization for Model Agnostic Equivariance](https://arxiv.org/abs/2405.14089)"
    )
    compares_views = True
    group: FiniteGroup

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
        super().__init__(context)
        self.spec = spec
        # Off the grid it turns the view itself, at twice the size that the network sees; see `sharp_views`.
        self.view = self.look(spec.size if self.group.exact else 2 * spec.size, spec.normalization)
        # Convolutions run about 1.4 times faster on this layout, on CPUs and GPUs.
        self.network = network.to(memory_format=torch.channels_last)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        reference = nn.functional.normalize(torch.randn(spec.vector_size), dim=0)
        self.reference: Tensor
        if learn_reference:
            self.reference = nn.Parameter(reference)
        else:
            self.register_buffer("reference", reference)
        self.disc: Tensor | None
        self.register_buffer("disc", None if self.group.exact else inscribed_disc(self.view.size), persistent=False)

    @classmethod
    def takes(cls, group: Group) -> bool:
        return is_finite(group) and (group.exact or isinstance(group, PlanarGroup))

    @classmethod
    def serves(cls, trained: Group, group: Group) -> bool:
        return cls.takes(group)  # its network scores views, whichever they are

    @classmethod
    def create(cls, settings: OptimizedSettings, context: Context) -> "OptimizedCanonicalizer":
        # Here and below, so that checking a configuration imports no library of networks.
        from equicli.canonicalization.networks import load_canonicalization_network

        found = load_canonicalization_network(
            settings.network,
            checkpoint=settings.checkpoint,
            size=settings.size,
            width=settings.width,
            vector_size=settings.vector_size,
        )
        spec = OptimizedSpec(
            found.spec, found.preprocess.normalization, settings.size, settings.vector_size, found.provenance
        )
        learned = settings.reference == "learned"
        return cls(spec, context, found.network, temperature=settings.temperature, learn_reference=learned)

    @classmethod
    def rebuild(cls, spec: OptimizedSpec, context: Context) -> "OptimizedCanonicalizer":
        from equicli.canonicalization.networks import build_canonicalization_network

        return cls(spec, context, build_canonicalization_network(spec.network))

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of small views x; see `Canonicalizer`."""
        # (b, |G|, 3, size, size)
        if self.disc is None:
            stacked = views(self.group, x)
        else:
            assert isinstance(self.group, PlanarGroup)
            stacked = sharp_views(self.group, x, self.disc)
        vectors = self.network(
            stacked.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        ).float()  # (b·|G|, d)
        vectors = nn.functional.normalize(vectors, dim=-1).unflatten(0, stacked.shape[:2])
        low, high = TEMPERATURE_RANGE
        temperature = self.log_temperature.exp()
        # Clamped in value only: the gradient passes, so that a temperature at an end of the range can leave it.
        temperature = temperature + (temperature.clamp(low, high) - temperature).detach()
        cosines = (vectors * nn.functional.normalize(self.reference, dim=0)).sum(dim=-1)
        scores = cosines / temperature  # (b, |G|)
        return Pose(scores.argmax(dim=1), scores, vectors)
