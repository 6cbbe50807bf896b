"""A batch of point clouds that can be looked at and turned; and which kind of inputs a network's samples become."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.normalization import Normalization
from equicli.data.preprocess import Preprocess
from equicli.errors import UsageError
from equicli.groups import Group
from equicli.groups.action import act
from equicli.groups.elements import Element, Frame, inverse
from equicli.groups.transport import Kinds, transport
from equicli.prediction.inputs import Inputs, Pictures, Tensors, stays
from equicli.prediction.signature import join_batch

# What a network's own preprocessing can be.
AnyPreprocess = Preprocess | CloudPreprocess


@dataclass(frozen=True)
class Clouds:
    """Point clouds as the network takes them, (b, n, 3): centred, so that turning and preprocessing commute.

    nearest: for each cloud as it came, of all its points the nearest that was drawn, int64 (points,): what is said of
        the drawn points then becomes what is said of all; None where clouds are preprocessed already.
    """

    value: Tensor
    nearest: Sequence[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.value)

    def frames(self) -> list[Frame]:
        """A cloud has none: as a square, it has no long side."""
        return [(1, 1)] * len(self.value)

    def small(self, view: object) -> Tensor:
        """What a canonicalizer looks at: all points."""
        return self.value

    def at(self, group: Group, element: Element | None) -> Tensor:
        return self.value if element is None else act(group, inverse(group, element), self.value, "points")

    def back(self, group: Group, element: Element | None, output: Any, kinds: Kinds) -> Any:
        if kinds == "per-point" and self.nearest is not None:
            return join_batch([row[near] for row, near in zip(output, self.nearest, strict=True)])
        return output if element is None or stays(kinds) else transport(group, element, output, kinds)

    def turned(self, group: Group, element: Element) -> "Clouds":
        return replace(self, value=act(group, element, self.value, "points"))

    def carried_back(self, group: Group, element: Element, output: Any, kinds: Kinds) -> Any:
        return output if stays(kinds) else transport(group, inverse(group, element), output, kinds)

    def take(self, rows: Tensor) -> "Clouds":
        nearest = None if self.nearest is None else [self.nearest[row] for row in rows.tolist()]
        return replace(self, value=self.value[rows], nearest=nearest)


def inputs_from_samples(
    samples: Sequence[Tensor],
    preprocess: AnyPreprocess,
    device: torch.device,
    padding: str,
    *,
    lists: bool = False,
    outputs: Kinds = "logits",
) -> Inputs:
    """Inputs that come as files do: pictures, uint8 (3, h, w), or clouds (n, 3), of any sizes.

    Args:
        outputs: the kinds of what the network returns.
    """
    if isinstance(preprocess, CloudPreprocess):
        nearest = [preprocess.nearest(cloud).to(device) for cloud in samples] if outputs == "per-point" else None
        return Clouds(preprocess.batch(samples, device), nearest)
    return Pictures(samples, preprocess, device, padding, lists, grows=not stays(outputs))


def inputs_from_tensors(x: Any, normalization: Normalization | Any, kinds: Kinds, padding: str) -> Inputs:
    """Inputs that are preprocessed already: images or clouds in a tensor, or more beside them, by their kinds.

    Raises:
        UsageError: no batch of them.
    """
    if kinds == "points":
        cloud = torch.stack(x) if isinstance(x, list) else x
        if not isinstance(cloud, Tensor) or cloud.ndim != 3 or cloud.shape[2] != 3:
            raise UsageError(
                f"clouds of shape {tuple(getattr(cloud, 'shape', ()))}: give a batch (b, n, 3), of one cloud[None]. "
                "Clouds that are not preprocessed go into predict()."
            )
        return Clouds(cloud)
    if isinstance(x, Tensor) and kinds == "image" and x.ndim != 4:
        raise UsageError(
            f"images of shape {tuple(x.shape)}: give a batch (b, 3, h, w), of one image image[None]. "
            "Pictures that are not preprocessed go into predict()."
        )
    return Tensors(x, normalization, kinds, padding)
