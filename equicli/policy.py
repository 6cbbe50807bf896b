"""How the prediction network is asked about an input: at the pose that was found, about some poses, or about all.

Training, evaluation and serving use the same policy; nothing else decides how often the network runs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from equicli.canonicalization.canonicalizer import Pose, posterior
from equicli.canonicalization.prior import TIE
from equicli.groups import Group, as_finite, is_finite
from equicli.groups.elements import Element
from equicli.groups.transport import Kinds
from equicli.prediction.evidence import EVIDENCE, Evidence, evidence_of
from equicli.prediction.inputs import Views
from equicli.prediction.signature import put_rows, take_rows
from equicli.settings import PolicySettings

Averaged = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class One:
    """One pass: at the pose that was found. Where none is sought, of the input as it is, at no further cost.

    temperature: what scores are divided by, so that p(ĝ | x) is the share of such poses that are right.
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    kind: Literal["one"] = "one"

    @property
    def chooses(self) -> bool:
        """Whether the pose that was found decides the output, so that it matters how often it is right."""
        return True

    def answer(self, views: Views, pose: Pose | None) -> Any:
        """Return the output for a batch.

        Args:
            views: asks the prediction network, and carries its answers back.
            pose: what the canonicalizer found; None where it finds none.
        """
        return views.at(None if pose is None else pose.element)

    def passes(self, group: Group, pose: Pose | None) -> float:
        """Of the prediction network for each input: the mean over those of these poses."""
        return 1

    def ties(self, pose: Pose) -> Tensor | None:
        """Inputs of which a rounding decides how they are asked about, besides the pose itself: bool (b,)."""
        return None

    def refusal(self, group: Group, outputs: Kinds, ranks: int = 0) -> str | None:
        """Why this cannot be done for a group and outputs of these kinds; None if it can.

        Args:
            ranks: of a continuous group, how many poses the canonicalizer compares; 0 where it finds but one.
        """
        return None


@dataclass(frozen=True)
class Mean:
    """The mean of a classifier's outputs over all poses of a finite group, each weighted by p(g | x); of a continuous
    one over those that the canonicalizer compares.

    of: `logits`, or `probabilities`, whose logarithm is returned; see `average_outputs`.
    """

    of: Averaged = "probabilities"
    kind: Literal["mean"] = "mean"

    @property
    def chooses(self) -> bool:
        return False

    def answer(self, views: Views, pose: Pose | None) -> Any:
        # View by view: all at once would take |G| times the memory of the network.
        outputs = map(views.at, _poses(views.group, pose))
        return average_outputs(None if pose is None else pose.scores, outputs, self.of)

    def passes(self, group: Group, pose: Pose | None) -> float:
        return len(_poses(group, pose))

    def ties(self, pose: Pose) -> Tensor | None:
        return None

    def refusal(self, group: Group, outputs: Kinds, ranks: int = 0) -> str | None:
        if not (is_finite(group) or ranks):
            return _too_many(group)
        if outputs != "logits":
            return "only logits can be averaged, and this task's outputs are others; use policy=one"
        return None


@dataclass(frozen=True)
class Gate:
    """One pass where the canonicalizer is sure of the pose; where it is not, the likeliest poses are asked about, too.

    These are weighed by p(g | x)·exp(weight·evidence), by what the canonicalizer says and how sure the network is of
    what it sees there; then their probabilities are averaged, or the best is chosen. Scores are sorted before anything
    is summed, so that for exact groups the order of views rounds nothing. An averaged output is the same, however its
    input comes turned, to within the rounding of p(g | x): shrinking a turned input rounds otherwise.

    threshold: the p(ĝ | x) from which one pass is enough.
    most: as many poses are asked about otherwise.
    temperature: what scores are divided by, so that p(ĝ | x) is the share of such poses that are right.
    evidence: a name in `prediction.evidence`.
    combine: `mean` of the probabilities, whose logarithm is returned, or `best`.
    """

    threshold: Annotated[float, Field(ge=0)]
    most: Annotated[int, Field(ge=2)]
    temperature: Annotated[float, Field(gt=0)] = 1.0
    weight: Annotated[float, Field(ge=0)] = 0.0
    evidence: Evidence = "logsumexp"
    combine: Literal["mean", "best"] = "mean"
    kind: Literal["gate"] = "gate"

    @property
    def chooses(self) -> bool:
        return True

    def answer(self, views: Views, pose: Pose | None) -> Any:
        p, poses = self._ranked(pose)
        elements = ranked_elements(pose, poses, self.most)
        likeliest = views.at(elements[0])
        unsure = self._unsure(p)
        if not len(unsure):
            return likeliest
        few = views.take(unsure)
        outputs = [take_rows(likeliest, unsure), *(few.at(element[unsure]) for element in elements[1:])]
        return put_rows(likeliest, unsure, self.combined(outputs, p[unsure, : self.most]))

    def combined(self, outputs: Sequence[Any], p: Tensor) -> Any:
        """What is returned of the likeliest poses' outputs.

        Args:
            outputs: of the `most` likeliest poses, each of a batch.
            p: p(g | x) of these, (b, most).
        """
        weights = p.log()
        if self.weight:
            evidence = torch.stack([EVIDENCE[self.evidence](output) for output in outputs], dim=1)
            weights = weights + self.weight * evidence
        if self.combine == "mean":
            return average_outputs(weights, outputs, "probabilities")
        best = weights.argmax(dim=1)
        if torch.compiler.is_compiling():  # no shape may depend on which is best
            return _by_rank(outputs, best)
        chosen = outputs[0]
        for rank, output in enumerate(outputs):
            rows = (best == rank).nonzero()[:, 0]
            chosen = put_rows(chosen, rows, take_rows(output, rows))
        return chosen

    def answer_all(self, views: Views, pose: Pose | None) -> Any:
        """The same, with as many passes for every input: what a program does, whose shapes depend on no value."""
        p, poses = self._ranked(pose)
        outputs = [views.at(poses[:, rank]) for rank in range(self.most)]
        return _where(p[:, 0] < self.threshold, self.combined(outputs, p[:, : self.most]), outputs[0])

    def passes(self, group: Group, pose: Pose | None) -> float:
        p, _ = self._ranked(pose)
        return 1 + (self.most - 1) * len(self._unsure(p)) / max(len(p), 1)

    def ties(self, pose: Pose) -> Tensor | None:
        p, poses = self._ranked(pose)
        scores = torch.as_tensor(pose.scores).gather(1, poses)
        at_threshold = (p[:, 0] - self.threshold).abs() < TIE
        last = scores[:, : self.most + 1]  # the last that is asked about, and the first that is not
        left_out = (last[:, -2] - last[:, -1]) < TIE if scores.shape[1] > self.most else torch.zeros_like(at_threshold)
        return at_threshold | ((p[:, 0] < self.threshold) & left_out)

    def refusal(self, group: Group, outputs: Kinds, ranks: int = 0) -> str | None:
        count = group.order if is_finite(group) else ranks
        if not count:
            return _too_many(group)
        if self.most > count:
            return f"asks about {self.most} poses of {count}"
        if self.evidence not in evidence_of(outputs):
            known = "only of logits, detections and classes of pixels it is known how sure the network is"
            return f"{known}, and this task's outputs are others; use policy=one"
        if self.combine == "mean" and outputs != "logits":
            return "only logits can be averaged, and this task's outputs are others"
        return None

    @classmethod
    def fitting(cls, outputs: Kinds) -> "Gate":
        """One that outputs of these kinds may be asked by, if any may."""
        if outputs == "logits":
            return cls(0.5, 2)
        return cls(0.5, 2, evidence=next(iter(evidence_of(outputs)), "logsumexp"), combine="best")

    def _ranked(self, pose: Pose | None) -> tuple[Tensor, Tensor]:
        assert pose is not None and pose.scores is not None  # a gate is fitted on scores
        return posterior(pose.scores, self.temperature)

    def _unsure(self, p: Tensor) -> Tensor:
        return (p[:, 0] < self.threshold).nonzero()[:, 0]


