"""The last layer of a classification network: finding it, replacing it, reading what goes into it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from equicli.errors import EquicliError

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU, nn.Softmax, nn.LogSoftmax, nn.Sigmoid)


def find_head(network: nn.Module) -> str:
    """Return the dotted name of the layer that gives the outputs: the last linear layer or 1x1 convolution.

    Raises:
        EquicliError: there is none.
    """
    declared = getattr(network, "pretrained_cfg", {}).get("classifier")  # timm says
    if isinstance(declared, list | tuple) and len(declared) > 1:
        raise EquicliError(f"{type(network).__name__}: has {len(declared)} last layers, so that none can be replaced.")
    if isinstance(declared, str) and isinstance(_child(network, declared), (nn.Linear, nn.Conv2d)):
        return str(declared)
    candidates: list[str] = [name for name, module in network.named_modules() if _is_linear(module)]
    if not candidates:
        raise EquicliError(f"{type(network).__name__}: no last linear layer found in this network.")
    return candidates[-1]


def replace_head(network: nn.Module, outputs: int) -> nn.Linear | nn.Conv2d:
    """Put a new layer of `outputs` outputs in the last layer's place, and return it.

    Activations after it in the same `nn.Sequential` are removed (SqueezeNet ends in a ReLU): the new outputs are free.
    """
    parent_name, _, name = find_head(network).rpartition(".")
    parent = network.get_submodule(parent_name)
    old = getattr(parent, name)
    if isinstance(old, nn.Linear):
        new: nn.Linear | nn.Conv2d = nn.Linear(old.in_features, outputs)
    else:
        new = nn.Conv2d(old.in_channels, outputs, kernel_size=1)
    new.to(old.weight.device)
    setattr(parent, name, new)
    if isinstance(parent, nn.Sequential):
        names = [child for child, _ in parent.named_children()]
        for later in names[names.index(name) + 1 :]:
            if isinstance(getattr(parent, later), _ACTIVATIONS):
                setattr(parent, later, nn.Identity())
    return new


def set_head(network: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Replace the last layer by one with these weights: weight (outputs, features), bias (outputs,)."""
    head = replace_head(network, len(bias))
    with torch.no_grad():
        head.weight.copy_(weight.view_as(head.weight))
        assert head.bias is not None
        head.bias.copy_(bias)


@contextmanager
def head_inputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Within this context every pass of the network appends the features that reach its last layer, each (b, features).

    Before a 1x1 convolution they are averaged over space: a linear layer and that average commute.
    """
    collected: list[Tensor] = []

    def collect(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (features,) = inputs
        if features.ndim == 4:
            features = features.mean(dim=(2, 3))
        if features.ndim != 2:
            raise EquicliError(
                f"the last layer sees {tuple(features.shape)}, not one vector an image: no head can be fitted."
            )
        collected.append(features.detach().float().cpu())

    handle = network.get_submodule(find_head(network)).register_forward_pre_hook(collect)
    try:
        yield collected
    finally:
        handle.remove()


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


def _child(network: nn.Module, name: str) -> nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None
