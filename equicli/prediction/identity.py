"""What a network is, by content: two of one name may differ."""

import hashlib

import torch
from torch import Tensor, nn


def state_sha256(network: nn.Module) -> str:
    """The hexadecimal SHA-256 of all of a network's tensors, their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
