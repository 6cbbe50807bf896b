"""Small canonicalizers and images that the tests of several rooms use."""

import timm
import torch
from torch import Tensor, nn

from equicli.canonicalization.networks import conv
from equicli.canonicalization.optimized import OptimizedCanonicalizer
from equicli.data.normalization import HALF, Normalization
from equicli.groups import parse_group


def canonicalizer(
    group: str,
    network: nn.Module,
    *,
    vector_size: int = 16,
    size: int = 17,
    temperature: float = 0.1,
    normalization: Normalization = HALF,
) -> OptimizedCanonicalizer:
    """`network` as canonicalizer of images that are normalized with HALF, in eval mode."""
    return OptimizedCanonicalizer(
        parse_group(group),
        network,
        vector_size=vector_size,
        size=size,
        temperature=temperature,
        input_normalization=HALF,
        network_normalization=normalization,
    ).eval()


def conv_canonicalizer(group: str, *, size: int = 17, width: int = 4, seed: int = 0) -> OptimizedCanonicalizer:
    torch.manual_seed(seed)
    return canonicalizer(group, conv(width, 16), size=size)


def timm_canonicalizer(group: str, *, size: int = 33) -> OptimizedCanonicalizer:
    torch.manual_seed(0)
    return canonicalizer(group, timm.create_model("test_resnet", num_classes=16, zero_init_last=False), size=size)


def noise(b: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalized images (b, 3, side, side) without any symmetry."""
    return torch.rand(b, 3, side, side, generator=torch.Generator().manual_seed(side)).mul(2).sub(1).to(dtype)
