"""Which device runs the networks, and in which precision."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from equicli.errors import UsageError

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
_WITHOUT_FLOAT64 = ("mps",)


def find_device(name: str) -> torch.device:
    """Return the device of `--device`: `auto` is CUDA where it is present, else the CPU.

    Raises:
        UsageError: there is no such device, or not here.
    """
    try:
        name = device_name(name)
    except ValueError as error:
        raise UsageError(f"--device {name}: {error}.") from None
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: no CUDA device is available here; use --device cpu.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: no Metal device is available here; use --device cpu.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    index = torch.device(name).index
    if index is not None and index >= torch.cuda.device_count():
        known = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        raise UsageError(f"--device {name}: there is no such CUDA device here, only {known}.")
    # TensorFloat-32 would round the scores that decide poses, by more than what counts as a tie.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def device_name(name: str) -> str:
    """Return what names a device, whether or not it is here: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        ValueError: it names none.
    """
    if not _DEVICE.fullmatch(name):
        raise ValueError("no such device; it is auto, cpu, cuda, cuda:N (the N-th from 0) or mps")
    return name


def wide(numbers: Tensor) -> Tensor:
    """The same numbers in float64: where they are, or on the CPU where that device has no float64."""
    return numbers.to(wide_device(numbers.device)).double()


def wide_device(device: torch.device) -> torch.device:
    """Where float64 is computed for a device: there, or on the CPU where it has none."""
    return torch.device("cpu") if device.type in _WITHOUT_FLOAT64 else device


def moved(numbers: Tensor, device: torch.device) -> Tensor:
    """The same numbers on a device; in float32 where it has no float64."""
    narrow = numbers.dtype == torch.float64 and device.type in _WITHOUT_FLOAT64
    return (numbers.float() if narrow else numbers).to(device)


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
    network._apply(lambda tensor: moved(tensor, device))  # as `network.to(device)` does
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Run networks in this precision: `fp32`, `bf16` or `fp16`."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        yield
