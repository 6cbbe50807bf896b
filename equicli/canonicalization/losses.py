"""What trains a canonicalizer. All take float32 tensors and return a scalar."""

from collections.abc import Sequence

import torch
from torch import Tensor


def prior_loss(scores: Tensor, poses: Sequence[int]) -> Tensor:
    """-log Σ_{g in S} p(g | x), the mean over the batch: each input should be found in a pose of the set S.

    Args:
        scores: (b, |G|), unnormalized log-probabilities.
        poses: S, the elements that the prediction network expects; `[0]` is the identity prior.
    """
    chosen = scores[:, list(poses)].logsumexp(dim=1)
    return (scores.logsumexp(dim=1) - chosen).mean()


def contrast_loss(vectors: Tensor) -> Tensor:
    """Mean over g ≠ h of |cos(f(g⁻¹·x), f(h⁻¹·x))|: different views should get different vectors.

    Args:
        vectors: (b, |G|, d), unit vectors.

    Returns:
        A scalar in [0, 1]; 0 for the trivial group, which has no pair of views.
    """
    order = vectors.shape[1]
    cosines = (vectors @ vectors.transpose(1, 2)).abs()  # (b, |G|, |G|)
    off_diagonal = ~torch.eye(order, dtype=torch.bool, device=vectors.device)
    return (cosines * off_diagonal).sum() / max(1, len(vectors) * order * (order - 1))
