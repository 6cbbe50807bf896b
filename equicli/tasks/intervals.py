"""95 % intervals for accuracies."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a proportion, for one trial an image."""
    share = correct / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap(correct: NDArray[np.bool_], seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a group-averaged accuracy.

    Args:
        correct: (n, |R|). Images are resampled, each with all its turned copies: these are no independent trials.
    """
    per_image = correct.mean(axis=1)
    generator = np.random.default_rng(seed)
    n = len(per_image)
    return _middle([per_image[generator.integers(0, n, n)].mean() for _ in range(RESAMPLES)])


def bootstrap_difference(a: NDArray[np.float64], b: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the difference of two systems' group-averaged accuracies, a - b.

    Images are resampled, the same for both, and the seeds of each. Of two or three seeds resampling shows somewhat too
    little of how they vary; of one, nothing.

    Args:
        a, b: (seeds, n), for the same n images the share of turns in which each was right.
    """
    generator = np.random.default_rng(seed)
    n = a.shape[1]

    def resampled(shares: NDArray[np.float64], images: NDArray[np.int64]) -> float:
        seeds = generator.integers(0, len(shares), len(shares))
        return float(shares[seeds].mean(axis=0)[images].mean())

    gaps = []
    for _ in range(RESAMPLES):
        images = generator.integers(0, n, n)
        gaps.append(resampled(a, images) - resampled(b, images))
    return _middle(gaps)


def _middle(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
