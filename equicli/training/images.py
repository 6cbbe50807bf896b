"""The first pass over the training images: decoded once, shrunk once, kept in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from equicli.errors import EquicliError
from equicli.prediction.head import head_inputs
from equicli.progress import Progress


@dataclass(frozen=True)
class TrainingImages:
    """All that training needs of the image files, so that none is opened again.

    train, validation: what the canonicalizer looks at; or, where the prediction network is to see them, its inputs.
        Their targets are those of the samples.
    samples: int64 (n,), which of the split's training and validation samples these are, in this order.
    features: float32 (n, d), what reaches the prediction network's head, of the same; None unless asked.
    unreadable: files that were skipped, with the reason.
    """

    train: Resident
    validation: Resident
    samples: Tensor
    features: Tensor | None
    unreadable: dict[Path, str]


class _Prepared(NamedTuple):
    """Of one picture: what is kept of it, width ÷ height, and what the prediction network is shown."""

    kept: Tensor
    aspect: float
    shown: Tensor | None


def read_training_images(
    split: Split,
    preprocess: Preprocess,
    view: SmallView | None,
    *,
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
        keep: whether anything is kept at all.
        features_of: a prediction network whose last layer's inputs are to be collected. head: that layer's name.
        turn_back: brings pictures of the folder, uint8 (3, h, w), to the pose that this network expects.
        decoder: opens the files.

    Raises:
        EquicliError: an image cannot be read (strict), none can, or inputs of the network are of several sizes.
    """
    samples = split.train + split.validation

    def prepare(picture: Tensor) -> _Prepared:
        kept, aspect = torch.empty(3, 0, 0, dtype=torch.uint8), 1.0
        if keep and view is not None:
            kept = view.pixels(picture).round().clamp(0, 255).to(torch.uint8)
            aspect = picture.shape[-1] / picture.shape[-2] if view.whole else 1.0
        elif keep:
            kept = preprocess(picture)
        return _Prepared(kept, aspect, None if features_of is None else preprocess(turn_back(picture)))

    loader = Loader(samples, prepare, batch_size, decoder=decoder, strict=strict)
    indices: list[Tensor] = []
    read: list[_Prepared] = []
    features: list[Tensor] = []
    for batch in progress.track(loader, "reading images", len(loader)):
        indices.append(batch.indices)
        if features_of is not None:
            shown = [preprocess.normalization(item.shown.to(device)) for item in batch.items if item.shown is not None]
            features.append(_features(features_of, shown, head))
        read += [item._replace(shown=None) for item in batch.items]
    order = torch.cat(indices)
    is_train = order < len(split.train)
    if (split.train and not is_train.any()) or is_train.all():
        raise EquicliError(f"{samples[0].path.parent}: too few readable images to train and to validate on.")
    _check_sizes(read, [samples[i] for i in order.tolist()])
    kept, aspects = torch.stack([item.kept for item in read]), torch.tensor([item.aspect for item in read])

    def part(rows: Tensor) -> Resident:
        targets: list[Any] = [samples[i].target for i in order[rows].tolist()]
        return Resident(kept[rows].to(device), aspects[rows], targets)

    return TrainingImages(
        train=part(is_train),
        validation=part(~is_train),
        samples=order,
        features=torch.cat(features) if features else None,
        unreadable=loader.unreadable,
    )


def _check_sizes(read: Sequence[_Prepared], samples: Sequence[Sample]) -> None:
    first = read[0].kept.shape
    for item, sample in zip(read, samples, strict=True):
        height, width = item.kept.shape[-2:]
        if item.kept.shape != first or height != width:
            raise EquicliError(
                f"{sample.path}: {width}x{height} pixels; training with the network's own loss (task_weight) takes "
                "square images of one size. Use --preprocess checkpoint with --image-size N."
            )


@torch.inference_mode()
def _features(network: nn.Module, images: Sequence[Tensor], head: str | None) -> Tensor:
    with head_inputs(network, head) as collected:
        for group in [torch.stack(list(images))] if len({i.shape for i in images}) == 1 else [i[None] for i in images]:
            network(group)
    return torch.cat(collected)
