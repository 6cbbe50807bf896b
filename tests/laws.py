"""The laws of DESIGN.md as one assertion that every room can use."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.data.normalization import HALF
from equicli.evaluation.evaluate import TIE
from equicli.groups import Group, PlanarGroup, is_finite
from equicli.groups.action import Element, inscribed_disc
from equicli.groups.elements import multiply
from equicli.prediction.inputs import Inputs, Tensors
from tests.canonicalization.examples import find

# What scores may be off by the dtype of the images. Turning them by 90° and mirroring rounds nothing in any of these.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.uint8: 1e-1}


@dataclass(frozen=True)
class Deviation:
    """How far one element h is from the laws: the largest change of a score, the share of clear images whose pose is
    not h·ĝ(x), the largest change of a pixel of the canonical form of clear images."""

    element: str
    score: float
    poses: float
    pixel: float

    def __str__(self) -> str:
        return f"h = {self.element}: |Δscore| {self.score:.2g}, ĝ(h·x) ≠ h·ĝ(x) {self.poses:.0%}, |Δx̂| {self.pixel:.2g}"


def assert_equivariant(
    module: Canonicalizer,
    group: PlanarGroup,
    x: Tensor | Inputs,
    *,
    network: nn.Module | None = None,
    atol: float | None = None,
    pixels: float = 0,
    degrees: float = 0,
    clear: float = TIE,
) -> None:
    """Check s(hg | h·x) = s(g | x), ĝ(h·x) = h·ĝ(x), and one canonical form for x and h·x, for every h in `group`.

    Fails with a line for each element that breaks a law. Images whose two best scores are within `clear` may be found
    in another pose; there must be others.

    Args:
        group: a subgroup of the canonicalizer's own group.
        x: images that are normalized with HALF, or any inputs of images only.
        network: the prediction network, where the canonicalizer asks it.
        atol: of the scores; by default by the dtype of x.
        pixels: of the canonical forms, inside the inscribed disc; 0 is bit for bit, and everywhere.
        degrees: by which poses of a continuous group may differ.
    """
    deviations = measure_equivariance(module, group, x, network=network, degrees=degrees, clear=clear)
    if atol is None:
        atol = TOLERANCE[x.dtype] if isinstance(x, Tensor) else TOLERANCE[torch.float32]
    broken = [d for d in deviations if not (d.score <= atol and d.poses == 0 and d.pixel <= pixels)]
    what = f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else f"{type(x).__name__} of {x.frames()}"
    case = f"{module.group.name} canonicalizer, {what}, within {atol:g} and {pixels:g}"
    assert not broken, "\n".join([f"{case}:", *map(str, broken)])


@torch.inference_mode()
def measure_equivariance(
    module: Canonicalizer,
    group: PlanarGroup,
    x: Tensor | Inputs,
    *,
    network: nn.Module | None = None,
    degrees: float = 0,
    clear: float = TIE,
) -> list[Deviation]:
    """How far each element of `group` is from the laws."""
    inputs: Inputs = Tensors(x, HALF) if isinstance(x, Tensor) else x
    own, pose = module.group, find(module, inputs, network)
    certain = _certain(own, pose, clear)
    assert certain.any(), "all images are ties: nothing is tested"
    canonical = inputs.at(own, pose.element)
    # Quarter turns within a larger group permute pixels, too.
    everywhere = is_finite(own) and group.exact
    deviations = []
    for step in group.elements():
        h = own.find(group.angle(step), group.mirrored(step))
        assert h is not None, f"{group.label(step)} is no element of {own.name}"
        turned = inputs.turned(own, h)
        found = find(module, turned, network)
        same = _same(own, found.element, multiply(own, h, pose.element), degrees)
        again = turned.at(own, found.element)
        both = (certain & same).nonzero().flatten().tolist()
        pixel = [_pixel_change(again[i], canonical[i], everywhere) for i in both]
        deviations.append(
            Deviation(
                group.label(step),
                _score_change(own, h, pose, found),
                float((~same[certain]).double().mean()),
                max(pixel, default=math.inf),
            )
        )
    return deviations


def _certain(group: Group, pose: Pose, clear: float) -> Tensor:
    if not is_finite(group) or pose.scores is None or group.order == 1:
        return torch.ones(len(pose.element), dtype=torch.bool)
    best = pose.scores.topk(2, dim=1).values
    return best[:, 0] - best[:, 1] >= clear


def _same(group: Group, found: Tensor, expected: Tensor, degrees: float) -> Tensor:
    if is_finite(group):
        return found == expected
    cosine = (found.double() * expected).sum((-2, -1)) / 2
    return cosine >= math.cos(math.radians(degrees)) - 1e-9


def _pixel_change(again: Tensor, canonical: Tensor, everywhere: bool) -> float:
    if again.shape != canonical.shape:
        return math.inf
    change = (again.double() - canonical.double()).abs()
    return float((change if everywhere else change * inscribed_disc(tuple(change.shape[-2:]))).max())


def _score_change(group: Group, h: Element, pose: Pose, found: Pose) -> float:
    if pose.scores is None or found.scores is None:
        return 0.0
    if not is_finite(group):  # F(h·x) = h F(x)
        return float((found.scores - multiply(group, h, pose.scores)).abs().max())
    hg = multiply(group, h, torch.arange(group.order))
    return float((found.scores[:, hg] - pose.scores).abs().max())
