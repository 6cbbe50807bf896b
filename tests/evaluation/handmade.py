"""Tiny networks and images whose evaluation can be counted by hand."""

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.artifact import CanonicalizerSpec, ModelConfig
from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.data.loading import Batch
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.groups import PlanarGroup
from equicli.prediction.network import NetworkSpec
from tests.canonicalization.examples import canonicalizer

SIDE = 8
TOP, LEFT, BOTTOM, RIGHT = range(4)  # counter-clockwise, so that a turn by 90° adds one


class EdgeNetwork(nn.Module):
    """Logits (b, 4): how bright the top, left, bottom and right edges are. Counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        edges = (x[..., 0, :], x[..., :, 0], x[..., -1, :], x[..., :, -1])
        return torch.stack([edge.mean(dim=(1, 2)) for edge in edges], dim=1)


class ConvNetwork(nn.Module):
    """Logits (b, 5) that no symmetry binds."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(5, 3 * SIDE * SIDE, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T / SIDE


class TopFinder(nn.Module):
    """Vectors (b, 2) that are the more like (1, 0), the brighter the top edge is."""

    def forward(self, x: Tensor) -> Tensor:
        angle = x[..., 0, :].mean(dim=(1, 2))
        return torch.stack([angle.sin(), angle.cos()], dim=1)


class Motionless(Canonicalizer):
    """Finds every image upright, and so is no canonicalizer."""

    def __init__(self, group: PlanarGroup) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Pose:
        scores = torch.eye(self.group.order)[:1].expand(len(x), -1)
        return Pose(torch.zeros(len(x), dtype=torch.int64), scores, scores[..., None])


def finding_top(network: nn.Module, group: str = "c4") -> AdaptedModel:
    """`network` behind a canonicalizer that turns the brightest edge to the top."""
    module = canonicalizer(group, TopFinder(), vector_size=2, size=SIDE)
    module.reference.copy_(torch.tensor([1.0, 0.0]))
    return AdaptedModel(module, network)


def bright(*edges: int | None) -> Tensor:
    """Images with one bright edge each, or grey throughout (None): uint8 (b, 3, SIDE, SIDE)."""
    images = torch.full((len(edges), 3, SIDE, SIDE), 100, dtype=torch.uint8)
    for image, edge in zip(images, edges, strict=True):
        if edge is not None:
            image[:, 0] = 200
            image.copy_(torch.rot90(image, edge, (-2, -1)))
    return images


def noise(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


def batches(images: Tensor, size: int = 4) -> list[Batch]:
    return [Batch(indices, images[indices][:, None]) for indices in torch.arange(len(images)).split(size)]


def config(group: str = "c4") -> ModelConfig:
    """Of images that are taken as they are, in four classes named by their bright edge."""
    return ModelConfig(
        task="classification",
        group=group,
        canonicalizer=CanonicalizerSpec("optimized", NetworkSpec("python", "TopFinder"), HALF, SIDE, 2),
        prediction_network=NetworkSpec("python", "EdgeNetwork"),
        preprocess=Preprocess(None, None, "bilinear", HALF),
        labels={"top": TOP, "left": LEFT, "bottom": BOTTOM, "right": RIGHT},
        provenance={"model": "python", "file": "weights.pth", "sha256": "0" * 64},
    )
