"""Whether probabilities mean what they say."""

import torch
from torch import Tensor


def calibration_error(confidence: Tensor, correct: Tensor) -> float:
    """Expected calibration error in [0, 1], of 15 equal bins (Guo et al., arXiv 1706.04599).

    Args:
        confidence: the probability of each guess, of a class or of a pose; correct: bool, whether it was right. Both
            (n,).
    """
    bins = (15 * confidence).long().clamp(0, 14)
    off = torch.zeros(15, dtype=torch.float64).index_add(0, bins, confidence.double() - correct.double())
    return float(off.abs().sum() / len(confidence))
