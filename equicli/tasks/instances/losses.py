"""A detector's own loss of a picture in every pose, by torchvision's contract."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equicli.errors import EquicliError, reason
from equicli.groups import FiniteGroup
from equicli.groups.elements import Frame, inverse
from equicli.groups.transport import frames_after
from equicli.prediction.inputs import Pictures, moved
from equicli.tasks.annotations.objects import Objects, decode
from equicli.tasks.instances.answers import PARTS

# From lists of images and of targets to losses by name.
Losses = Callable[[list[Tensor], list[dict[str, Tensor]]], Mapping[str, Any]]
# Layers that would change while they compute a loss, were they in training mode.
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.modules.dropout._DropoutNd)


@torch.no_grad()
def pose_costs(network: nn.Module, inputs: Pictures, group: FiniteGroup, targets: Sequence[Objects]) -> Tensor:
    """What the network's own loss is of g⁻¹·x, with what is there turned likewise: float32 (b, |G|).

    What it draws at random is drawn alike for every pose.

    Raises:
        EquicliError: it has no losses.
    """
    frames, device = inputs.frames(), inputs.device
    there = [_as_trained_on(objects, frame) for objects, frame in zip(targets, frames, strict=True)]
    costs = torch.zeros(len(inputs), group.order)
    with _telling_losses(network) as losses_of:
        for g in range(group.order):
            images = inputs.at(group, g)
            undo = inverse(group, g)
            seen = frames_after(group, undo, frames, "grow")
            turned = moved(group, undo, there, PARTS, frames, seen)
            for i, (image, target) in enumerate(zip(images, turned, strict=True)):
                costs[i, g] = _loss(losses_of, image, {key: value.to(device) for key, value in target.items()})
    return costs


@contextmanager
def _telling_losses(network: nn.Module) -> Iterator[Losses]:
    """What tells the losses of lists of images and targets: `network.losses`, or the network itself in training mode.

    Layers of normalization stay in eval mode then, so that nothing in it changes.
    """
    if hasattr(network, "losses"):
        yield cast(Losses, network.losses)
        return
    network.train()
    for layer in network.modules():
        if isinstance(layer, _NORMS):
            layer.eval()
    try:
        yield network
    finally:
        network.eval()


def _loss(losses_of: Losses, image: Tensor, target: dict[str, Tensor]) -> float:
    try:
        with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
            torch.manual_seed(0)
            losses = losses_of([image], [target])
        return float(sum(losses.values()))
    except Exception as error:  # any network
        raise EquicliError(
            "task_weight: the network tells no losses, as torchvision's detectors do of network(images, targets) in "
            f"training mode, or others of network.losses(images, targets) ({reason(error)}). Leave it out."
        ) from error


def _as_trained_on(objects: Objects, frame: Frame) -> dict[str, Tensor]:
    """Objects that are no crowds and have a size, as torchvision's detectors take them."""
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    kept = objects.take(np.flatnonzero(~objects.crowds & (sides > 0).all(axis=1)))
    target = {"boxes": torch.from_numpy(kept.boxes).float(), "labels": torch.from_numpy(kept.labels)}
    return target if kept.masks is None else {**target, "masks": decode(kept.masks, frame).byte()}
