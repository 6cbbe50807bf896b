"""From counts of single runs to the rows of the table: one a system, over its seeds."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

import torch

from equicli.comparison.count import Counted
from equicli.comparison.differences import Difference, difference
from equicli.comparison.systems import ORACLE, TITLES

# What a run counts; of several seeds their mean and standard deviation are told.
NUMBERS = (
    "acc avg_acc worst_acc top5_acc avg_top5_acc ece avg_ece invariance_residual identity_rate total_variation "
    "wasserstein mmd trainable_parameters added_parameters training_seconds passes relative_cost"
).split()


def rows_of(counted: Sequence[Counted]) -> list[dict[str, Any]]:
    """One row a system: numbers by seed, their mean and standard deviation, and how far it is from the best."""
    names = list(dict.fromkeys(c.row for c in counted))
    names.sort(key=lambda name: list(TITLES).index(name.split()[0]))
    runs = {name: [c for c in counted if c.row == name] for name in names}
    # Of each image, the share of seeds and turns in which it was right.
    shares = {name: torch.stack([c.hits.double().mean(dim=1) for c in runs[name]]).mean(dim=0) for name in names}
    # A swept setting is no system of its own, and choosing the best of its values would be choosing by the test set.
    systems = [name for name in names if name != ORACLE and " " not in name] or names
    best = max(systems, key=lambda name: float(shares[name].mean()))
    rows = []
    for name in names:
        values = {number: [c.numbers.get(number) for c in runs[name]] for number in NUMBERS}
        known = {number: [v for v in found if v is not None] for number, found in values.items()}
        apart: Difference | None = None if name in (best, ORACLE) else difference(shares[name], shares[best])
        rows.append(
            {
                "system": name.split()[0],
                "settings": name.split()[1:],
                "title": " ".join([TITLES[name.split()[0]], *name.split()[1:]]),
                "seeds": [c.part.config.seed for c in runs[name]],
                "mean": {number: mean(found) if found else None for number, found in known.items()},
                "std": {number: stdev(found) if len(found) > 1 else None for number, found in known.items()},
                "runs": [
                    {**c.numbers, "correct": c.hits.sum(dim=0).tolist(), "per_class": c.per_class} for c in runs[name]
                ],
                "best": name == best,
                "to_best": None if apart is None else apart._asdict(),
            }
        )
    return rows
