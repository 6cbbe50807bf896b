"""Prediction networks from a user's own code: `python:package.module:factory`."""

import importlib
import sys
from pathlib import Path

from torch import nn

from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork


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
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"--model python:{name}: {error}. Run where the module lies, or set PYTHONPATH.") from error
    except Exception as error:  # the user's own code
        raise UsageError(f"--model python:{name}: cannot be imported ({reason(error)}).") from error
    if not hasattr(module, factory_name):
        raise UsageError(f"--model python:{name}: module {module_name} has no '{factory_name}'.")
    try:
        network = getattr(module, factory_name)(**request.arguments)
    except TypeError as error:
        raise UsageError(f"--model python:{name}: {reason(error)}. Check --model-arg.") from error
    except Exception as error:
        raise EquicliError(f"--model python:{name}: the factory fails ({reason(error)}).") from error
    if not isinstance(network, nn.Module):
        raise EquicliError(f"--model python:{name}: returned {type(network).__name__}, not a torch.nn.Module.")
    preprocess = Preprocess(request.image_size, request.image_size, "bilinear", IMAGENET)
    name = type(network).__name__  # and not where it was imported from, which artifacts do not store
    return PretrainedNetwork(network, NetworkSpec("python", name), preprocess, None, {"model": name})
