"""One confusion matrix over a whole set, kept picture by picture, and the numbers that are made of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from equicli.tasks.annotations.mask_files import VOID


def confusion(said: Tensor, right: Tensor) -> Tensor:
    """The entries of one picture's confusion matrix that are not 0: int64 (m, 3), right class, said class, pixels.

    Args:
        said, right: classes, (h, w); of `right` VOID where nothing is known.
    """
    known = right != VOID
    rows, columns = right[known].long(), said[known].long()
    side = int(columns.max()) + 1 if len(columns) else 1
    pairs, counts = (rows * side + columns).unique(return_counts=True)
    return torch.stack([pairs // side, pairs % side, counts], dim=1)


class Matrix:
    """Of n pictures, by class: pixels that are right, that are of it, and that are said to be.

    classes: those that are there, sorted; of others nothing is right.
    """

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        entries = torch.cat(list(pictures))
        owners = torch.repeat_interleave(torch.tensor([len(one) for one in pictures]))
        self.classes: list[int] = entries[:, 0].unique().tolist()
        at = torch.tensor(self.classes, dtype=torch.int64)
        self._there, self._said, self._right = (
            torch.zeros(len(pictures), len(self.classes), dtype=torch.float64) for _ in range(3)
        )
        for into, values, chosen in (
            (self._there, entries[:, 0], torch.ones(len(entries), dtype=torch.bool)),
            (self._said, entries[:, 1], torch.isin(entries[:, 1], at)),
            (self._right, entries[:, 0], entries[:, 0] == entries[:, 1]),
        ):
            where = (owners[chosen], torch.searchsorted(at, values[chosen]))
            into.index_put_(where, entries[chosen, 2].double(), accumulate=True)

    def overlaps(self, weights: Tensor | None = None) -> Tensor:
        """Intersection over union of each class over all pixels of the set, (r, classes); NaN where none is there.

        Args:
            weights: how often each picture counts, float64 (r, n), for r sets; None is once, of one set.
        """
        right, there, said = self._sums(weights)
        union = there + said - right
        return (right / union.clamp(min=1)).masked_fill(there == 0, torch.nan)

    def accuracy(self, weights: Tensor | None = None) -> Tensor:
        """The share of pixels that are right, (r,)."""
        right, there, _ = self._sums(weights)
        return right.sum(dim=1) / there.sum(dim=1).clamp(min=1)

    def _sums(self, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        weights = torch.ones(1, len(self._there), dtype=torch.float64) if weights is None else weights
        return weights @ self._right, weights @ self._there, weights @ self._said
