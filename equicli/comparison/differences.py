"""Whether one system beats another on the same images."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

RESAMPLES = 2000


class Difference(NamedTuple):
    """Of group-averaged accuracies, a - b, with its 95 % interval: one that leaves out 0 is clear."""

    value: float
    low: float
    high: float


def difference(a: Tensor, b: Tensor, seed: int = 0) -> Difference:
    """Paired percentile bootstrap over images, each with all its turned copies.

    Args:
        a, b: (n,), for the same images, the share of turns (and seeds) in which each system was right.
    """
    gap = (a - b).numpy()
    generator = np.random.default_rng(seed)
    means = [gap[generator.integers(0, len(gap), len(gap))].mean() for _ in range(RESAMPLES)]
    low, high = (float(v) for v in np.percentile(means, [2.5, 97.5]))
    return Difference(float(gap.mean()), low, high)
