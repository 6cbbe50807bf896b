"""COCO's average precision, of detections that were matched picture by picture.

Matching is done once for each picture; what follows is of the whole set, and never averaged over parts of it. Pictures
may be given weights, so that a set can be resampled without matching anything anew. With weights of 1 the numbers are
those of COCO's own evaluation (pycocotools), to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equicli.tasks.annotations.objects import Objects, overlaps
from equicli.tasks.resampling import drawn_weights

# Overlaps from which a detection is right, and recalls at which precision is read.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = torch.linspace(0, 1, 101, dtype=torch.float64)
# Areas of objects, in square pixels.
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
# Detections of each class that are counted in a picture, the surest first.
MOST = 100

_LOW, _HIGH = (np.array(ends)[:, None] for ends in zip(*SIZES.values(), strict=True))
_NUMBERS = 4_000_000  # that are held at a time


@dataclass(frozen=True)
class Matches:
    """What was found in one picture beside what is there.

    labels, scores: of d detections.
    right, wrong: bool (d, |SIZES|, |THRESHOLDS|); what matches a crowd, or is of another size, is neither.
    classes: those of the objects that are there, int64 (k,). counts: how many of each size, int64 (k, |SIZES|).
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    classes: NDArray[np.int64]
    counts: NDArray[np.int64]


def match(found: Objects, there: Objects, *, masks: bool) -> Matches:
    """Match detections with the objects of a picture, class by class, the surest first.

    Args:
        masks: by the overlap of masks, else by that of boxes.
    """
    found = found.by_mask() if masks else found.by_box()
    classes = np.unique(np.concatenate([found.labels, there.labels]))
    parts = []
    for label in classes:
        own = np.flatnonzero(found.labels == label)
        own = own[np.argsort(-found.scores[own], kind="stable")[:MOST]]
        detections, objects = found.take(own), there.take(np.flatnonzero(there.labels == label))
        ignored = objects.crowds | (objects.areas < _LOW) | (objects.areas > _HIGH)  # (|SIZES|, n)
        right, wrong = _matched(overlaps(detections, objects, masks=masks), objects.crowds, ignored)
        wrong &= ((detections.areas >= _LOW) & (detections.areas <= _HIGH)).T[..., None]
        parts.append((detections.labels, detections.scores, right, wrong, (~ignored).sum(axis=1)))
    if not parts:
        none = np.zeros((0, len(SIZES), len(THRESHOLDS)), dtype=bool)
        return Matches(classes, np.zeros(0), none, none, classes, np.zeros((0, len(SIZES)), dtype=np.int64))
    labels, scores, right, wrong = (np.concatenate([part[i] for part in parts]) for i in range(4))
    return Matches(labels, scores, right, wrong, classes, np.stack([part[4] for part in parts]))


