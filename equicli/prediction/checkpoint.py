"""Weights from files, into networks: safetensors, or PyTorch files without running any code in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from equicli.errors import EquicliError, reason, shown
from equicli.files import read_tensors
from equicli.prediction.checkpoint_files import check_named_hash, files_of
from equicli.prediction.file_kinds import find_kind
from equicli.prediction.key_names import KNOWN, Fit, find_fits, harmless
from equicli.prediction.pickles import read_pickle
from equicli.prediction.state_dicts import StateDict, find_state_dict
from equicli.settings import Ema

# What depends on the size of the images that a network was built for.
_OF_SIZE = re.compile(r"pos_emb|position_emb|relative_position|attn_mask|attention_bias")


class Allowance(TorchDispatchMode):
    """Within this context constructors may not make many more numbers than there are weights.

    A description that others wrote may ask for a network of any size. Real ones make up to 1.11 times their weights.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = 4 * sum(value.numel() for value in weights.values()) + 2**24

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _makes_a_tensor(func):
            self._left -= func(*args, **{**kwargs, "device": "meta"}).numel()  # known before any memory is taken
            if self._left < 0:
                raise ValueError("far larger than its weights")
        return func(*args, **kwargs)


@cache
def _makes_a_tensor(operator: Any) -> bool:
    return any(argument.name == "device" for argument in operator._schema.arguments)


def read_weights(path: Path, name: str | None = None) -> dict[str, Tensor]:
    """Read the weights in a file, or in all that an index lists; see `read_checkpoint`."""
    return read_checkpoint(path, name).weights


def read_checkpoint(path: Path, name: str | None = None, ema: Ema = "auto") -> StateDict:
    """Read the weights in a file, out of whatever its trainer put around them.

    Args:
        name: what an error calls the file; default: its path.
        ema: see `find_state_dict`.

    Raises:
        EquicliError: it is no file of weights, and what it is instead; or they cannot be read without running code.
    """
    name = name or str(path)
    files = files_of(path, name)
    if len(files) == 1 and files[0] == path:
        return find_state_dict(_read(path, name), name, ema)
    weights: dict[str, Tensor] = {}
    for file in files:
        part = f"{name}, {file.name}"
        weights |= find_state_dict(_read(file, part), part).weights
    return StateDict(weights)


def _read(path: Path, name: str) -> Any:
    try:
        kind = find_kind(path, name)
        check_named_hash(path, name)
        return read_tensors(path) if kind == "safetensors" else read_pickle(path, kind, name)
    except SafetensorError as error:
        raise EquicliError(f"{name}: not a valid safetensors file ({reason(error)}). Get it again.") from error
    except OSError as error:
        raise EquicliError(f"{name}: cannot be read ({reason(error)}).") from error


@dataclass(frozen=True)
class Loaded:
    """What was done with a file's weights.

    averaged: whether averaged weights were taken, where there was a choice; None where there was none.
    """

    averaged: bool | None
    remarks: tuple[str, ...]


def load_own(network: nn.Module, state: StateDict, name: str, ema: Ema = "auto") -> Loaded:
    """Load weights from a user's file into a network: all that it has must be there, by whatever prefix.

    Args:
        name: what an error calls the file; remarks name it by its last part.

    Raises:
        EquicliError: the weights do not fit; says how many and which.
    """
    file = name.rpartition("/")[2]
    own = network.state_dict()
    fit, other = _choose(find_fits(own, state.weights), name, ema, state)
    complete = all(key in fit.names for key in own if not key.endswith("num_batches_tracked"))
    foreign = not complete or any(not harmless(key) for key in fit.unexpected)
    if foreign and hasattr(network, "own_names"):  # published under names of another version
        load_checkpoint(network, state.weights, name)
        return Loaded(state.averaged if state.other else None, tuple(_of_average(state, file)))
    weights = {key: state.weights[there] for key, there in fit.names.items()}
    surplus = [key for key in fit.unexpected if not harmless(key)]
    # Without a prefix nothing tells the network's own entries from others'.
    beside = [key for key in fit.beside if complete or not fit.prefix]
    try:
        load_weights(network, weights | {key: state.weights[key] for key in surplus}, name)
    except EquicliError as error:
        if state.averaged and state.other:
            raise EquicliError(
                f"{error} These are the averaged weights ({state.place}); --ema no takes the others."
            ) from None
        raise
    if other is not None:  # the average is within the same state dict
        state = replace(state, place=fit.prefix, averaged=fit.averaged, other=other)
    remarks = _of_average(state, file)
    taken_off = [part for part in (fit.prefix, *(f"{w}." for w in fit.wrapped)) if part]
    if taken_off:
        remarks.append(f"names in {file} are taken without {' and '.join(repr(part) for part in taken_off)}")
    left = [*beside, *(key for key in fit.unexpected if key not in surplus), *state.left]
    if other is not None:
        left = [key for key in left if not key.startswith(other)]
    if left:
        some = shown(", ".join(left[:3])) + (", …" if len(left) > 3 else "")
        remarks.append(f"left aside, as the network does not have them: {len(left)} entries of {file} ({some})")
    return Loaded(state.averaged if state.other else None, tuple(remarks))


