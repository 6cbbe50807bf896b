"""Tiny networks and images whose evaluation can be counted by hand."""

from dataclasses import asdict

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.artifact import CanonicalizerSpec, ModelConfig
from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.canonicalization.prior import Prior
from equicli.data.loading import Batch
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.groups import PlanarGroup, parse_group
from equicli.prediction.network import NetworkSpec
from tests.canonicalization.examples import canonicalizer

SIDE = 8
UPRIGHT = Prior()
TOP, LEFT, BOTTOM, RIGHT = range(4)  # counter-clockwise, so that a turn by 90° adds one


class EdgeNetwork(nn.Module):
    """Logits (b, 4): how bright the top, left, bottom and right edges are. Counts passes and images."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.seen += len(x)
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
        super().__init__(Context(group, nn.Identity(), HALF))

    def forward(self, x: Tensor) -> Pose:
        scores = torch.eye(self.group.order)[:1].expand(len(x), -1)
        return Pose(torch.zeros(len(x), dtype=torch.int64), scores, scores[..., None])


class Compass(Canonicalizer):
    """Knows the angle of an image of SO(2): it turns the direction of the brightest part to the top."""

    def __init__(self) -> None:
        super().__init__(Context(parse_group("so2"), nn.Identity(), HALF))

    def forward(self, x: Tensor) -> Pose:
        right, up = heading(x).unbind(dim=1)
        return Pose(torch.stack([torch.stack([up, right], 1), torch.stack([-right, up], 1)], 1))


class HeadingNetwork(nn.Module):
    """Logits (b, 4): how far the brightest part lies to the top, left, bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        right, up = heading(x).unbind(dim=1)
        return torch.stack([up, -right, -up, right], dim=1)


def heading(x: Tensor) -> Tensor:
    """The direction of what is brighter than black, from the centre: unit vectors (b, 2), x to the right and y up."""
    weights = (x.float() + 1).mean(dim=1)
    axis = torch.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    moments = [(weights * axis).sum((1, 2)), -(weights * axis[:, None]).sum((1, 2))]
    return nn.functional.normalize(torch.stack(moments, dim=1), dim=1)


def spots(*edges: int) -> Tensor:
    """Black images with one soft spot towards an edge: uint8 (b, 3, 33, 33)."""
    axis = torch.arange(33) - 16
    spot = 255 * torch.exp(-((axis[:, None] + 6) ** 2 + axis**2) / 10)
    images = [torch.rot90(spot, edge) for edge in edges]
    return torch.stack(images)[:, None].expand(-1, 3, -1, -1).round().to(torch.uint8)


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


def config(group: str = "c4", prior: Prior = UPRIGHT) -> ModelConfig:
    """Of images that are taken as they are, in four classes named by their bright edge."""
    return ModelConfig(
        task="classification",
        group=group,
        canonicalizer=CanonicalizerSpec("optimized", asdict(finding_top(EdgeNetwork()).canonicalizer.spec)),
        prediction_network=NetworkSpec("python", "EdgeNetwork"),
        preprocess=Preprocess(None, None, "bilinear", HALF),
        labels={"top": TOP, "left": LEFT, "bottom": BOTTOM, "right": RIGHT},
        provenance={"model": "python", "file": "weights.pth", "sha256": "0" * 64},
        prior=prior,
        padding="edge",
    )
