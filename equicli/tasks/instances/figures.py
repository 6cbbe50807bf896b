"""The figures that are told of a set of pictures, at one turn."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from equicli.tasks.instances.precision import SIZES, THRESHOLDS, Matches, Pool

# What is told of each kind, by the ends of names in `metrics.json`.
_TOLD = (
    ("", "all"),
    ("50", "at 0.5"),
    ("75", "at 0.75"),
    ("_small", "small"),
    ("_medium", "medium"),
    ("_large", "large"),
)


def alone(picture: Matches) -> float:
    """The AP of one picture; without objects 1 where nothing is found, else 0."""
    value = float(Pool([picture]).mean())
    return value if math.isfinite(value) else float(not len(picture.labels))


def pools_of(pictures: Sequence[Sequence[Matches]]) -> list[Pool]:
    """The matches at each turn."""
    return [Pool(turn) for turn in zip(*pictures, strict=True)]


def numbers(pictures: Pool) -> dict[str, float | None]:
    """COCO's numbers of a set of pictures; 0 of one without any object, None of sizes that none has."""
    table = pictures.precision()[0]
    by_class = table.mean(dim=-1)  # (classes, sizes)
    sizes = {f"map_{name}": _known(by_class[:, i].nanmean()) for i, name in enumerate(SIZES) if i}
    at = {f"map{round(100 * THRESHOLDS[i])}": _known(table[:, 0, i].nanmean()) for i in (0, 5)}
    return {"map": _known(by_class[:, 0].nanmean()) or 0.0, **at, **sizes}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _known(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def told(measured: Mapping[str, Any]) -> str:
    """What is told of a system in one line."""
    return ", ".join(f"{words} {_percent(measured[f'avg_map{end}'])}" for end, words in _TOLD)