def _by_rank(outputs: Sequence[Any], rank: Tensor) -> Any:
    """Of each sample the output of one rank, (b,), without a shape that depends on it."""
    if isinstance(outputs[0], Mapping):
        return {name: _by_rank([output[name] for output in outputs], rank) for name in outputs[0]}
    stacked = torch.stack(list(outputs), dim=1)
    chosen = rank.reshape(-1, *[1] * (stacked.ndim - 1)).expand(-1, 1, *stacked.shape[2:])
    return stacked.gather(1, chosen)[:, 0]


def _where(rows: Tensor, output: Any, other: Any) -> Any:
    """An output where `rows`, bool (b,), are true, else another."""
    if isinstance(other, Mapping):
        return {name: _where(rows, output[name], part) for name, part in other.items()}
    return torch.where(rows.reshape(-1, *[1] * (other.ndim - 1)), output.to(other.dtype), other)


def _poses(group: Group, pose: Pose | None) -> Sequence[Element]:
    """Every pose that is compared: of a finite group all, else the candidates of each input, (b, d, d) by rank."""
    if pose is not None and pose.candidates is not None:
        return pose.candidates.unbind(1)
    return range(as_finite(group).order)


def ranked_elements(pose: Pose | None, order: Tensor, most: int) -> list[Tensor]:
    """The likeliest poses of each input: `most` batches of elements.

    Args:
        order: their numbers, the likeliest first, (b, m); see `posterior`.
    """
    if pose is None or pose.candidates is None:
        return [order[:, rank] for rank in range(most)]
    rows = torch.arange(len(order), device=order.device)
    return [pose.candidates[rows, order[:, rank]] for rank in range(most)]


def _too_many(group: Group) -> str:
    if group.dimension == 3:
        return f"{group.name} has infinitely many poses; take --canonicalizer optimized or frame, which compare some"
    return f"{group.name} has infinitely many poses; take a group such as c8"


Policy = One | Mean | Gate
ONE = One()


def temperature_of(policy: Policy) -> float:
    """What scores are divided by before they say how sure a pose is: fitted to validation images, else 1."""
    return 1.0 if isinstance(policy, Mean) else policy.temperature


def passes_of_each(policy: Policy, group: Group, pose: Pose | None, count: int) -> list[float]:
    """Of the prediction network, for each of `count` inputs."""
    if not isinstance(policy, Gate) or pose is None or pose.scores is None:
        return [policy.passes(group, pose)] * count
    sure, _ = posterior(pose.scores, policy.temperature)
    return [policy.most if p < policy.threshold else 1 for p in sure[:, 0].tolist()]


def certainty(policy: Policy, pose: Pose) -> Tensor | None:
    """p(ĝ | x) of each pose that was found, float32 (b,), calibrated by the policy's temperature; None where no scores
    say it of each element of a finite group.
    """
    if pose.scores is None or pose.scores.ndim != 2:
        return None
    return posterior(pose.scores, temperature_of(policy))[0][:, 0]


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
    """The policy by which a model is trained. A gate is fitted when that is done, and until then asks once."""
    return Mean(settings.of) if settings.kind == "mean" else One()
