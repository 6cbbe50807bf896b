"""The range of values that pictures of more than 8 bits have: the grey levels of one are black, of the other white.

A 16-bit file may hold 12-bit data, and floats lie between 0 and 1 or between -1 and 1. What a file says itself counts
(see `data.wide`); where it says nothing, a training split as a whole tells.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from equicli.errors import EquicliError

Kind = Literal["integers", "floats"]
Finite = Annotated[float, Field(allow_inf_nan=False)]

_BLOCK = 1 << 20  # values that are scaled at a time: scaling in float64 takes much memory
_SLACK = 1e-3  # of a range: floats that were computed overshoot by their rounding


@dataclass(frozen=True)
class ValueRange:
    """Values from `low`, which is shown black, to `high`, which is shown white."""

    low: Finite
    high: Finite

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a value range goes from a lower to a higher value, not {self}")

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"

    def holds(self, low: float, high: float, slack: float = 0.0) -> bool:
        margin = slack * (self.high - self.low)
        return self.low - margin <= low and high <= self.high + margin

    def to_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Scale to 0…255, rounded; what lies outside is cut."""
        if values.dtype.kind == "u" and values.dtype.itemsize == 2:
            taken: NDArray[np.uint8] = self.to_bytes(np.arange(1 << 16, dtype=np.int32))[values]
            return taken
        flat, scaled = values.reshape(-1), np.empty(values.size, np.uint8)
        for start in range(0, flat.size, _BLOCK):
            part = flat[start : start + _BLOCK].astype(np.float64).clip(self.low, self.high)
            scaled[start : start + _BLOCK] = ((part - self.low) / (self.high - self.low) * 255).round()
        return scaled.reshape(values.shape)


UNIT, BYTES, WORDS = ValueRange(0, 1), ValueRange(0, 255), ValueRange(0, 65535)
# The usual ones, the smallest first.
USUAL = (UNIT, ValueRange(-1, 1), BYTES, *(ValueRange(0, (1 << bits) - 1) for bits in (10, 12, 14)), WORDS)


@dataclass(frozen=True)
class ValueRanges:
    """The range of integers and that of floats, in files that do not say theirs and in arrays; None: as is usual.

    cut: whether values outside are cut, as of a range that somebody chose; else the picture is refused.
    """

    integers: ValueRange | None = None
    floats: ValueRange | None = None
    cut: bool = False

    @classmethod
    def chosen(cls, low: float, high: float) -> "ValueRanges":
        """What somebody says, whatever the files are.

        Raises:
            ValueError: it is no range.
        """
        return cls(ValueRange(low, high), ValueRange(low, high), cut=True)

    def of(self, kind: Kind) -> ValueRange | None:
        return self.integers if kind == "integers" else self.floats


AS_USUAL = ValueRanges()


def read_bounds(value: Any) -> Any:
    """Read LOW:HIGH; two numbers are left as they are.

    Raises:
        ValueError: it is something else, or no range.
    """
    try:
        low, high = map(float, value.split(":") if isinstance(value, str) else value)
        if np.isfinite([low, high]).all() and low < high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise ValueError("write LOW:HIGH, two numbers, the lower first, such as 0:4095; in YAML [0, 4095]")


@dataclass(frozen=True)
class Seen:
    """The least and the greatest value of one picture that does not say its range."""

    kind: Kind
    low: float
    high: float


def find_ranges(pictures: Iterable[Seen]) -> ValueRanges:
    """The smallest usual ranges that hold pictures, of each kind one.

    Raises:
        EquicliError: none holds them, or the one that does would show all of them black.
    """
    bounds: dict[Kind, tuple[float, float]] = {}
    for picture in pictures:
        low, high = bounds.get(picture.kind, (picture.low, picture.high))
        bounds[picture.kind] = min(low, picture.low), max(high, picture.high)
    found: Mapping[Kind, ValueRange] = {kind: _smallest(kind, *of) for kind, of in bounds.items()}
    return ValueRanges(integers=found.get("integers"), floats=found.get("floats"))


def smallest_usual(low: float, high: float, slack: float = 0.0) -> ValueRange | None:
    """The smallest usual range that holds these values; None where none does."""
    return next((usual for usual in USUAL if usual.holds(low, high, slack)), None)


def _smallest(kind: Kind, low: float, high: float) -> ValueRange:
    found = smallest_usual(low, high, _SLACK if kind == "floats" else 0)
    words = f"{kind} from {low:g} to {high:g} in the training pictures"
    if found is None:
        raise EquicliError(f"{words}: no usual range of values holds them. Name it with --value-range LOW:HIGH.")
    if kind == "floats" and found.high > 1 and high < 4:  # of 255 all would be black
        raise EquicliError(f"{words}: more than 1 and far from 255. Name their range with --value-range LOW:HIGH.")
    return found


def scale(values: NDArray[Any], ranges: ValueRanges, declared: ValueRange | None = None) -> NDArray[np.uint8]:
    """Scale integers or floats to 0…255.

    Args:
        declared: what the file says of its values.

    Raises:
        ValueError: values that are no numbers, or lie outside of the range.
    """
    kind: Kind = "floats" if values.dtype.kind == "f" else "integers"
    low, high = bounds(values)
    if ranges.cut and (chosen := ranges.of(kind)):
        return chosen.to_bytes(values)
    found = declared or ranges.of(kind) or _as_usual(values, low, high)
    if declared is None and not found.holds(low, high, _SLACK if kind == "floats" else 0):
        raise ValueError(
            f"values from {low:g} to {high:g}, outside of {found}; --value-range LOW:HIGH names another range"
        )
    return found.to_bytes(values)


def bounds(values: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest value.

    Raises:
        ValueError: one is not a number, or is infinite.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("some values are not a number, or infinite")
    return low, high


def _as_usual(values: NDArray[Any], low: float, high: float) -> ValueRange:
    """The range of values that nothing else is known of."""
    if values.dtype.kind == "f":
        return UNIT
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return WORDS
    return smallest_usual(low, high) or WORDS  # whole 32 bits are never filled
