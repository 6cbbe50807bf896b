"""How sure a prediction network is of an output: its evidence for the pose that it was shown. Named in artifacts."""

from collections.abc import Callable
from typing import Any

from torch import Tensor


def logsumexp(logits: Tensor) -> Tensor:
    """The negative energy of a classifier's logits (b, k): (b,). Large where the network knows what it sees."""
    return logits.float().logsumexp(dim=1)


def confidence(logits: Tensor) -> Tensor:
    """The log-probability of the likeliest class of logits (b, k): (b,), at most 0."""
    return logits.float().log_softmax(dim=1).amax(dim=1)


# From a network's output to one number a sample, float32 (b,).
EVIDENCE: dict[str, Callable[[Any], Tensor]] = {"logsumexp": logsumexp, "confidence": confidence}