def _choose(fits: list[Fit], name: str, ema: Ema, state: StateDict) -> tuple[Fit, str | None]:
    """The place in a state dict to take, and that of the other kind, averaged or not."""
    averaged = [fit for fit in fits if fit.averaged]
    plain = [fit for fit in fits if not fit.averaged]
    if ema == "yes" and not averaged and not state.averaged:
        raise EquicliError(f"{name}: no averaged weights in it, which --ema yes asks for. Leave it out.")
    if ema == "no" and not plain:
        raise EquicliError(f"{name}: only averaged weights in it ({averaged[0].prefix}). Leave --ema out.")
    taken = averaged if averaged and ema != "no" else plain
    others = plain if taken is averaged else averaged
    if len(taken) > 1 and taken[0].prefix not in KNOWN:
        places = ", ".join(fit.prefix for fit in taken)
        raise EquicliError(f"{name}: holds this network several times ({shown(places)}). Save one of them alone.")
    return taken[0], others[0].prefix if others else None


def _of_average(state: StateDict, file: str) -> list[str]:
    """What is said of averaged weights."""
    if state.averaged and state.other:
        return [f"taking the averaged weights in {file} ({state.place}); --ema no takes the others ({state.other})"]
    if state.averaged:
        return [f"the weights in {file} are averaged ones ({state.place})"]
    if state.other:
        return [f"leaving the averaged weights in {file} aside ({state.other}); --ema yes takes them"]
    return []


def load_checkpoint(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load published weights into a network, all of them.

    A network with a method `own_names` translates the names that files have to those that it has.

    Args:
        name: what an error calls the file.

    Raises:
        EquicliError: the weights do not fit; says how many and which.
    """
    own_names = getattr(network, "own_names", None)
    if own_names is not None:
        try:
            weights = own_names(weights)
        except EquicliError as error:
            raise EquicliError(f"{name}: {error}") from error
    load_weights(network, weights, name)


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load a state dict strictly. `name` is what an error calls it."""
    own = network.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in own]
    shaped = {key: value for key, value in own.items() if key in weights and not is_lazy(value)}
    misshapen = [key for key, value in shaped.items() if value.shape != weights[key].shape]
    integers = [k for k, v in shaped.items() if v.is_floating_point() and not weights[k].is_floating_point()]
    if integers:
        raise EquicliError(
            f"{name}: integers in place of numbers ({shown(integers[0])} is {weights[integers[0]].dtype}): quantized "
            "weights. Name the checkpoint that they were made from."
        )
    if missing or unexpected or misshapen:
        problems = []
        if misshapen:
            key = misshapen[0]
            shapes = f"{tuple(weights[key].shape)} in the file, {tuple(own[key].shape)} in the network"
            problems.append(f"{len(misshapen)} of another shape ({key}: {shapes})")
        if missing:
            problems.append(f"{len(missing)} missing ({missing[0]})")
        if unexpected:
            problems.append(f"{len(unexpected)} unexpected ({shown(unexpected[0])})")
        remedy = "Check --model and --model-arg."
        if misshapen and not missing and not unexpected:
            remedy = _remedy({key: (weights[key].shape, own[key].shape) for key in misshapen}) or remedy
        raise EquicliError(f"{name}: not the weights of this network: {'; '.join(problems)}. {remedy}")
    # Into its own state: that has `num_batches_tracked`, which old checkpoints lack and inference never reads, and
    # tells of which version each module's names are, which files of plain tensors don't and MNASNet asks for.
    own.update(weights)
    network.load_state_dict(own)


def _remedy(shapes: Mapping[str, tuple[torch.Size, torch.Size]]) -> str | None:
    """What helps where only shapes differ, (in the file, in the network): another head, or another image size."""
    classes = {there[0] for there, own in shapes.values() if there and own and there[1:] == own[1:]}
    if len(classes) == 1 and len(shapes) <= 4 and all(there[1:] == own[1:] for there, own in shapes.values()):
        return f"Try --model-arg num_classes={min(classes)}."
    if all(_OF_SIZE.search(key) for key in shapes):
        return "It was trained on images of another size: add --model-arg img_size=N, with N as it was there."
    return None
