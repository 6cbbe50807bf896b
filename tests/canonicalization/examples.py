"""Small canonicalizers and images that the tests of several rooms use."""

import timm
import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.networks import conv
from equicli.canonicalization.optimized import OptimizedCanonicalizer, OptimizedSpec
from equicli.canonicalization.registry import REGISTRY
from equicli.data.normalization import HALF, Normalization
from equicli.groups import parse_group
from equicli.prediction.network import NetworkSpec


def context(group: str, network: nn.Module | None = None, padding: str = "edge") -> Context:
    """For images normalized with HALF."""
    return Context(parse_group(group), network or nn.Identity(), HALF, padding)


def create(
    kind: str,
    group: str,
    prediction: nn.Module | None = None,
    /,
    *,
    padding: str = "edge",
    seed: int = 0,
    **keys: object,
) -> Canonicalizer:
    """A canonicalizer of any kind with these settings, in the form that is trained but in eval mode."""
    torch.manual_seed(seed)
    return REGISTRY[kind].create(REGISTRY[kind].Settings(kind=kind, **keys), context(group, prediction, padding)).eval()


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
    spec = OptimizedSpec(NetworkSpec("python", type(network).__name__), normalization, size, vector_size)
    return OptimizedCanonicalizer(spec, context(group), network, temperature=temperature).eval()


def conv_canonicalizer(group: str, *, size: int = 17, width: int = 4, seed: int = 0) -> OptimizedCanonicalizer:
    torch.manual_seed(seed)
    return canonicalizer(group, conv(width, 16), size=size)


def timm_canonicalizer(group: str, *, size: int = 33) -> OptimizedCanonicalizer:
    torch.manual_seed(0)
    return canonicalizer(group, timm.create_model("test_resnet", num_classes=16, zero_init_last=False), size=size)


def noise(b: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalized images (b, 3, side, side) without any symmetry."""
    return torch.rand(b, 3, side, side, generator=torch.Generator().manual_seed(side)).mul(2).sub(1).to(dtype)
