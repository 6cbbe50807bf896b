"""Prediction networks from a user's own code: `python:package.module:factory`."""

import contextlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Call a factory that the user names on the command line; modules in the working directory are found.

    Own code says nothing of preprocessing: images are taken as they are, or resized to the requested size, and
    normalized with ImageNet's mean and std unless others are given.
    """
    name = request.name
    if request.revision is not None:
        raise UsageError(f"--revision {request.revision}: your own code has none.")
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name:
        raise UsageError(f"--model python:{name}: write it as python:package.module:factory.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        factory = _find_factory(name, module_name, factory_name)
        made = _call(name, factory, request)
    network, remarks = unwrap(_checked(made, name))
    preprocess = Preprocess(request.image_size, request.image_size, "bilinear", IMAGENET)
    name = type(network).__name__  # and not where it was imported from, which artifacts do not store
    return PretrainedNetwork(network, NetworkSpec("python", name), preprocess, None, {"model": name}, remarks)


def _find_factory(name: str, module_name: str, factory_name: str) -> Any:
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"--model python:{name}: {error}. Run where the module lies, or set PYTHONPATH.") from error
    except (Exception, SystemExit) as error:  # the user's own code
        raise UsageError(f"--model python:{name}: cannot be imported ({_said(error)}).") from error
    if not hasattr(module, factory_name):
        raise UsageError(f"--model python:{name}: module {module_name} has no '{factory_name}'.")
    return getattr(module, factory_name)


def _call(name: str, factory: Any, request: NetworkRequest) -> Any:
    try:
        return factory(**request.arguments)
    except TypeError as error:
        raise UsageError(f"--model python:{name}: {reason(error)}. Check --model-arg.") from error
    except (Exception, SystemExit) as error:
        raise EquicliError(f"--model python:{name}: the factory fails ({_said(error)}).") from error


def _said(error: BaseException) -> str:
    return f"it ends the program, {reason(error)}" if isinstance(error, SystemExit) else reason(error)


def _checked(made: Any, name: str) -> nn.Module:
    """What a factory returned, where it is a network that can be worked with."""
    flaw = None
    if isinstance(made, type):
        flaw = f"the class {made.__name__}. Return an instance of it"
    elif isinstance(made, tuple | list) and any(isinstance(part, nn.Module) for part in made):
        flaw = (
            f"a {type(made).__name__} with the network in it. Return the network alone; how pictures are prepared say "
            "--image-size, --mean and --std"
        )
    elif isinstance(made, Mapping):
        flaw = "a state dict. Return the network, and name its weights with --checkpoint"
    elif isinstance(made, torch.jit.ScriptModule):
        flaw = "a scripted network, whose layers cannot be reached. Return the torch.nn.Module that it was made from"
    elif isinstance(made, torch.fx.GraphModule) and "_guards_fn" in dict(made.named_modules()):
        flaw = "an exported program. Return the torch.nn.Module that it was made from"
    elif not isinstance(made, nn.Module):
        flaw = f"{type(made).__name__}, not a torch.nn.Module. Return the network itself"
    if flaw is not None:
        raise EquicliError(f"--model python:{name}: returned {flaw}.")
    try:
        made.eval()
    except Exception as error:
        raise EquicliError(
            f"--model python:{name}: the network cannot be put into eval mode ({reason(error)}). Return a plain "
            "torch.nn.Module."
        ) from error
    if any(
        (isinstance(value, Tensor) and value.is_quantized) or not isinstance(value, Tensor | None)
        for value in made.state_dict().values()
    ):
        raise EquicliError(f"--model python:{name}: the network is quantized. Return the one that it was made from.")
    for key, value in (*made.named_parameters(), *made.named_buffers()):
        if value.is_meta:
            raise EquicliError(
                f"--model python:{name}: '{key}' is on the device meta, without numbers. Build the network on the CPU."
            )
    return made  # type: ignore[no-any-return]


def unwrap(network: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Take a network out of torch.compile's, DataParallel's and AveragedModel's wrappers, and say so."""
    taken_off = []
    while True:
        inner = getattr(network, "_orig_mod", None)
        if inner is None and isinstance(network, _WRAPPERS):
            inner = network.module
        if not isinstance(inner, nn.Module):
            break
        taken_off.append(type(network).__name__)
        network = inner
    dtypes = {p.dtype for p in network.parameters() if p.is_floating_point()} - {torch.float32, torch.float64}
    remarks = [f"your code returns the network in a {wrapper}; it is taken out of it" for wrapper in taken_off]
    if dtypes:
        remarks.append(f"your network computes in {str(min(dtypes, key=str)).removeprefix('torch.')}, and keeps to it")
    return network, tuple(remarks)


def refuse_lazy(network: nn.Module) -> None:
    """Refuse a network with layers whose weights are not there yet, after any checkpoint was loaded."""
    for key, value in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(value):
            raise EquicliError(
                f"--model: '{key}' has no weights yet (a lazy layer). Show the network one image in your factory, or "
                "give --checkpoint FILE."
            )
