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


def bootstrap(correct: NDArray[np.bool_ | np.float64], seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a group-averaged accuracy, or of the paired difference of two.

    Args:
        correct: (n, |R|), hits, or one system's minus another's. Images are resampled, each with all its turned
            copies: these are no independent trials.
    """
    per_image = correct.mean(axis=1)
    generator = np.random.default_rng(seed)
    n = len(per_image)
    means = [per_image[generator.integers(0, n, n)].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
