"""Which device runs the networks, and in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from equicli.errors import UsageError


def find_device(name: str) -> torch.device:
    """Return the device of `--device`: `auto` is CUDA where it is present.

    Raises:
        UsageError: CUDA was asked for and is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is available here; use --device cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    # TensorFloat-32 would round the scores that decide poses, by more than what counts as a tie.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def device_of(module: nn.Module) -> torch.device:
    """Return where a module's parameters are; the CPU where it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def find_precision(name: str, device: torch.device) -> str:
    """Return the precision of `--precision`: `auto` is bf16 where the device has fast arithmetic for it, else fp32."""
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return name


def place(network: nn.Module, device: torch.device) -> None:
    """Put a network on a device, with its convolutions in the layout in which they are fastest, channels last.

    Images need not be: a convolution turns them.
    """
    network.to(device)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Run networks in this precision: `fp32`, `bf16` or `fp16`."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        yield
