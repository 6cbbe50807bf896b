"""95 % intervals for accuracies, and for what lies between two of them."""

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson score interval of a proportion, for one trial an image."""
    return _wilson(correct / n, n)


def clustered(scores: NDArray[np.float64] | NDArray[np.bool_]) -> tuple[float, float]:
    """Interval of a group-averaged score: an image and its turned copies are one cluster, no independent trials.

    Wilson's interval for as many independent trials as the images are worth, which their variance tells (Korn and
    Graubard 1998): n where the copies share their fate, up to n·|R| where each has its own. Resampling images says the
    same of many that vary; but where they hardly do it collapses, to nothing at 9 of 9 right. For the variance alone
    z²/2 images that are right at every turn are added, and as many that are wrong (Agresti and Coull 1998), so that
    images which do not vary are worth n trials.

    Args:
        scores: (n, |R|), in [0, 1].
    """
    images, added = scores.astype(np.float64).mean(axis=1), _Z**2 / 2
    total = len(images) + 2 * added
    centre = (images.sum() + added) / total
    variance = ((images**2).sum() + added) / total - centre**2
    return _wilson(float(images.mean()), float(len(images) * centre * (1 - centre) / variance))


def paired_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """The difference of two systems' group-averaged scores on the same images, a - b, and its interval.

    Welch's t interval over images and seeds: their variances add up, and as few seeds tell little of how much trainings
    vary, its degrees of freedom are few where that decides. (Resampling three seeds would find one pair of equal
    systems in five different.) One seed says nothing of it; and where trainings hardly vary the interval is a little
    wide, as what they differ by from image to image is counted twice. Two images are added on which one of the systems
    is wholly right and the other wrong (Bonett and Price 2012), so that no interval is empty.

    Args:
        a, b: (seeds, n), for each image the mean score over its turns, in [0, 1].
    """
    from scipy.special import stdtrit

    n = a.shape[1]
    value = float(a.mean() - b.mean())
    apart = np.append(a.mean(axis=0) - b.mean(axis=0), [1.0, -1.0])
    # The variance of each mean, and its degrees of freedom.
    parts = [(apart.var() / (n + 2), n + 1)]
    parts += [(s.mean(axis=1).var(ddof=1) / len(s), len(s) - 1) for s in (a, b) if len(s) > 1]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    half, centre = stdtrit(freedom, 0.975) * variance**0.5, apart.mean()
    return value, (float(max(-1.0, min(value, centre - half))), float(min(1.0, max(value, centre + half))))


def _wilson(share: float, n: float) -> tuple[float, float]:
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
