"""Which device runs the networks, and in which precision."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

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
    return torch.device(name)


def device_name(name: str) -> str:
    """Return what names a device, whether or not it is here: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        ValueError: it names none.
    """
    if not _DEVICE.fullmatch(name):
        raise ValueError("no such device; it is auto, cpu, cuda, cuda:N (the N-th from 0) or mps")
    return name


def in_float64(numbers: Tensor) -> Tensor:
    """The same numbers in float64: where they are, or on the CPU where that device has no float64."""
    return numbers.to(float64_device(numbers.device)).double()


def float64_device(device: torch.device) -> torch.device:
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
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if dtype is None:
        with full_float32(device):
            yield
    else:
        # Nested in `full_float32`, a cache would keep the weights of the first step.
        with torch.autocast(device.type, dtype=dtype, cache_enabled=False):
            yield


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute in float32, whatever autocast or the flags of the process say.

    TensorFloat-32, which convolutions on CUDA use unless they are told not to, rounds by more than what counts as a
    tie. Its flags hold for all threads: others compute in float32, too, until the last of them leaves, and then the
    flags are what they were. A graph that is being traced has no flags to set: whoever runs it does.
    """
    with torch.autocast(device.type, enabled=False):
        if torch.compiler.is_compiling():
            yield
        else:
            with _reduced_precision_off:
                yield


class _Flag(NamedTuple):
    """A flag of the process that lets torch round float32."""

    get: Callable[[], Any]
    set: Callable[[Any], None]
    off: Any


def _flags() -> list[_Flag]:
    """In the order in which they are set: the old ones change the new."""
    backends: Any = torch.backends  # of which torch tells no types

    def attribute(owner: Any, name: str, off: Any) -> _Flag:
        return _Flag(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), off)

    flags = [
        attribute(backends.cudnn, "allow_tf32", False),
        _Flag(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    ]
    if hasattr(backends.cudnn, "conv"):  # torch 2.9 and later
        parts = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]
        parts += [backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul]
        flags += [attribute(part, "fp32_precision", "ieee") for part in parts]
    return flags


class _ReducedPrecisionOff:
    """Sets the flags when the first thread enters, and restores them when the last one leaves."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[tuple[_Flag, Any]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._before = list(_readable(_flags()))
                for flag, _ in self._before:
                    flag.set(flag.off)

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for flag, value in self._before:
                    flag.set(value)


def _readable(flags: list[_Flag]) -> Iterator[tuple[_Flag, Any]]:
    """The flags with their values; torch refuses to read an old one whose new ones were set apart."""
    for flag in flags:
        try:
            yield flag, flag.get()
        except RuntimeError:
            continue


_reduced_precision_off = _ReducedPrecisionOff()
