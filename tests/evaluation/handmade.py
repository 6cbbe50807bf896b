"""Tiny networks and images whose evaluation can be counted by hand."""

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer, Context, Pose
from equicli.canonicalization.networks import conv
from equicli.canonicalization.optimized import OptimizedCanonicalizer, OptimizedSpec
from equicli.canonicalization.prior import Prior
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.evaluation.evaluate import Evaluation, FoundPoses, InputBatch
from equicli.evaluation.systems import SYSTEMS
from equicli.groups import PlanarGroup, is_finite, parse_group
from equicli.model_config import CanonicalizerSpec, ModelConfig
from equicli.prediction.inputs import Pictures, Tensors
from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import Signature
from equicli.tasks.classification.task import Classification
from equicli.tasks.task import Task

SIDE = 8
CPU = torch.device("cpu")
C4 = PlanarGroup(4)
UPRIGHT = Prior()
AS_THEY_ARE = Preprocess(None, None, "bilinear", HALF)
CLASSIFICATION = Classification()
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
        super().__init__(Context(group, HALF))

    def forward(self, x: Tensor) -> Pose:
        scores = torch.eye(self.group.order)[:1].expand(len(x), -1)
        return Pose(torch.zeros(len(x), dtype=torch.int64), scores, scores[..., None])


class Compass(Canonicalizer):
    """Knows the angle of an image of SO(2): it turns the direction of the brightest part to the top."""

    def __init__(self) -> None:
        super().__init__(Context(parse_group("so2"), HALF))
        self.view = self.look(33, HALF)

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


def optimized(group: str, network: nn.Module, vector_size: int) -> OptimizedCanonicalizer:
    """`network` as canonicalizer of images of SIDE pixels."""
    spec = OptimizedSpec(NetworkSpec("python", type(network).__name__), HALF, SIDE, vector_size)
    return OptimizedCanonicalizer(spec, Context(parse_group(group), HALF), network).eval()


def finding_top(network: nn.Module, group: str = "c4", **options: object) -> AdaptedModel:
    """`network` behind a canonicalizer that turns the brightest edge to the top."""
    module = optimized(group, TopFinder(), 2)
    module.reference.copy_(torch.tensor([1.0, 0.0]))
    return adapted(module, network, **options)


def random_model(group: str = "c4", network: nn.Module | None = None, **options: object) -> AdaptedModel:
    """A canonicalizer that no symmetry binds but its own, in front of such a network."""
    torch.manual_seed(0)
    return adapted(optimized(group, conv(4, 16), 16), network or ConvNetwork(), **options)


def adapted(canonicalizer: Canonicalizer, network: nn.Module, **options: object) -> AdaptedModel:
    return AdaptedModel(canonicalizer, network, **{"preprocess": AS_THEY_ARE, **options})


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


def batches(images: Tensor, size: int = 4) -> list[InputBatch]:
    """The images as preprocessed tensors."""
    parts = torch.arange(len(images)).split(size)
    return [InputBatch(indices, Tensors(HALF(images[indices]), HALF)) for indices in parts]


def pictures(images: Sequence[Tensor], preprocess: Preprocess = AS_THEY_ARE) -> list[InputBatch]:
    """The images as pictures of any sizes, in one batch."""
    return [InputBatch(torch.arange(len(images)), Pictures(list(images), preprocess, CPU))]


# Height and width of a square picture, a landscape and two portraits.
FRAMES = ((8, 8), (8, 12), (12, 8), (16, 9))


def framed(*edges: int, frames: Sequence[tuple[int, int]] = FRAMES) -> list[Tensor]:
    """Pictures of these frames, in turn, with one bright edge each: uint8 (3, h, w)."""
    images = []
    for index, edge in enumerate(edges):
        height, width = frames[index % len(frames)]
        upright = (height, width) if edge % 2 == 0 else (width, height)
        image = torch.full((3, *upright), 100, dtype=torch.uint8)
        image[:, 0] = 200
        images.append(torch.rot90(image, edge, (-2, -1)))
    return images


