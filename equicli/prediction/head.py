"""The last layer of a classification network: finding it, replacing it, reading what goes into it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from equicli.errors import EquicliError

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU, nn.Softmax, nn.LogSoftmax, nn.Sigmoid)


def find_head(network: nn.Module, example: Tensor | None = None) -> str:
    """Return the dotted name of the linear layer or 1x1 convolution that makes the outputs.

    Args:
        example: an input (1, 3, h, w), on which it is found out. Without one it is the layer that timm declares, or the
            last in the order of registration, which need not be that of the computation.

    Raises:
        EquicliError: there is none, or the outputs are made by several layers.
    """
    declared = getattr(network, "pretrained_cfg", {}).get("classifier")  # timm says
    if isinstance(declared, list | tuple) and len(declared) > 1:
        raise EquicliError(f"{type(network).__name__}: has {len(declared)} last layers, so that none can be replaced.")
    candidates: list[str] = [name for name, module in network.named_modules() if _is_linear(module)]
    if not candidates:
        raise EquicliError(f"{type(network).__name__}: no last linear layer found in this network.")
    if example is not None:
        return _find_on(network, candidates, example)
    if isinstance(declared, str) and isinstance(_child(network, declared), (nn.Linear, nn.Conv2d)):
        return str(declared)
    return candidates[-1]


@torch.no_grad()
def _find_on(network: nn.Module, candidates: list[str], example: Tensor) -> str:
    """The last layer that runs through which all goes that the network says of its input.

    Where its output is held fixed, the network says the same of any image.
    """
    ran: dict[str, None] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            ran.pop(name, None)
            ran[name] = None

        return hook

    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    with _hooked(network, {name: note(name) for name in candidates}):
        outputs = network(torch.cat([example, noise])).shape[1]
    for name in reversed(ran):
        layer = network.get_submodule(name)
        if outputs not in (getattr(layer, "out_features", None), getattr(layer, "out_channels", None)):
            continue
        with _hooked(network, {name: lambda _, inputs, output: torch.zeros_like(output)}):
            one, other = network(torch.cat([example, noise]))
        if torch.equal(one, other):
            return name
    raise EquicliError(
        f"{type(network).__name__}: no one linear layer makes its {outputs} outputs, so that none can be replaced. "
        "Name class folders as the network's classes, or give it a last layer."
    )


@contextmanager
def _hooked(network: nn.Module, hooks: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    handles = [network.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def replace_head(network: nn.Module, outputs: int, name: str | None = None) -> nn.Linear | nn.Conv2d:
    """Put a new layer of `outputs` outputs in the last layer's place, and return it.

    Args:
        name: what `find_head` found on an example; here and below None finds it without one.

    Activations after it in the same `nn.Sequential` are removed (SqueezeNet ends in a ReLU): the new outputs are free.
    """
    parent_name, _, name = (name or find_head(network)).rpartition(".")
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


def set_head(network: nn.Module, weight: Tensor, bias: Tensor, name: str | None = None) -> None:
    """Replace the last layer by one with these weights: weight (outputs, features), bias (outputs,)."""
    head = replace_head(network, len(bias), name)
    with torch.no_grad():
        head.weight.copy_(weight.view_as(head.weight))
        assert head.bias is not None
        head.bias.copy_(bias)


@contextmanager
def head_inputs(network: nn.Module, name: str | None = None) -> Iterator[list[Tensor]]:
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

    handle = network.get_submodule(name or find_head(network)).register_forward_pre_hook(collect)
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
