"""Which device runs the networks."""

import torch

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
    return torch.device(name)