class PointNetwork(nn.Module):
    """Keypoints (b, 1, 2): the centre of the whitest pixel in the upper half. What lies below it does not see."""

    def forward(self, x: Tensor) -> Tensor:
        upper = x.mean(dim=1)[:, : x.shape[-2] // 2]
        pixel, width = upper.flatten(1).argmax(dim=1), x.shape[-1]
        return torch.stack([pixel % width, pixel // width], dim=1)[:, None].float() + 0.5


class PointTask(Task):
    """A task of one's own: one keypoint in each picture. It is right within a pixel."""

    name = "points"
    signature = Signature("image", "keypoints")
    score = "hit"
    title = "Hits"

    def record(self, output: Tensor, targets: Sequence[Tensor]) -> dict[str, Tensor]:
        far = (output - torch.stack(list(targets))).norm(dim=-1)[:, 0]
        return {"hit": far < 1, "distance": far}


class ClosenessTask(PointTask):
    """The same, scored by a number between 0 and 1."""

    name = "closeness"
    score = "closeness"
    title = "Closeness"

    def record(self, output: Tensor, targets: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"closeness": 1 / (1 + super().record(output, targets)["distance"])}


def recorded(elements: str = "c4", group: str = "c4", n: int = 10, **changes: object) -> Evaluation:
    """An evaluation of a classifier that never was; `changes` replace fields of it and of its `FoundPoses`."""
    turns, adapted_group = parse_group(elements), parse_group(group)
    assert isinstance(turns, PlanarGroup)
    generator = torch.Generator().manual_seed(0)

    def records() -> dict[str, Tensor]:
        return {
            "acc": torch.rand(n, turns.order, generator=generator) < 0.6,
            "top5": torch.ones(n, turns.order, dtype=torch.bool),
            "confidence": torch.full((n, turns.order), 0.6),
            "prediction": torch.zeros(n, turns.order, dtype=torch.int64),
            "target": torch.zeros(n, turns.order, dtype=torch.int64),
        }

    averaged = adapted_group if isinstance(adapted_group, PlanarGroup) else turns
    shared = changes.pop("shared", tuple(turns.elements()))
    judged = torch.ones(n, len(shared), dtype=torch.bool)
    found = {
        "shared": shared,
        "expected": judged,
        "consistent": judged,
        "confidence": torch.full((n, len(shared)), 0.9),
        "temperature": 1.0,
        "poses": torch.zeros(n, dtype=torch.int64) if is_finite(adapted_group) else None,
        "ties": torch.zeros(n, dtype=torch.bool),
    }
    found |= {name: changes.pop(name) for name in [*found] if name in changes}
    found["identity"] = changes.pop("identity", found["expected"][:, 0])
    fields = {
        "records": {name: records() for name in SYSTEMS},
        "passes": {"vanilla": 1, "adapted": 1, "symmetrized": averaged.order, "oracle": 1},
        "changed": torch.zeros(n, turns.order, dtype=torch.bool),
        "max_delta": torch.zeros(turns.order),
        "found": FoundPoses(**found),
        "ways": None,
        "frames": ((SIDE, SIDE),) * n,
        "agreement": False,
    }
    return Evaluation(elements=turns, group=adapted_group, **{**fields, **changes})


def config(group: str = "c4", prior: Prior = UPRIGHT) -> ModelConfig:
    """Of images that are taken as they are, in four classes named by their bright edge."""
    return ModelConfig(
        task="classification",
        signature=CLASSIFICATION.signature,
        group=group,
        canonicalizer=CanonicalizerSpec("optimized", asdict(finding_top(EdgeNetwork()).canonicalizer.spec)),
        prediction_network=NetworkSpec("python", "EdgeNetwork"),
        preprocess=AS_THEY_ARE,
        labels={"top": TOP, "left": LEFT, "bottom": BOTTOM, "right": RIGHT},
        provenance={"model": "python", "file": "weights.pth", "sha256": "0" * 64},
        prior=prior,
        padding="edge",
    )
