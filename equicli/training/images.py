"""The first pass over the training images: decoded once, shrunk once, kept in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equicli.data.decode import PLAIN, Decoder
from equicli.data.folders import Sample, Split
from equicli.data.loading import Loader
from equicli.data.preprocess import Preprocess
from equicli.data.small_view import SmallView
from equicli.data.source import Resident
from equicli.devices import full_float32
from equicli.errors import EquicliError
from equicli.prediction.head import head_inputs
from equicli.progress import Progress


@dataclass(frozen=True)
class TrainingImages:
    """All that training needs of the image files, so that none is opened again.

    train, validation: what the canonicalizer looks at, rounded to bytes; or, where the prediction network is to see
        them, its inputs. Their targets are those of the samples. Of validation images there are `looks`, too.
    samples: int64 (n,), which of the split's training and validation samples these are, in this order.
    features: float32 (n, d), what reaches the prediction network's head, of the same; None unless asked.
    unreadable: files that were skipped, with the reason.
    fingerprints: of the files that were read.
    """

    train: Resident
    validation: Resident
    samples: Tensor
    features: Tensor | None
    unreadable: dict[Path, str]
    fingerprints: dict[Path, bytes]


_NONE = Resident(torch.empty(0, 3, 0, 0, dtype=torch.uint8), torch.empty(0), [])
# Where nothing is learned from any.
NO_IMAGES = TrainingImages(_NONE, _NONE, torch.empty(0, dtype=torch.int64), None, {}, {})


class _Prepared(NamedTuple):
    """Of one picture: what is kept of it, width ÷ height, and what canonicalizer and prediction network are shown."""

    kept: Tensor
    aspect: float
    look: Tensor | None
    shown: Tensor | None


def read_training_images(
    split: Split,
    preprocess: Preprocess,
    view: SmallView | None,
    *,
    look: Callable[[Tensor], Tensor],
    keep: bool,
    features_of: nn.Module | None,
    head: str | None = None,
    turn_back: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int,
    decoder: Decoder = PLAIN,
    strict: bool,
    progress: Progress,
) -> TrainingImages:
    """Open every training and validation image once.

    Args:
        view: what is kept of each picture; None keeps inputs of the prediction network.
        look: what the canonicalizer is shown of a picture where the model is evaluated, (3, size, size) normalized.
        keep: whether anything is kept at all.
        features_of: a prediction network whose last layer's inputs are to be collected. head: that layer's name.
        turn_back: brings pictures of the folder, uint8 (3, h, w), to the pose that this network expects.
        decoder: opens the files.

    Raises:
        EquicliError: an image cannot be read (strict), none can, or inputs of the network are of several sizes.
    """
    samples = split.train + split.validation

    def prepare(picture: Tensor, *, validation: bool = False) -> _Prepared:
        kept, aspect = torch.empty(3, 0, 0, dtype=torch.uint8), 1.0
        if keep and view is not None:
            kept, aspect = shrunk(picture, view)
        elif keep:
            kept = preprocess(picture)
        shown = None if features_of is None else preprocess(turn_back(picture))
        return _Prepared(kept, aspect, look(picture) if keep and validation else None, shown)

    loaders = [
        Loader(split.train, prepare, batch_size, decoder=decoder, strict=strict),
        Loader(split.validation, partial(prepare, validation=True), batch_size, decoder=decoder, strict=strict),
    ]
    first_of = (0, len(split.train))
    batches = ((batch, first) for loader, first in zip(loaders, first_of, strict=True) for batch in loader)
    indices: list[Tensor] = []
    read: list[_Prepared] = []
    features: list[Tensor] = []
    for batch, first in progress.track(batches, "reading images", sum(map(len, loaders))):
        indices.append(batch.indices + first)
        if features_of is not None:
            shown = [preprocess.normalization(item.shown.to(device)) for item in batch.items if item.shown is not None]
            features.append(_features(features_of, shown, head))
        read += [item._replace(shown=None) for item in batch.items]
    order = torch.cat(indices)
    is_train = order < len(split.train)
    _check_sizes(read, [samples[i] for i in order.tolist()])
    looks = [item.look for item in read if item.look is not None]
    kept, aspects = torch.stack([item.kept for item in read]), torch.tensor([item.aspect for item in read])

    def part(rows: Tensor) -> Resident:
        targets: list[Any] = [samples[i].target for i in order[rows].tolist()]
        return Resident(kept[rows].to(device), aspects[rows], targets)

    validation = part(~is_train)
    return TrainingImages(
        train=part(is_train),
        validation=replace(validation, looks=torch.stack(looks).to(device)) if looks else validation,
        samples=order,
        features=torch.cat(features) if features else None,
        unreadable={path: why for loader in loaders for path, why in loader.unreadable.items()},
        fingerprints={path: of for loader in loaders for path, of in loader.fingerprints.items()},
    )


def shrunk(picture: Tensor, view: SmallView) -> tuple[Tensor, float]:
    """A picture's small view in bytes, uint8 (3, s, s), and the width ÷ height that it was squashed from, if it was."""
    aspect = picture.shape[-1] / picture.shape[-2] if view.whole else 1.0
    return view.pixels(picture).round().clamp(0, 255).to(torch.uint8), aspect


def _check_sizes(read: Sequence[_Prepared], samples: Sequence[Sample]) -> None:
    first = read[0].kept.shape
    for item, sample in zip(read, samples, strict=True):
        height, width = item.kept.shape[-2:]
        if item.kept.shape != first or height != width:
            raise EquicliError(
                f"{sample.path}: {width}x{height} pixels; training with the network's own loss (task_weight) takes "
                "square images of one size. Use --preprocess checkpoint with --image-size N."
            )


def _features(network: nn.Module, images: Sequence[Tensor], head: str | None) -> Tensor:
    alike = len({image.shape for image in images}) == 1
    groups = [torch.stack(list(images))] if alike else [image[None] for image in images]
    return torch.cat([features_of_inputs(network, group, head) for group in groups])


@torch.inference_mode()
def features_of_inputs(network: nn.Module, x: Tensor, head: str | None) -> Tensor:
    """What reaches the head of a network that is shown inputs (b, …): (b, features)."""
    with head_inputs(network, head) as collected, full_float32(x.device):
        network(x)
    return torch.cat(collected)
