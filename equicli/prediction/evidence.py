"""How sure a prediction network is of an output: its evidence for the pose that it was shown. Named in artifacts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from equicli.groups.transport import Kinds

Evidence = Literal["logsumexp", "confidence", "surest", "information"]


def logsumexp(logits: Tensor) -> Tensor:
    """The negative energy of a classifier's logits (b, k): (b,). Large where the network knows what it sees."""
    return logits.float().logsumexp(dim=1)


def confidence(logits: Tensor) -> Tensor:
    """The log-probability of the likeliest class of logits (b, k): (b,), at most 0."""
    return logits.float().log_softmax(dim=1).amax(dim=1)


def surest(output: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The log-odds of the surest thing that a detector finds in each picture: (b,).

    That tells poses apart better than sums over all that is found: a turned picture gives much that is unsure.
    """
    highest = [one["scores"].float().amax() if len(one["scores"]) else one["scores"].new_zeros(()) for one in output]
    return torch.stack(highest).float().clamp(1e-4, 1 - 1e-4).logit()


def information(output: Any) -> Tensor:
    """How much the classes of pixels tell of each picture: (b,); see `readers.classes_and_information`.

    How sure it is of its pixels tells no poses apart: of a turned picture it finds nothing, and is sure of that.
    """
    if isinstance(output, Mapping):
        return torch.as_tensor(output["information"]).float()
    return torch.stack([one["information"] for one in output]).float()


# From a network's output to one number a sample, float32 (b,).
EVIDENCE: dict[Evidence, Callable[[Any], Tensor]] = {
    "logsumexp": logsumexp,
    "confidence": confidence,
    "surest": surest,
    "information": information,
}


# What of a network's output it is read from, where that has parts.
_OF_PARTS: dict[Evidence, str] = {"surest": "scores", "information": "information"}


def evidence_of(outputs: Kinds) -> tuple[Evidence, ...]:
    """Names of the evidence that there is of outputs of these kinds."""
    if outputs == "logits":
        return ("logsumexp", "confidence")
    if not isinstance(outputs, Mapping):
        return ()
    return tuple(name for name, part in _OF_PARTS.items() if part in outputs)
