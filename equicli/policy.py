"""How the prediction network is asked about an input: at the pose that was found, or about all poses.

Training, evaluation and serving use the same policy; nothing else decides how often the network runs.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Pose
from equicli.groups import Group, as_finite, is_finite
from equicli.groups.action import Element
from equicli.groups.transport import Kinds
from equicli.settings import PolicySettings

# What the network says of g⁻¹·x, carried back by g: for one element, or one a sample; None leaves inputs as they are.
At = Callable[[Element | None], Any]
Averaged = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class One:
    """One pass: at the pose that was found. Where none is sought, of the input as it is, at no further cost."""

    kind: Literal["one"] = "one"

    @property
    def chooses(self) -> bool:
        """Whether each output is that of one pose."""
        return True

    def answer(self, at: At, group: Group, pose: Pose | None) -> Any:
        """Return the output for a batch.

        Args:
            pose: what the canonicalizer found; None where it finds none.
        """
        return at(None if pose is None else pose.element)

    def passes(self, group: Group) -> int:
        """Of the prediction network for each input."""
        return 1

    def refusal(self, group: Group, outputs: Kinds) -> str | None:
        """Why this cannot be done for a group and outputs of these kinds; None if it can."""
        return None


@dataclass(frozen=True)
class Mean:
    """The mean of a classifier's outputs over all poses of a finite group, each weighted by p(g | x).

    of: `logits`, or `probabilities`, whose logarithm is returned; see `average_outputs`.
    """

    of: Averaged = "probabilities"
    kind: Literal["mean"] = "mean"

    @property
    def chooses(self) -> bool:
        return False

    def answer(self, at: At, group: Group, pose: Pose | None) -> Any:
        # View by view: all at once would take |G| times the memory of the network.
        return average_outputs(None if pose is None else pose.scores, map(at, range(as_finite(group).order)), self.of)

    def passes(self, group: Group) -> int:
        return as_finite(group).order

    def refusal(self, group: Group, outputs: Kinds) -> str | None:
        if not is_finite(group):
            return f"{group.name} has infinitely many poses; take a group such as c8"
        if outputs != "logits":
            return "only logits can be averaged, and this task's outputs are others; use policy=one"
        return None


Policy = One | Mean
ONE = One()


def average_outputs(scores: Tensor | None, outputs: Iterable[Tensor], of: Averaged) -> Tensor:
    """The mean of a classifier's outputs at g⁻¹·x over all g of a finite group, each weighted by p(g | x).

    Without scores all weights are equal: symmetrization (arXiv 1804.10306), and equi-tuning where the network is
    trained so (arXiv 2210.06475). Learned weights are those of λ-equitune (arXiv 2305.09900), λ(g⁻¹·x) = exp s(g | x).

    Args:
        scores: s(g | x), (b, |G|).
        outputs: logits (b, k) of each view, in the order of the group.
        of: `logits`, or `probabilities`, whose logarithm is returned.
    """
    stacked = torch.stack([logits.float() for logits in outputs], dim=1)  # (b, |G|, k)
    if scores is None:
        log_weights = stacked.new_full(stacked.shape[:2], -math.log(stacked.shape[1]))
    else:
        log_weights = scores.log_softmax(dim=1)
    if of == "probabilities":
        return (stacked.log_softmax(dim=2) + log_weights[..., None]).logsumexp(dim=1)
    return (stacked * log_weights.exp()[..., None]).sum(dim=1)


def policy_of(settings: PolicySettings) -> Policy:
    """Make the policy that a configuration asks for."""
    return Mean(settings.of) if settings.kind == "mean" else One()
