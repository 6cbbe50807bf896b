"""Small canonicalizers and images that the tests of several rooms use."""

import timm
import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.canonicalization.networks import conv
from equicli.canonicalization.optimized import OptimizedCanonicalizer, OptimizedSpec
from equicli.canonicalization.registry import REGISTRY
from equicli.data.normalization import HALF, Normalization
from equicli.data.preprocess import Preprocess
from equicli.groups import parse_group
from equicli.prediction.inputs import Inputs, Tensors
from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import Signature, asking

# Pictures are taken as they are, and only normalized with HALF.
AS_THEY_ARE = Preprocess(None, None, "bilinear", HALF)


def context(group: str) -> Context:
    """For a prediction network whose inputs are normalized with HALF."""
    return Context(parse_group(group), HALF)


def create(kind: str, group: str, *, seed: int = 0, **keys: object) -> Canonicalizer:
    """A canonicalizer of any kind with these settings, in the form that is trained but in eval mode."""
    torch.manual_seed(seed)
    return REGISTRY[kind].create(REGISTRY[kind].Settings(kind=kind, **keys), context(group)).eval()


def canonicalizer(
    group: str,
    network: nn.Module,
    *,
    vector_size: int = 16,
    size: int = 17,
    temperature: float = 0.1,
    normalization: Normalization = HALF,
) -> OptimizedCanonicalizer:
    """`network` as canonicalizer for prediction networks of HALF, in eval mode; it looks at `normalization` itself."""
    spec = OptimizedSpec(NetworkSpec("python", type(network).__name__), normalization, size, vector_size)
    return OptimizedCanonicalizer(spec, context(group), network, temperature=temperature).eval()


def conv_canonicalizer(group: str, *, size: int = 17, width: int = 4, seed: int = 0) -> OptimizedCanonicalizer:
    torch.manual_seed(seed)
    return canonicalizer(group, conv(width, 16), size=size)


def timm_canonicalizer(group: str, *, size: int = 33) -> OptimizedCanonicalizer:
    torch.manual_seed(0)
    return canonicalizer(group, timm.create_model("test_resnet", num_classes=16, zero_init_last=False), size=size)


def adapt(canonicalizer: Canonicalizer, network: nn.Module, **options: object) -> AdaptedModel:
    """An adapted model; pictures are taken as they are where `preprocess` says nothing else."""
    return AdaptedModel(canonicalizer, network, **{"preprocess": AS_THEY_ARE, **options})


def find(module: Canonicalizer, x: Tensor | Inputs, network: nn.Module | None = None) -> Pose:
    """The poses of images x (b, 3, h, w) that are normalized with HALF, or of any inputs.

    Args:
        network: the prediction network, where the canonicalizer asks it.
    """
    inputs = Tensors(x, HALF) if isinstance(x, Tensor) else x
    return module.find(inputs, asking(network or nn.Identity(), Signature()))


def noise(b: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalized images (b, 3, side, side) without any symmetry."""
    return torch.rand(b, 3, side, side, generator=torch.Generator().manual_seed(side)).mul(2).sub(1).to(dtype)


def pictures(*frames: tuple[int, int], seed: int = 0) -> list[Tensor]:
    """Random pictures, uint8 (3, h, w), one of each (height, width)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, *frame), generator=generator, dtype=torch.uint8) for frame in frames]
