"""The first pass over the training images: decoded once, shrunk once, kept in memory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equicli.canonicalization.inputs import shrink
from equicli.data.folders import Split
from equicli.data.loading import Loader
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError
from equicli.prediction.head import head_inputs
from equicli.progress import Progress

# Validation images kept at full size for the report that closes a run, which passes each through the prediction network
# a few times. At 224 pixels they take 150 KB each.
REPORT_IMAGES = 200


@dataclass(frozen=True)
class TrainingImages:
    """All that training needs of the image files, so that none is opened again.

    train, validation: uint8 (n, 3, s, s), as small as the canonicalization network looks at them, if only it does.
    train_labels, validation_labels: int64 (n,), class folder indices; -1 where there are no labels.
    samples: int64 (n,), which of the split's training and validation samples these are, in this order.
    features: float32 (n, d), what reaches the prediction network's head, of the same; None unless asked.
    report, report_labels: some whole validation images, uint8 (at most REPORT_IMAGES, 3, h, w), and their labels.
    unreadable: files that were skipped, with the reason.
    """

    train: Tensor
    train_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    samples: Tensor
    features: Tensor | None
    report: Tensor
    report_labels: Tensor
    unreadable: dict[str, str]


def read_training_images(
    split: Split,
    preprocess: Preprocess,
    size: int | None,
    *,
    keep: bool,
    features_of: nn.Module | None,
    turn_back: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int,
    strict: bool,
    progress: Progress,
) -> TrainingImages:
    """Open every training and validation image once.

    Args:
        size: side in pixels that larger images are shrunk to; None keeps them whole.
        keep: whether training and validation images are wanted at all, beside those to report on.
        features_of: a prediction network whose last layer's inputs are to be collected.
        turn_back: brings images of the folder to the pose that this network expects.

    Raises:
        EquicliError: an image cannot be read (strict), none can, or images are not square.
    """
    samples = split.train + split.validation
    loader = Loader(samples, preprocess, batch_size, strict=strict)
    indices: list[Tensor] = []
    small: list[Tensor] = []
    features: list[Tensor] = []
    report: list[Tensor] = []
    reported = torch.zeros(len(samples), dtype=torch.bool)
    reported[
        len(split.train)
        + torch.randperm(len(split.validation), generator=torch.Generator().manual_seed(0))[:REPORT_IMAGES]
    ] = True
    for batch in progress.track(loader, "reading images", len(loader)):
        images = batch.images[:, 0]  # (b, 3, h, w)
        indices.append(batch.indices)
        small.append(_small(images, size) if keep else images[..., :0, :0])
        report.append(images[reported[batch.indices]])
        if features_of is not None:
            features.append(_features(features_of, turn_back(preprocess.normalization(images.to(device)))))
    order = torch.cat(indices)
    labels = torch.tensor([-1 if s.label is None else s.label for s in samples])[order]
    all_small = torch.cat(small)
    is_train = order < len(split.train)
    if (split.train and not is_train.any()) or is_train.all():
        raise EquicliError(f"{samples[0].path.parent}: too few readable images to train and to validate on.")
    return TrainingImages(
        train=all_small[is_train].to(device),
        train_labels=labels[is_train],
        validation=all_small[~is_train].to(device),
        validation_labels=labels[~is_train],
        samples=order,
        features=torch.cat(features) if features else None,
        report=torch.cat(report),
        report_labels=labels[reported[order]],
        unreadable={str(path): reason for path, reason in loader.unreadable.items()},
    )


def _small(images: Tensor, size: int | None) -> Tensor:
    if size is None or images.shape[-1] <= size:
        return images
    return shrink(images.float(), size).round().clamp(0, 255).to(torch.uint8)


@torch.inference_mode()
def _features(network: nn.Module, images: Tensor) -> Tensor:
    with head_inputs(network) as collected:
        network(images)
    return collected[0]
