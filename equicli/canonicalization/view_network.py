"""What canonicalizers have in common that show all |G| views of an input to a network, of any architecture."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import SIZE, Canonicalizer, Context, Pose, posterior
from equicli.canonicalization.prior import TIE
from equicli.canonicalization.sharp_views import sharp_views
from equicli.data.normalization import Normalization
from equicli.data.small_view import shrink
from equicli.errors import UsageError
from equicli.groups import FiniteGroup, Group, PlanarGroup, is_finite
from equicli.groups.action import inscribed_disc, views
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.settings import CanonicalizerSettings, CheckpointPath

Self = TypeVar("Self", bound="ViewCanonicalizer")


AUTO, CONV = "auto", "conv"
SURE = 0.95  # the probability of its likeliest pose from which a glance is enough


@dataclass(frozen=True)
class Look:
    """size: side in pixels of the square image. glance: that of a smaller first look, where there is one.

    Raises ValueError where the first look is not the smaller one.
    """

    size: int
    glance: int | None = None

    def __post_init__(self) -> None:
        if self.glance is not None and not 8 <= self.glance < self.size:
            raise ValueError(f"canonicalizer.glance = {self.glance}: must be from 8 to {self.size - 1}, or 0 for none")


def _glancing(look: Look, glance: int) -> Look:
    try:
        return replace(look, glance=glance or None)
    except ValueError as error:  # only now is it known what it looks at
        raise UsageError(f"{error}.") from error


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
    glance: int | None = Field(
        None,
        description="side in pixels of a first look: `size` is then for what it leaves unsure; 0: none; default: none, "
        "but of auto what suits the network",
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
        if self.size is not None or self.network != AUTO:
            Look(self.size or SIZE, self.glance or None)
        return self

    def load(self, outputs: int) -> tuple[PretrainedNetwork, Look]:
        """The network, with a new last layer of so many outputs, and how it looks at images; see `networks`."""
        # Here, so that checking a configuration imports no library of networks.
        from equicli.canonicalization.networks import load_best_network, load_canonicalization_network

        if self.network == AUTO:
            found, look = load_best_network(
                checkpoint=self.checkpoint, size=self.size, width=self.width, outputs=outputs, budget=self.budget
            )
            return found, look if self.glance is None else _glancing(look, self.glance)
        look = Look(self.size or SIZE, self.glance or None)
        return load_canonicalization_network(
            self.network, checkpoint=self.checkpoint, size=look.size, width=self.width, outputs=outputs
        ), look


class ViewSpec(Protocol):
    """What is stored of each. `normalization` is the network's own; size and glance are those of a `Look`."""

    @property
    def network(self) -> NetworkSpec: ...

    @property
    def normalization(self) -> Normalization: ...

    @property
    def size(self) -> int: ...

    @property
    def glance(self) -> int | None: ...


class ViewCanonicalizer(Canonicalizer):
    """Equivariant for any network, because acting on x only permutes the views.

    With a glance it looks twice: at all images in few pixels, and in all of them only where the first look is not SURE.
    Both are by the same network, which is trained on the larger views: crops show it things of many sizes.
    """

    takes_any_size = True
    group: FiniteGroup

    def __init__(self, spec: ViewSpec, context: Context, network: nn.Module) -> None:
        """
        Args:
            network: from (b, 3, size, size) to vectors (b, d).
        """
        super().__init__(context)
        self.spec = spec
        look = Look(spec.size, spec.glance)
        # Off the grid it turns the view itself, at twice the size that the network sees; see `sharp_views`.
        scale = 1 if self.group.exact else 2
        self.view = self.look(scale * look.size, spec.normalization)
        self.glance = None if look.glance is None else scale * look.glance
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

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of small views x; see `Canonicalizer`."""
        if self.glance is None or self.training:
            return self.judge(x)
        scores = self._scores(shrink(x, self.glance))
        p = posterior(scores)[0][:, 0]
        unsure = p < SURE
        if torch.compiler.is_compiling():  # no shape may depend on how many there are
            scores = torch.where(unsure[:, None], self._scores(x), scores)
        elif unsure.any():
            scores = scores.index_put((unsure,), self._scores(x[unsure]))
        return Pose(scores.argmax(dim=1), scores, tied=(p - SURE).abs() < TIE)

    def judge(self, x: Tensor) -> Pose:
        """Find the pose of views of any size; see `forward`."""
        raise NotImplementedError

    def _scores(self, x: Tensor) -> Tensor:
        scores = self.judge(x).scores
        assert scores is not None
        return scores

    def see(self, x: Tensor, drawn: Tensor | None = None) -> Tensor:
        """What the network says of g⁻¹·x for every g, float32 (b, |G|, d), of small views x.

        Args:
            drawn: of these g alone, (b, n).
        """
        if self.disc is None:
            stacked = views(self.group, x)
        else:
            assert isinstance(self.group, PlanarGroup)
            size = x.shape[-1]  # a glance, or in training other than evaluation's
            stacked = sharp_views(self.group, x, self.disc if size == self.view.size else inscribed_disc(size))
        if drawn is not None:
            stacked = stacked[torch.arange(len(x), device=x.device)[:, None], drawn]
        seen = self.network(stacked.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        vectors: Tensor = seen.float().unflatten(0, stacked.shape[:2])
        return vectors
