"""Which of the things in a checkpoint are the weights: by the names that trainers give them, averaged or not."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, strided

from equicli.errors import EquicliError, shown
from equicli.prediction.file_kinds import ALONE
from equicli.prediction.pickles import Ignored, holds_module

Ema = Literal["auto", "yes", "no"]

# Where trainers put the weights: the first that is there is taken.
_WEIGHTS = (
    "state_dict model model_state_dict net weights params module network model_state net_state_dict network_state_dict "
    "model_weights net_state network_state state_dict_model model_dict state"
).split()
# What has tensors, too, and is never a network's weights.
_BESIDE = re.compile(
    r"(?i).*(optim|sched|scaler|loss|criterion|metric|param_groups|hyper_?param|rng|loops|buffer|sampler|args|config).*"
    r"|opt|exp_avg\w*|momentum_buffer"
)
_MOMENTS = frozenset(("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg"))
# An average over training: exponential (EMA), or of its last part (SWA).
_AVERAGED = re.compile(r"(?i)(^|[._/])(\w+_)?(ema|swa|avg|averaged?|shadow)(\d*|_\w+)?($|[._/])")
_DEPTH = 4  # a file may hold itself
# Who saves the average as `state_dict`: Lightning's callback, which leaves this beside it, and mmengine's hook, which
# swaps both. Each is known by its own entry.
_CURRENT = {"averaging_state": "current_model_state", "message_hub": "ema_state_dict"}


@dataclass(frozen=True)
class StateDict:
    """The weights of a file, as it names them.

    place: where in the file they were, such as `state_dict` or `ema.module`; empty for the whole.
    averaged: whether that place is one of averaged weights.
    other: where those of the other kind are, averaged or not; None where there are none.
    left: a line on each part of it that is no tensor.
    """

    weights: dict[str, Tensor]
    place: str = ""
    averaged: bool = False
    other: str | None = None
    left: tuple[str, ...] = ()


def is_averaged(name: str) -> bool:
    """Whether a name in a checkpoint says that it is of averaged weights."""
    return _AVERAGED.search(name) is not None


def find_state_dict(content: object, name: str, ema: Ema = "auto") -> StateDict:
    """Find the weights in what a file holds.

    Args:
        name: what an error calls the file.
        ema: `auto` and `yes` take averaged weights where they have a place of their own, `no` the others.

    Raises:
        EquicliError: there are none, or it cannot be told which of several they are.
    """
    found = list(_state_dicts(content))
    if not found:
        raise EquicliError(f"{name}: {_what_instead(content)}")
    swapped = {place for entry, place in _CURRENT.items() if isinstance(content, Mapping) and entry in content}
    current = [(place, state) for place, state in found if place and place[0] in swapped]
    others = [(place, state) for place, state in found if not place or place[0] not in swapped]
    averaged = others if current else [entry for entry in others if _of_average(*entry)]
    plain = current or [entry for entry in others if not _of_average(*entry)]
    if ema == "no" and not plain:
        raise EquicliError(f"{name}: only averaged weights in it ({_join(averaged[0][0])}). Leave --ema out.")
    taken = _first(averaged if averaged and ema != "no" else plain, name)
    is_average = any(taken is entry for entry in averaged)
    rest = plain if is_average else averaged
    weights, left = _tensors(taken[1], name)
    return StateDict(weights, _join(taken[0]), is_average, _join(rest[0][0]) if rest else None, left)


def _of_average(place: Sequence[str], state: Mapping[str, Any]) -> bool:
    return is_averaged(".".join(place)) or "n_averaged" in state  # torch's AveragedModel


def _state_dicts(content: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if not isinstance(content, Mapping) or len(place) > _DEPTH:
        return
    if _is_state_dict(content):
        yield place, content
        return
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping) and not _BESIDE.fullmatch(key):
            yield from _state_dicts(value, (*place, key))


def _is_state_dict(content: Mapping[Any, Any]) -> bool:
    """Names and tensors; a few numbers may be among them, but nothing that holds more."""
    return (
        all(isinstance(key, str) for key in content)
        and not _MOMENTS & content.keys()
        and not any(isinstance(value, Mapping) for key, value in content.items() if not key.endswith("_extra_state"))
        and any(isinstance(value, Tensor) and value.ndim for value in content.values())
    )


def _first(found: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]], name: str) -> tuple[tuple[str, ...], Any]:
    """The one that has the best known name; where none has, the only one."""
    known = {key: rank for rank, key in enumerate(_WEIGHTS)}
    ranked = sorted(found, key=lambda entry: [known.get(key, len(known)) for key in entry[0]])
    best = ranked[0]
    if len(found) > 1 and best[0] and best[0][0] not in known and not is_averaged(".".join(best[0])):
        places = ", ".join(_join(place) for place, _ in found)
        raise EquicliError(f"{name}: weights of several networks ({shown(places)}). Save those of one of them alone.")
    return best


def _tensors(state: Mapping[str, Any], name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    weights = {key: value.detach() for key, value in state.items() if isinstance(value, Tensor)}
    for key, value in weights.items():
        if value.is_quantized:
            raise EquicliError(
                f"{name}: quantized weights ({shown(key)}). Name the checkpoint that they were made from."
            )
        if value.is_meta:
            raise EquicliError(
                f"{name}: no numbers in it, only shapes ({shown(key)} is on the device meta). Save it again."
            )
        if value.layout != strided:
            raise EquicliError(f"{name}: {shown(key)} is sparse. Save it again, with .to_dense().")
    left = tuple(key for key, value in state.items() if key not in weights and value is not None)
    return weights, left


def _what_instead(content: object) -> str:
    """What a file without weights holds, and the remedy."""
    if isinstance(content, Ignored):
        return holds_module(_class_of(content))
    if isinstance(content, Mapping):
        inner = next((value for value in content.values() if isinstance(value, Ignored) and _is_module(value)), None)
        if inner is not None:
            return holds_module(_class_of(inner))
        arrays = any(
            isinstance(value, Ignored) and type(value).__module__.startswith("numpy") for value in content.values()
        )
        if arrays:
            return (
                f"NumPy arrays and no tensors in it. Make tensors of them (torch.from_numpy), load them, and {ALONE}."
            )
        keys = ", ".join(str(key) for key in content)
        return f"no state dict in it; it holds {shown(keys) or 'nothing'}. Instead, {ALONE}."
    return f"no state dict in it but a {type(content).__name__}. Instead, {ALONE}."


def _is_module(value: Ignored) -> bool:
    return type(value).__module__.startswith("torch.nn.modules") and not type(value).__module__.endswith(".loss")


def _class_of(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__name__}"


def _join(place: Sequence[str]) -> str:
    return shown(".".join(place)) or "the whole file"
