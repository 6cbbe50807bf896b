"""Reading weights from files that a user names: safetensors, or PyTorch files without running any code in them."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from equicli.errors import EquicliError, reason, shown

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "_orig_mod.")
_MAX_WRAPPERS = 4  # a file may hold itself


class Allowance(TorchDispatchMode):
    """Within this context constructors may not make many more numbers than there are weights.

    A description that others wrote may ask for a network of any size. Real ones make up to 1.11 times their weights.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = 4 * sum(value.numel() for value in weights.values()) + 2**24

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(argument.name == "device" for argument in func._schema.arguments):  # it makes a tensor
            self._left -= func(*args, **{**kwargs, "device": "meta"}).numel()  # known before any memory is taken
            if self._left < 0:
                raise ValueError("far larger than its weights")
        return func(*args, **kwargs)


def read_weights(path: Path, name: str | None = None) -> dict[str, Tensor]:
    """Read a state dict from a file, out of wrappers such as `state_dict`, `model` and `module.`.

    Args:
        name: what an error calls the file; default: its path.

    Raises:
        EquicliError: the file is neither safetensors nor a PyTorch file of plain tensors.
    """
    name = name or str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about other versions of pickle
            content = (
                load_file(path)
                if path.suffix.lower() == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except SafetensorError as error:
        raise EquicliError(f"{name}: not a valid safetensors file ({reason(error)}).") from error
    except pickle.UnpicklingError as error:
        raise EquicliError(
            f"{name}: holds more than plain tensors, or is no PyTorch file; code from a checkpoint is never run. "
            "Save its state_dict() as safetensors."
        ) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise EquicliError(f"{name}: not a readable checkpoint ({reason(error)}).") from error
    for _ in range(_MAX_WRAPPERS):
        if isinstance(content, Mapping):
            content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not _is_state_dict(content):
        raise EquicliError(f"{name}: no state dict in it; expected a mapping from parameter names to tensors.")
    weights: dict[str, Tensor] = dict(content)
    while prefix := next((p for p in _PREFIXES if all(key.startswith(p) for key in weights)), None):
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _is_state_dict(content: object) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def load_checkpoint(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Load what `read_weights` read into a network, all of it.

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
    misshapen = [key for key in own if key in weights and own[key].shape != weights[key].shape]
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
        classes = {len(weights[key]) for key in misshapen if own[key].shape[1:] == weights[key].shape[1:]}
        only_classes = len(classes) == 1 and len(misshapen) <= 2 and not missing and not unexpected
        remedy = f"Try --model-arg num_classes={min(classes)}." if only_classes else "Check --model and --model-arg."
        raise EquicliError(f"{name}: not the weights of this network: {'; '.join(problems)}. {remedy}")
    # Into its own state: that has `num_batches_tracked`, which old checkpoints lack and inference never reads, and
    # tells of which version each module's names are, which files of plain tensors don't and MNASNet asks for.
    own.update(weights)
    network.load_state_dict(own)


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