def _matched(
    over: NDArray[np.float64], crowds: NDArray[np.bool_], ignored: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give each detection, the surest first, the free object that it overlaps most, one that counts where there is one.

    Args:
        over: (d, n). ignored: which objects do not count, by size, (|SIZES|, n).

    Returns:
        Which detections have found one that counts, and which have found none, (d, |SIZES|, |THRESHOLDS|) both.
    """
    d, n = over.shape
    shape = (len(SIZES), len(THRESHOLDS))
    right, wrong = np.zeros((d, *shape), dtype=bool), np.ones((d, *shape), dtype=bool)
    if not n:
        return right, wrong
    taken = np.zeros((*shape, n), dtype=bool)
    enough = over[:, None, :] >= np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]  # (d, |THRESHOLDS|, n)
    for i in range(d):
        free = enough[i] & (~taken | crowds)
        counts = free & ~ignored[:, None]
        possible = np.where(counts.any(axis=-1, keepdims=True), counts, free)
        # Of equals the last.
        best = n - 1 - np.where(possible, over[i], -1.0)[..., ::-1].argmax(axis=-1)
        has = possible.any(axis=-1)
        right[i] = has & counts.any(axis=-1)
        wrong[i] = ~has
        np.put_along_axis(taken, best[..., None], np.take_along_axis(taken, best[..., None], -1) | has[..., None], -1)
    return right, wrong


class Pool:
    """The matches of a set of pictures, sorted for counting: detections by class, the surest first."""

    def __init__(self, pictures: Sequence[Matches]) -> None:
        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(one, name) for one in pictures])

        def owners(name: str) -> NDArray[np.int64]:
            return np.repeat(np.arange(len(pictures)), [len(getattr(one, name)) for one in pictures])

        order = np.lexsort((-joined("scores"), joined("labels")))  # of equals first the earlier picture's
        self.n = len(pictures)
        self._labels, self._of = joined("labels")[order], torch.from_numpy(owners("labels")[order])
        self._right, self._wrong = (torch.from_numpy(joined(name)[order]) for name in ("right", "wrong"))
        there = joined("counts").any(axis=1)
        self._classes, self._counts = joined("classes")[there], torch.from_numpy(joined("counts")[there]).double()
        self._owners = torch.from_numpy(owners("classes")[there])
        self.classes = [int(label) for label in np.unique(self._classes)]

    def __len__(self) -> int:
        return len(self._labels)

    def precision(self, weights: Tensor | None = None, sizes: int = len(SIZES)) -> Tensor:
        """Average precision of each class that is there.

        Args:
            weights: how often each picture counts, float64 (r, n), for r sets; None is once, of one set.
            sizes: of the first so many of SIZES.

        Returns:
            float64 (r, classes, sizes, |THRESHOLDS|); NaN where a class has no object of a size.
        """
        weights = torch.ones(1, self.n, dtype=torch.float64) if weights is None else weights
        table = [self._of_class(label, weights, sizes) for label in self.classes]
        return torch.stack(table, dim=1) if table else weights.new_zeros(len(weights), 0, sizes, len(THRESHOLDS))

    def mean(self, weights: Tensor | None = None) -> Tensor:
        """COCO's AP of the set, or of several that `weights` make of it: (r,), NaN of one without objects."""
        return self.precision(weights, 1).mean(dim=(2, 3)).nanmean(dim=1)

    def _of_class(self, label: int, weights: Tensor, sizes: int) -> Tensor:
        first, last = np.searchsorted(self._labels, (label, label + 1))
        of, rows = self._of[first:last], torch.from_numpy(np.flatnonzero(self._classes == label))
        total = weights[:, self._owners[rows]] @ self._counts[rows, :sizes]  # (r, sizes)
        hits, misses = (
            (flags[first:last, :sizes].permute(1, 2, 0) * weights[:, None, None, of]).cumsum(dim=-1)
            for flags in (self._right, self._wrong)
        )  # (r, sizes, |THRESHOLDS|, d)
        recall = hits / total[:, :, None, None]
        share = hits / (hits + misses).clamp(min=1e-9)  # 0 where nothing counts
        # The best precision at this recall or a higher one.
        share = share.flip(-1).cummax(dim=-1).values.flip(-1)
        at = torch.searchsorted(recall.nan_to_num(0).contiguous(), RECALLS.expand(*recall.shape[:-1], -1).contiguous())
        read = torch.cat([share, share.new_zeros(*share.shape[:-1], 1)], dim=-1).gather(-1, at)
        return read.mean(dim=-1).masked_fill((total == 0)[:, :, None], torch.nan)


def resampled(turns: Sequence[Pool]) -> Tensor:
    """AP of sets of pictures that are drawn anew, each picture with all its turns: float64 (RESAMPLES, |R|).

    Args:
        turns: the same pictures at each turn.
    """
    weights = drawn_weights(turns[0].n)

    def of(pool: Pool) -> Tensor:
        at_once = max(1, _NUMBERS // max(1, len(pool) * len(THRESHOLDS)))
        return torch.cat([pool.mean(some) for some in weights.split(at_once)])

    return torch.stack([of(pool) for pool in turns], dim=1)
