"""How sure a prediction network is of an output: its evidence for the pose that it was shown. Named in artifacts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from equicli.groups.transport import Kinds

Evidence = Literal["logsumexp", "confidence", "detections"]


def logsumexp(logits: Tensor) -> Tensor:
    """The negative energy of a classifier's logits (b, k): (b,). Large where the network knows what it sees."""
    return logits.float().logsumexp(dim=1)


def confidence(logits: Tensor) -> Tensor:
    """The log-probability of the likeliest class of logits (b, k): (b,), at most 0."""
    return logits.float().log_softmax(dim=1).amax(dim=1)


def detections(output: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The logarithm of the sum of all squared scores of what a detector finds in each picture: (b,). Many objects of
    which it is sure are evidence, however many there are of which it is not."""
    return torch.stack([(one["scores"].float() ** 2).sum().clamp(min=1e-6).log() for one in output])


# From a network's output to one number a sample, float32 (b,).
EVIDENCE: dict[Evidence, Callable[[Any], Tensor]] = {
    "logsumexp": logsumexp,
    "confidence": confidence,
    "detections": detections,
}


def evidence_of(outputs: Kinds) -> tuple[Evidence, ...]:
    """Names of the evidence that there is of outputs of these kinds."""
    if outputs == "logits":
        return ("logsumexp", "confidence")
    return ("detections",) if isinstance(outputs, Mapping) and "scores" in outputs else ()
