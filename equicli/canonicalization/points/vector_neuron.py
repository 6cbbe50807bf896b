"""A vector-neuron canonicalizer: two vectors that turn with the cloud, made into a rotation by Gram-Schmidt."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Context, Pose
from equicli.canonicalization.points.base import PointCanonicalizer, rotation_of
from equicli.settings import CanonicalizerSettings

Loss = Literal["likelihood", "cosine"]
Width = Annotated[int, Field(ge=1, le=1024)]

SLOPE = 0.2
TINY = 1e-6


class VectorNeuronSettings(CanonicalizerSettings):
    """What the network is built from, and how it is trained."""

    kind: Literal["vector-neuron"] = "vector-neuron"
    width: Width = Field(16, description="vectors of each point, in every layer")
    loss: Loss = Field(
        "likelihood", description="of the prior: -log p of a matrix Fisher distribution, or 1 - cos of the angle"
    )


@dataclass(frozen=True)
class VectorNeuronSpec:
    """The same, as it is stored."""

    width: Width
    loss: Loss


class VectorNeuronCanonicalizer(PointCanonicalizer):
    """EquiAdapt for point clouds (arXiv 2310.01647), on vector neurons (Deng et al., arXiv 2104.12229).

    Of SO(3) two vectors are predicted; the first becomes the vertical, the third axis is their cross product, so that
    the determinant is +1. Of SO(2) about z the vectors lie in the plane, one is enough, and heights are numbers that
    no rotation changes. How long the vectors are says how sure the pose is: F, the parameter of a matrix Fisher
    distribution, has them as its columns.
    """

    Settings = VectorNeuronSettings
    Spec = VectorNeuronSpec
    method = "EquiAdapt, [Equivariant Adaptation of Large Pretrained Models](https://arxiv.org/abs/2310.01647)"
    learning_rate = 5e-3
    spec: VectorNeuronSpec

    def __init__(self, spec: VectorNeuronSpec, context: Context) -> None:
        super().__init__(context)
        self.spec = spec
        self.network = VectorNeurons(spec.width, 1 if self.group.about_z else 2, plane=self.group.about_z)

    @classmethod
    def create(cls, settings: VectorNeuronSettings, context: Context) -> "VectorNeuronCanonicalizer":
        return cls(VectorNeuronSpec(settings.width, settings.loss), context)

    @classmethod
    def rebuild(cls, spec: VectorNeuronSpec, context: Context) -> "VectorNeuronCanonicalizer":
        return cls(spec, context)

    def forward(self, x: Tensor) -> Pose:
        """Find the pose of clouds x (b, n, 3); computed in the precision of x."""
        vectors = self.network(x)  # (b, 1 or 2, 2 or 3)
        zeros = torch.zeros_like(x[:, 0])
        if self.group.about_z:
            flat = nn.functional.pad(vectors[:, 0], (0, 1))
            vertical = x.new_tensor([0.0, 0.0, 1.0]).expand_as(flat)
            element, beside = rotation_of(vertical, flat)
            parameter = torch.stack([beside, zeros, zeros], dim=-1)
        else:
            element, beside = rotation_of(vectors[:, 0], vectors[:, 1])
            parameter = torch.stack([beside, zeros, vectors[:, 0]], dim=-1)
        return Pose(element, parameter if self.spec.loss == "likelihood" else None)


class VectorNeurons(nn.Module):
    """From clouds (b, n, 3) to `outputs` vectors (b, outputs, d) that turn with them; d = 2 in the plane, else 3.

    Every point starts with vectors that the cloud's moments give it, in several directions, so that no neighbours have
    to be found (which ties between equal distances would make depend on the order and on roundings). Each layer mixes
    them (no bias), bends them, and adds the mean over all points. Sums over points do not depend on their order.

    Within, vectors are (b, d, n, c), channels last, so that mixing them is one large product.
    """

    def __init__(self, width: int, outputs: int, *, plane: bool) -> None:
        super().__init__()
        self.plane = plane
        start = IN_PLANE if plane else IN_SPACE
        self.layers = nn.ModuleList(VectorLayer(inputs, width) for inputs in (start, 2 * width, 2 * width))
        self.head = nn.Sequential(VectorLayer(width, width), VectorLinear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        vectors = in_plane(x) if self.plane else in_space(x)
        for index, layer in enumerate(self.layers):
            if index:
                vectors = torch.cat([vectors, vectors.mean(dim=2, keepdim=True).expand_as(vectors)], dim=3)
            vectors = layer(vectors)
        out: Tensor = self.head(vectors.mean(dim=2, keepdim=True))[:, :, 0]
        return out.mT


class VectorLinear(nn.Module):
    """Mixes vectors (b, d, n, c) to (b, d, n, k): every coordinate alike, so that it commutes with rotations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        return nn.functional.linear(vectors, self.weight.to(vectors))


class VectorLayer(nn.Module):
    """A linear map, then the vector neurons' leaky ReLU: what points against a learned direction is shortened.

    In place of batch normalization, which makes a cloud's answer depend on others, lengths are divided by their root
    mean square over all points and channels of the cloud.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.direction = VectorLinear(inputs, outputs), VectorLinear(inputs, outputs)

    def forward(self, vectors: Tensor) -> Tensor:
        q, k = self.linear(vectors), self.direction(vectors)
        size = (q.square().sum(dim=1, keepdim=True).mean(dim=(2, 3), keepdim=True) + TINY**2).sqrt()
        along = (q * k).sum(dim=1, keepdim=True).clamp(max=0)
        length = k.square().sum(dim=1, keepdim=True) + TINY**2
        bent: Tensor = (q - (1 - SLOPE) * along / length * k) / size
        return bent


IN_SPACE, IN_PLANE = 7, 9


def in_space(x: Tensor) -> Tensor:
    """Vectors of each point that turn with a centred cloud, (b, 3, n, IN_SPACE): the point, near and far from the
    centre; what second moments make of it; the cloud's third moment, and cross products with these."""
    square = x.square().sum(-1, keepdim=True)
    moment = x.mT @ x / x.shape[1]  # (b, 3, 3)
    through = x @ moment
    twice = through @ moment
    skew = (square * x).mean(dim=1, keepdim=True).expand_as(x)
    far = (through * x).sum(-1, keepdim=True)
    skewed = (far * x).mean(dim=1, keepdim=True).expand_as(x)
    vectors = [x, square * x, 4 * through, 16 * twice, 4 * skew, 16 * skewed, 4 * torch.linalg.cross(x, through)]
    return torch.stack([vector.mT for vector in vectors], dim=3)


def in_plane(x: Tensor) -> Tensor:
    """The same in the plane, (b, 2, n, IN_PLANE): a point's x and y, weighed by heights and distances; the cloud's
    second moments, and a turn by 90°, which commutes with all others."""
    flat, height = x[..., :2], x[..., 2:]
    square = flat.square().sum(-1, keepdim=True)
    through = flat @ (flat.mT @ flat / x.shape[1])
    skew = (square * flat).mean(dim=1, keepdim=True).expand_as(flat)
    lean = (height * flat).mean(dim=1, keepdim=True).expand_as(flat)
    crossed = torch.stack([-flat[..., 1], flat[..., 0]], dim=-1)
    vectors = [flat, height * flat, height.square() * flat, square * flat, 4 * through, 4 * skew, 4 * lean]
    return torch.stack([vector.mT for vector in (*vectors, crossed, height * crossed)], dim=3)
