"""Intervals of what is measured on a whole set, by drawing its pictures anew (a bootstrap)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from equicli.groups import Turns

RESAMPLES = 200


def drawn_weights(n: int, seed: int = 0) -> Tensor:
    """How often each of n pictures is in each set that is drawn, float64 (RESAMPLES, n)."""
    drawn = torch.randint(n, (RESAMPLES, n), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(RESAMPLES, n, dtype=torch.float64).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def by_turns(name: str, values: Tensor, drawn: Tensor, elements: Turns, n: int) -> dict[str, Any]:
    """What `metrics.json` says of a figure at every turn: that of untouched pictures, the mean and the worst.

    Args:
        values: float64 (|R|,). drawn: the same of sets that were drawn anew, each picture with all its turns,
            (RESAMPLES, |R|).
        elements: R.
        n: how many pictures there are: of one alone no interval is told.
    """

    def told(figures: Tensor) -> tuple[float, float] | None:
        return interval(figures) if n > 1 else None

    return {
        name: float(values[0]),
        f"avg_{name}": float(values.mean()),
        f"worst_{name}": float(values.min()),
        f"{name}_ci": told(drawn[:, 0]),
        f"avg_{name}_ci": told(drawn.mean(dim=1)),
        "per_element": [
            {
                "element": elements.label(g),
                "angle": elements.angle(g),
                "mirror": elements.mirrored(g),
                name: float(values[g]),
                f"{name}_ci": told(drawn[:, g]),
            }
            for g in elements.elements()
        ],
    }


def interval(drawn: Tensor) -> tuple[float, float]:
    """The middle 95 % of a figure of sets that were drawn; those of which there is none count for nothing."""
    known = drawn[drawn.isfinite()].numpy()
    low, high = np.quantile(known, (0.025, 0.975)) if len(known) else (0.0, 1.0)
    return float(low), float(high)
