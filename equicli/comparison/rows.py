"""From counts of single runs to the rows of the table: one a system, over its seeds."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import torch

from equicli.comparison.count import Counted
from equicli.comparison.systems import EVERY
from equicli.tasks.intervals import paired_difference


def rows_of(counted: Sequence[Counted], reference: str) -> list[dict[str, Any]]:
    """One row a system and swept setting, in the order of EVERY.

    Each has its numbers by seed, their mean and standard deviation, and `to_reference`, the paired difference of its
    group-averaged score to the reference's with its 95 % interval; None for the reference itself.

    Args:
        reference: a system that is not swept; see `choose_reference`.
    """
    names = dict.fromkeys(name for one in counted for name in one.numbers)
    runs: dict[tuple[str, tuple[str, ...]], list[Counted]] = {}
    for one in sorted(counted, key=lambda one: list(EVERY).index(one.system)):
        runs.setdefault((one.system, one.settings), []).append(one)
    # For each seed and image the share of turns in which it was right, (seeds, n).
    shares = {row: torch.stack([c.averaged.double().mean(dim=1) for c in of]) for row, of in runs.items()}
    rows = []
    for row, of in runs.items():
        values = {number: [c.numbers.get(number) for c in of] for number in names}
        known = {number: [v for v in found if v is not None] for number, found in values.items()}
        system, settings = row
        to_reference = None
        if system != reference:
            value, (low, high) = paired_difference(shares[row].numpy(), shares[reference, ()].numpy())
            to_reference = {"value": value, "low": low, "high": high}
        rows.append(
            {
                "system": system,
                "settings": list(settings),
                "title": " ".join([EVERY[system], *settings]),
                "seeds": [c.seed for c in of],
                "mean": {number: mean(found) if found else None for number, found in known.items()},
                "std": {number: stdev(found) if len(found) > 1 else None for number, found in known.items()},
                "runs": [_run(c) for c in of],
                "to_reference": to_reference,
            }
        )
    return rows


def _run(one: Counted) -> dict[str, Any]:
    exact = not one.hits.is_floating_point()
    return {
        **one.numbers,
        **one.intervals,
        **({"correct": one.hits.sum(dim=0).tolist()} if exact else {}),
        "per_class": one.per_class,
    }
