"""What a program takes, and the inputs that it is compared on: random ones and real ones, turned by elements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.data.clouds.preprocess import CloudPreprocess, unit_sphere
from equicli.errors import UsageError
from equicli.export.graph import InputsGraph
from equicli.export.parity import Case
from equicli.export.picture_graph import PictureGraph
from equicli.groups import MatrixGroup, as_finite, is_finite
from equicli.groups.action import act, kind_of
from equicli.groups.elements import Element
from equicli.prediction.no_network import NoNetwork

RANDOM = (1, 3)  # batches of so many
ANGLES = 8  # that inputs are turned by, at most


@dataclass(frozen=True)
class Asked:
    """graph: what becomes a program. takes: its input, in words. example: one, with the axes of it that may have any
    size. cases: what it is compared on.
    """

    graph: nn.Module
    takes: str
    example: Tensor
    dynamic: Mapping[int, Any]
    cases: Sequence[Case]


def of_one_picture(model: AdaptedModel, pictures: Sequence[Tensor]) -> Asked:
    """Of a program that takes a picture of any size.

    Raises:
        UsageError: the model's pictures cannot be prepared so.
    """
    graph, any_size = PictureGraph(model), torch.export.Dim.DYNAMIC

    def seen(picture: Tensor) -> list[Tensor]:
        return [one.permute(1, 2, 0).contiguous() for one in turned(model, picture)]

    random = [noise(i) for i in range(len(_FRAMES))]
    cases = [Case(seen(picture), False) for picture in random] + [Case(seen(p), True) for p in pictures]
    return Asked(graph, "uint8 (h, w, 3)", cases[0].turned[0], {0: any_size, 1: any_size}, cases)


_FRAMES = ((61, 83), (160, 97))


def noise(number: int) -> Tensor:
    """A random picture, uint8 (3, h, w), the same in every call."""
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (3, *_FRAMES[number]), dtype=torch.uint8, generator=generator)


def of_batches(model: AdaptedModel, samples: Sequence[Tensor], image_size: int | None) -> Asked:
    """Of a program that takes what is preprocessed already: batches of any size; of a detector one picture.

    Args:
        image_size: of inputs, where the model's own preprocessing says none.

    Raises:
        UsageError: no size is known, or one is given of clouds.
    """
    if isinstance(model.preprocess, CloudPreprocess):
        if image_size is not None:
            raise UsageError("--image-size: is for pictures; leave it out.")
        points = model.preprocess.points
        random = [torch.randn(count, points, 3, generator=_generator()) for count in RANDOM]
        random = [torch.stack([unit_sphere(cloud) for cloud in batch]) for batch in random]
        real = list(map(model.preprocess, samples))
        takes = f"float32 (b, {points}, 3), the mean at the origin and the farthest point at 1"
    else:
        size = model.preprocess.size or image_size or _size_of(model, samples)
        normalize, prepare = model.preprocess.normalization, model.preprocess
        if prepare.size is None:  # shown in the size that was asked for, whatever theirs is
            prepare = replace(prepare, size=size, resize=size)
        shape = (normalize.channels, size, size)
        counts = (1, 1) if model.signature.lists else RANDOM
        random = [torch.randn(count, *shape, generator=_generator()) for count in counts]
        real = [normalize(prepare(picture)) for picture in samples]
        takes = f"float32 ({'1' if model.signature.lists else 'b'}, {', '.join(map(str, shape))}), preprocessed"
    cases = [Case(turned(model, x), False) for x in random]
    if model.signature.lists:
        cases += [Case(turned(model, x[None]), True) for x in real]
        return Asked(InputsGraph(model), takes, random[0], {}, cases)
    if real:
        cases.append(Case(turned(model, torch.stack(real)), True))
    # A batch of one would be taken for what it always is.
    return Asked(InputsGraph(model), takes, random[1], {0: torch.export.Dim.DYNAMIC}, cases)


def _size_of(model: AdaptedModel, pictures: Sequence[Tensor]) -> int:
    """The side of the first picture, of a network that takes pictures as they are; of none what poses are found in."""
    if isinstance(model.prediction_network, NoNetwork):
        return model.canonicalizer.view.size
    if pictures and pictures[0].shape[-1] == pictures[0].shape[-2]:
        return int(pictures[0].shape[-1])
    raise UsageError("--image-size: nothing says which size this network's inputs have; name it.")


def turned(model: AdaptedModel, x: Tensor) -> list[Tensor]:
    """An input turned by elements, the identity first."""
    group = model.canonicalizer.group
    elements: list[Element] = []
    if is_finite(group):
        order = as_finite(group).order
        elements = list(range(0, order, max(1, order // ANGLES)))
    elif isinstance(group, MatrixGroup) and group.dimension == 3:
        elements = [torch.eye(3, dtype=torch.float64), *group.sample(ANGLES - 1, _generator())]
    else:
        found = [group.find(360 / ANGLES * k, False) for k in range(ANGLES)]
        elements = [element for element in found if element is not None]
    return [act(group, element, x, kind_of(group), padding=model.padding) for element in elements]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
