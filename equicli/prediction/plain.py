"""A network's output as values that JSON has."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from equicli.groups.transport import Kinds

DIGITS = 4  # after the point


def plain(value: Any, kinds: Kinds) -> Any:
    """One sample's output: numbers and lists of them, rounded; masks by their runs, see `runs`."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        of = kinds if isinstance(kinds, Mapping) else {}
        return {key: plain(part, of.get(key, "invariant")) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = kinds if isinstance(kinds, tuple) else (kinds,) * len(value)
        return [plain(part, kind) for part, kind in zip(value, parts, strict=True)]
    if not isinstance(value, Tensor):
        return value
    if kinds == "mask":
        return runs(value) if value.ndim == 2 else [plain(mask, kinds) for mask in value]
    return _rounded(value.tolist())


def runs(mask: Tensor) -> dict[str, Any]:
    """A mask (h, w) by its runs of equal pixels, column by column, as COCO counts them.

    Of a bool one `counts` begins with zeros. Of others `values` has that of each run.
    """
    values, counts = torch.unique_consecutive(mask.T.flatten(), return_counts=True)
    found: dict[str, Any] = {"size": list(mask.shape), "counts": counts.tolist()}
    if mask.dtype != torch.bool:
        return found | {"values": _rounded(values.tolist())}
    return found | {"counts": [0] * bool(len(values) and values[0]) + found["counts"]}


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return round(value, DIGITS) if isinstance(value, float) else value
