"""What canonicalizers have in common that show all |G| views of an input to a network, of any architecture."""

from typing import Protocol, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import SIZE, Canonicalizer, Context
from equicli.canonicalization.sharp_views import sharp_views
from equicli.data.normalization import Normalization
from equicli.groups import FiniteGroup, Group, PlanarGroup, is_finite
from equicli.groups.action import inscribed_disc, views
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.settings import CanonicalizerSettings, CheckpointPath

Self = TypeVar("Self", bound="ViewCanonicalizer")


AUTO, CONV = "auto", "conv"


class ViewSettings(CanonicalizerSettings):
    """`network` is `auto`, `conv` (ours) or any timm or torchvision network."""

    network: str = Field(
        AUTO,
        description="auto: the best pretrained one within the budget; `conv`, a timm name, `hf-hub:owner/name` or "
        "`torchvision:NAME`",
    )
    checkpoint: CheckpointPath | None = Field(None, description="weights to start from, in place of the Hub's")
    size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="side in pixels of the square image that it looks at; default: 64, of auto what suits the network",
    )
    width: int = Field(32, ge=4, le=1024, description="channels of the first stage of `conv`")
    budget: float = Field(
        0.04, gt=0, description="of auto, what it may cost: its time on four views ÷ that of one pass of ViT-B/16"
    )

    @model_validator(mode="after")
    def _loadable(self) -> "ViewSettings":
        if self.network == CONV and self.checkpoint is not None:
            raise ValueError("--canonicalizer-checkpoint needs --canonicalizer-network; conv starts untrained")
        if self.network.startswith("python:"):
            raise ValueError(
                "a canonicalization network of your own code could not be loaded again; name timm's or torchvision's"
            )
        return self

    def load(self, outputs: int) -> tuple[PretrainedNetwork, int]:
        """The network, with a new last layer of so many outputs, and the size of its images; see `networks`."""
        # Here, so that checking a configuration imports no library of networks.
        from equicli.canonicalization.networks import load_best_network, load_canonicalization_network

        if self.network == AUTO:
            return load_best_network(
                checkpoint=self.checkpoint, size=self.size, width=self.width, outputs=outputs, budget=self.budget
            )
        size = self.size or SIZE
        return load_canonicalization_network(
            self.network, checkpoint=self.checkpoint, size=size, width=self.width, outputs=outputs
        ), size


class ViewSpec(Protocol):
    """What is stored of each. `normalization` is the network's own."""

    @property
    def network(self) -> NetworkSpec: ...

    @property
    def normalization(self) -> Normalization: ...

    @property
    def size(self) -> int: ...


class ViewCanonicalizer(Canonicalizer):
    """Equivariant for any network, because acting on x only permutes the views."""

    takes_any_size = True
    group: FiniteGroup

    def __init__(self, spec: ViewSpec, context: Context, network: nn.Module) -> None:
        """
        Args:
            network: from (b, 3, size, size) to vectors (b, d).
        """
        super().__init__(context)
        self.spec = spec
        # Off the grid it turns the view itself, at twice the size that the network sees; see `sharp_views`.
        self.view = self.look(spec.size if self.group.exact else 2 * spec.size, spec.normalization)
        # Convolutions run about 1.4 times faster on this layout, on CPUs and GPUs.
        self.network = network.to(memory_format=torch.channels_last)
        self.disc: Tensor | None
        self.register_buffer("disc", None if self.group.exact else inscribed_disc(self.view.size), persistent=False)

    @classmethod
    def takes(cls, group: Group) -> bool:
        return is_finite(group) and (group.exact or isinstance(group, PlanarGroup))

    @classmethod
    def rebuild(cls: type[Self], spec: ViewSpec, context: Context) -> Self:
        from equicli.canonicalization.networks import build_canonicalization_network

        return cls(spec, context, build_canonicalization_network(spec.network))

    def see(self, x: Tensor, drawn: Tensor | None = None) -> Tensor:
        """What the network says of g⁻¹·x for every g, float32 (b, |G|, d), of small views x.

        Args:
            drawn: of these g alone, (b, n).
        """
        if self.disc is None:
            stacked = views(self.group, x)
        else:
            assert isinstance(self.group, PlanarGroup)
            size = x.shape[-1]  # in training other than evaluation's, maybe
            stacked = sharp_views(self.group, x, self.disc if size == self.view.size else inscribed_disc(size))
        if drawn is not None:
            stacked = stacked[torch.arange(len(x), device=x.device)[:, None], drawn]
        seen = self.network(stacked.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        vectors: Tensor = seen.float().unflatten(0, stacked.shape[:2])
        return vectors
