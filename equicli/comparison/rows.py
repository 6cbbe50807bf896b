"""From counts of single runs to the rows of the table: one a system, over its seeds."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import torch

from equicli.comparison.count import Counted
from equicli.comparison.systems import ORACLE, TITLES
from equicli.tasks.intervals import bootstrap, bootstrap_difference, wilson


def rows_of(counted: Sequence[Counted], score: str) -> list[dict[str, Any]]:
    """One row a system and swept setting, in the order of TITLES.

    Each has its numbers by seed, their mean and standard deviation, and where nothing is swept `to_best`, the paired
    difference of group-averaged accuracies to the best system's with its 95 % interval (for the value of a setting that
    was chosen so would be chosen by the test images).

    Args:
        score: the name of the score that is averaged; see `Task`.
    """
    names = dict.fromkeys(name for one in counted for name in one.numbers)
    runs: dict[tuple[str, tuple[str, ...]], list[Counted]] = {}
    for one in sorted(counted, key=lambda one: list(TITLES).index(one.system)):
        runs.setdefault((one.system, one.settings), []).append(one)
    # For each seed and image the share of turns in which it was right, (seeds, n).
    shares = {row: torch.stack([c.hits.double().mean(dim=1) for c in of]) for row, of in runs.items()}
    compared = [] if any(settings for _, settings in runs) else [row for row in runs if row[0] != ORACLE]
    best = max(compared, key=lambda row: float(shares[row].mean()), default=None)
    rows = []
    for row, of in runs.items():
        values = {number: [c.numbers.get(number) for c in of] for number in names}
        known = {number: [v for v in found if v is not None] for number, found in values.items()}
        to_best = None
        if best is not None and row in compared and row != best:
            low, high = bootstrap_difference(shares[row].numpy(), shares[best].numpy())
            to_best = {"value": float(shares[row].mean() - shares[best].mean()), "low": low, "high": high}
        system, settings = row
        rows.append(
            {
                "system": system,
                "settings": list(settings),
                "title": " ".join([TITLES[system], *settings]),
                "seeds": [c.seed for c in of],
                "mean": {number: mean(found) if found else None for number, found in known.items()},
                "std": {number: stdev(found) if len(found) > 1 else None for number, found in known.items()},
                "runs": [_run(c, score) for c in of],
                "best": row == best,
                "to_best": to_best,
            }
        )
    return rows


def _run(one: Counted, score: str) -> dict[str, Any]:
    exact, n = not one.hits.is_floating_point(), len(one.hits)
    correct = one.hits.sum(dim=0).tolist()
    return {
        **one.numbers,
        f"{score}_ci": wilson(correct[0], n) if exact else bootstrap(one.hits[:, :1].numpy()),
        f"avg_{score}_ci": bootstrap(one.hits.numpy()),
        **({"correct": correct} if exact else {}),
        "per_class": one.per_class,
    }
