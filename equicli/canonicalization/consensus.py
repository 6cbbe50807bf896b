"""Every turned view says how it is turned itself, and the pose that all of them agree on is taken."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Context, Pose
from equicli.canonicalization.view_network import ViewCanonicalizer, ViewSettings
from equicli.data.normalization import Normalization
from equicli.groups import FiniteGroup, Group, as_finite, is_finite, parse_group
from equicli.groups.labels import read_label
from equicli.prediction.network import NetworkSpec


class ConsensusSettings(ViewSettings):
    """What the network is; a layer of our own tells poses by its vectors."""

    kind: Literal["consensus"] = "consensus"
    vector_size: int = Field(128, ge=2, le=4096, description="length of the vector that poses are told by")


@dataclass(frozen=True)
class ConsensusSpec:
    """`normalization` is the network's own; `provenance` is where a pretrained one started from.

    poses: the name of the group whose elements are told apart.
    """

    network: NetworkSpec
    normalization: Normalization
    size: Annotated[int, Field(ge=1, le=4096)]
    vector_size: Annotated[int, Field(ge=1, le=65536)]
    poses: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    glance: int | None = None


class ConsensusCanonicalizer(ViewCanonicalizer):
    """Scores s_g(x) = Σ_k f_k(k·g⁻¹·x), with f_k(y) the logit that y stands in pose k.

    f is the canonicalization network and a linear layer of our own: what some end in, such as a ReLU, is no logit.

    If x stands in pose g, its view k·g⁻¹·x stands in pose k. So the network classifies the pose of single views, as
    RotNet does (arXiv 1803.07728), and its opinions of all |G| views are multiplied: each is asked once, of all poses.
    EquiOptAdapt costs the same, and uses of each view only whether it is upright.
    """

    Settings = ConsensusSettings
    Spec = ConsensusSpec
    trains_on_few_views = True
    method = "consensus of all views, each of which is asked for its own pose (ours)"

    def __init__(self, spec: ConsensusSpec, context: Context, network: nn.Module) -> None:
        """
        Args:
            network: from (b, 3, size, size) to (b, vector_size).
        """
        super().__init__(spec, context, network)
        elements = torch.arange(self.group.order)
        known = as_finite(parse_group(spec.poses))
        self.pose_logits = nn.Linear(spec.vector_size, known.order)
        outputs = _outputs(self.group, known)
        if outputs is None:
            raise ValueError(f"poses '{spec.poses}': do not hold all of {self.group.name}")
        # Which output is of pose k. (|G|,)
        self.output_of: Tensor
        self.register_buffer("output_of", torch.tensor(outputs), persistent=False)
        # Which view of x stands in pose k, if x stands in pose g: `see` shows v⁻¹·x, and v = g·k⁻¹. (|G|, |G|)
        inverses = self.group.inverse(elements)
        self.view_of: Tensor
        self.register_buffer("view_of", self.group.compose(elements[:, None], inverses[None]), persistent=False)

    @classmethod
    def serves(cls, trained: Group, group: Group) -> bool:
        """Whether every pose of the group is told apart."""
        return cls.takes(group) and _outputs(as_finite(group), trained) is not None

    @classmethod
    def create(cls, settings: ConsensusSettings, context: Context) -> "ConsensusCanonicalizer":
        found, look = settings.load(settings.vector_size)
        spec = ConsensusSpec(
            found.spec,
            found.preprocess.normalization,
            look.size,
            settings.vector_size,
            context.group.name,
            found.provenance,
            look.glance,
        )
        made = cls(spec, context, found.network)
        made.remarks = found.remarks
        return made

    def judge(self, x: Tensor) -> Pose:
        if self.training and self.training_views and self.training_views < self.group.order:
            return self._ask_few(x, self.training_views)
        opinions = self.pose_logits(self.see(x)).float()  # (b, |G|, outputs): of each view, of each pose
        # Summed in the order of k, which is the same however x comes turned: so the sum rounds the same.
        scores = opinions[:, self.view_of, self.output_of].sum(dim=2)  # (b, |G|)
        return Pose(scores.argmax(dim=1), scores)

    def _ask_few(self, x: Tensor, count: int) -> Pose:
        """The poses by so many views of each picture, drawn at random: each has an opinion of all poses."""
        drawn = torch.rand(len(x), self.group.order).argsort(dim=1)[:, :count]  # v
        opinions = self.pose_logits(self.see(x, drawn.to(x.device))).float()[..., self.output_of]  # (b, count, |G|)
        # A view v of x in pose g stands in pose k = v⁻¹·g.
        seen_as = self.group.compose(self.group.inverse(drawn)[..., None], torch.arange(self.group.order))
        scores = opinions.gather(2, seen_as.to(x.device)).sum(dim=1)
        return Pose(scores.argmax(dim=1), scores)


def _outputs(group: FiniteGroup, trained: Group) -> list[int] | None:
    """Which element of another group each element of a group is; None where one is not in it."""
    found = [read_label(trained, group.label(element)) for element in range(group.order)]
    if not is_finite(trained) or None in found:
        return None
    return [int(element) for element in found if element is not None]
