"""Whether a written program says what the model says: on random and on real inputs, turned by every element."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equicli.errors import EquicliError
from equicli.export.graph import LOGITS, POSE, SURE

# The largest difference of a number, as a share of the largest number, that rounding explains.
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-2}
# Poses, or classes, of which the two best are as close as this share are ties: another runtime may choose the other.
NEAR = 10

Ask = Callable[[Any], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Case:
    """What is asked about, upright first, then turned by each element. real: whether it shows a picture."""

    turned: Sequence[Any]
    real: bool


@dataclass
class Parity:
    """inputs, real: how many were compared, and of these real ones. max_delta: of all numbers. changed: the largest
    share of whole numbers, such as classes of pixels, that were others. ties: inputs of which a rounding decides the
    pose or the class. turned_alike: whether the program said the same class of every turned input,
    ties left out; None where it names no classes.
    """

    runtime: str
    tolerance: float
    inputs: int = 0
    real: int = 0
    elements: int = 0
    max_delta: float = 0.0
    changed: float = 0.0
    ties: int = 0
    turned_alike: bool | None = None


def compare(ask: Ask, run: Ask, cases: Sequence[Case], runtime: str, precision: str, *, exact: bool) -> Parity:
    """Compare what the model and the program say.

    Args:
        exact: whether the elements permute pixels, so that turned inputs must be given the same class.

    Raises:
        EquicliError: they differ by more than rounding explains, or turned inputs are given other classes.
    """
    found = Parity(runtime, TOLERANCE[precision])
    for case in cases:
        classes, tied = [], torch.zeros(1, dtype=torch.bool)
        for x in case.turned:
            expected, said = ask(x), run(x)
            ties = _ties(expected, said, found.tolerance)
            _check(expected, said, ~ties, found)
            tied = tied | ties
            if LOGITS in said:
                classes.append(said[LOGITS].argmax(dim=1))
        rows = len(tied)
        found.inputs += rows
        found.real += rows * case.real
        found.elements = len(case.turned)
        found.ties += int(tied.sum())
        if classes and exact:
            found.turned_alike = found.turned_alike is not False and all(
                bool((c == classes[0])[~tied].all()) for c in classes
            )
    if found.turned_alike is False:
        raise EquicliError(f"{runtime}: turned inputs are given other classes; nothing is written.")
    if found.ties == found.inputs:
        raise EquicliError(f"{runtime}: every input is a tie, so nothing could be compared; train the canonicalizer.")
    return found


def _check(expected: Mapping[str, Tensor], said: Any, rows: Tensor, found: Parity) -> None:
    for name, right in expected.items():
        got = said[name]
        if got.shape != right.shape:
            raise EquicliError(f"{found.runtime}: {name} is {tuple(got.shape)}, not {tuple(right.shape)}.")
        if not rows.any() or not right.numel():
            continue
        if name != POSE and not right.is_floating_point():
            share = float((got[rows] != right[rows]).double().mean())
            found.changed = max(found.changed, share)
            if share > found.tolerance:
                raise EquicliError(
                    f"{found.runtime}: {share:.2%} of {name} differs from the model's; nothing is written."
                )
            continue
        a, b = got[rows].double(), right[rows].double()
        delta, size = float((a - b).abs().max()), max(1.0, float(b.abs().max()))
        found.max_delta = max(found.max_delta, delta)
        if delta > found.tolerance * size or not bool(a.isfinite().all()):
            raise EquicliError(
                f"{found.runtime}: {name} differs from the model's by {delta:.3g}, more than rounding explains "
                f"({found.tolerance * size:.3g}); nothing is written."
            )
    if LOGITS in expected and bool((said[LOGITS].argmax(1) != expected[LOGITS].argmax(1))[rows].any()):
        raise EquicliError(f"{found.runtime}: another class than the model's; nothing is written.")


def _ties(expected: Mapping[str, Tensor], said: Any, tolerance: float) -> Tensor:
    """Inputs of which a rounding may decide: bool (b,)."""
    first = next(iter(expected.values()))
    tied = torch.zeros(len(first), dtype=torch.bool)
    if POSE in expected and not expected[POSE].is_floating_point():
        other = said[POSE] != expected[POSE]
        if other.any() and SURE in expected:
            # Of two poses that are equally likely neither is more likely than one half.
            other &= expected[SURE] < 0.5 + NEAR * tolerance
        tied |= other
    if LOGITS in expected:
        best = expected[LOGITS].topk(min(2, expected[LOGITS].shape[1]), dim=1).values
        tied |= (best[:, 0] - best[:, -1]) < tolerance * best.abs().amax(dim=1).clamp(min=1) * (best.shape[1] > 1)
    return tied
