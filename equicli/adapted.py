"""AdaptedModel: a canonicalizer in front of a frozen prediction network. What is evaluated is what is shipped."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.groups import Group, as_finite, is_finite
from equicli.groups.action import act

Average = Literal["none", "probabilities", "logits"]


def average_outputs(scores: Tensor | None, outputs: Iterable[Tensor], average: Average) -> Tensor:
    """The mean of a classifier's outputs at g⁻¹·x over all g of a finite group, each weighted by p(g | x).

    Without scores all weights are equal: symmetrization (arXiv 1804.10306), and equi-tuning where the network is
    trained so (arXiv 2210.06475). Learned weights are those of λ-equitune (arXiv 2305.09900), λ(g⁻¹·x) = exp s(g | x).

    Args:
        scores: s(g | x), (b, |G|).
        outputs: logits (b, k) of each view, in the order of the group.
        average: `logits`, or `probabilities`, whose logarithm is returned.
    """
    stacked = torch.stack([logits.float() for logits in outputs], dim=1)  # (b, |G|, k)
    if scores is None:
        log_weights = stacked.new_full(stacked.shape[:2], -math.log(stacked.shape[1]))
    else:
        log_weights = scores.log_softmax(dim=1)
    if average == "probabilities":
        return (stacked.log_softmax(dim=2) + log_weights[..., None]).logsumexp(dim=1)
    return (stacked * log_weights.exp()[..., None]).sum(dim=1)


def each_view(group: Group, x: Tensor, padding: str) -> Iterator[Tensor]:
    """g⁻¹·x for each g of a finite group, one by one: all at once take |G| times the memory of a network."""
    finite = as_finite(group)
    return (act(finite, finite.inverse(g), x, padding=padding) for g in range(finite.order))


class AdaptedModel(nn.Module):
    """Takes what the prediction network takes and returns what it returns, at the canonical form of the input.

    x ↦ network(ĝ⁻¹·x) with ĝ = canonicalizer(x).element, so that an invariant output is the same for every g·x.
    The prediction network is frozen here, also where `train_base` trained it before: its parameters want no gradient
    and it stays in eval mode, also under `train()`.
    """

    def __init__(
        self,
        canonicalizer: Canonicalizer,
        prediction_network: nn.Module,
        padding: str = "edge",
        average: Average = "none",
    ) -> None:
        """
        Args:
            padding: what images that are turned off the grid show from outside (see `groups.action.act`).
            average: instead of choosing a pose, average over all; see `average_outputs`.
        """
        super().__init__()
        self.canonicalizer = canonicalizer
        self.prediction_network = prediction_network.requires_grad_(False)
        self.padding = padding
        self.average: Average = average
        self.eval()

    def train(self, mode: bool = True) -> "AdaptedModel":
        super().train(mode)
        self.prediction_network.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AdaptedModel":
        # `.half()` and the like change the prediction network; the canonicalizer only follows to its device.
        self.prediction_network._apply(fn, recurse)
        self.canonicalizer._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x: Tensor) -> Any:
        """Predict from square images x (b, c, h, w), normalized as the prediction network expects."""
        return self.predict(x)[0]

    def canonicalize(self, x: Tensor) -> Tensor:
        """Return the canonical form ĝ⁻¹·x of each image, (b, c, h, w): the same for x and for every g·x."""
        return self._undo(self.find_pose(x), x)

    def predict(self, x: Tensor) -> tuple[Any, Pose]:
        """Return the prediction network's output at the canonical form, and the pose that was found."""
        pose = self.find_pose(x)
        if self.average != "none":
            seen = each_view(self.canonicalizer.group, x, self.padding)
            return average_outputs(pose.scores, map(self.prediction_network, seen), self.average), pose
        return self.prediction_network(self._undo(pose, x)), pose

    @property
    def passes(self) -> int:
        """Of the prediction network, for each image."""
        group = self.canonicalizer.group
        return self.canonicalizer.passes + (group.order if self.average != "none" and is_finite(group) else 1)

    @property
    def finds_poses(self) -> bool:
        """Whether it chooses one pose for each image."""
        return self.canonicalizer.finds_poses and self.average == "none"

    def find_pose(self, x: Tensor) -> Pose:
        """Poses, in float32 whatever the prediction network runs in, because near ties decide them."""
        with torch.autocast(x.device.type, enabled=False):
            return self.canonicalizer(x.float())

    def _undo(self, pose: Pose, x: Tensor) -> Tensor:
        if not self.canonicalizer.finds_poses:
            return x  # at the network's own cost
        group = self.canonicalizer.group
        return act(group, group.inverse(pose.element), x, padding=self.padding)
