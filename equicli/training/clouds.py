"""The clouds that training learns from: read and prepared once, kept in memory; and how they are varied."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from equicli.data.clouds.decode import CloudDecoder
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.folders import Split
from equicli.data.loading import Loader
from equicli.data.source import Resident
from equicli.progress import Progress
from equicli.training.images import TrainingImages, features_of_inputs

MAX_STRETCH = 1.25  # along the vertical, or about as little
JITTER, MOST_JITTER = 0.01, 0.05  # standard deviation and most of what points are moved by, of the unit sphere
LEAST_KEPT = 0.5  # of the points


def read_training_clouds(
    split: Split,
    preprocess: CloudPreprocess,
    *,
    features_of: nn.Module | None,
    head: str | None,
    turn_back: Callable[[Tensor], Tensor],
    device: torch.device,
    batch_size: int,
    decoder: CloudDecoder,
    strict: bool,
    progress: Progress,
) -> TrainingImages:
    """Open every training and validation cloud once; see `images.read_training_images`.

    Args:
        turn_back: brings prepared clouds of the folder, (b, n, 3), to the pose that the network expects.
    """
    samples = split.train + split.validation
    loaders = [
        Loader(part, preprocess, batch_size, decoder=decoder, strict=strict) for part in (split.train, split.validation)
    ]
    first_of = (0, len(split.train))
    batches = ((batch, first) for loader, first in zip(loaders, first_of, strict=True) for batch in loader)
    indices: list[Tensor] = []
    clouds: list[Tensor] = []
    features: list[Tensor] = []
    for batch, first in progress.track(batches, "reading clouds", sum(map(len, loaders))):
        indices.append(batch.indices + first)
        read = torch.stack(batch.items).to(device)
        if features_of is not None:
            features.append(features_of_inputs(features_of, turn_back(read), head))
        clouds.append(read)
    order, kept = torch.cat(indices), torch.cat(clouds)

    def part(rows: Tensor) -> Resident:
        targets: list[Any] = [samples[i].target for i in order[rows].tolist()]
        return Resident(kept[rows.to(device)], torch.ones(int(rows.sum())), targets)

    is_train = order < len(split.train)
    return TrainingImages(
        train=part(is_train),
        validation=part(~is_train),
        samples=order,
        features=torch.cat(features) if features else None,
        unreadable={path: why for loader in loaders for path, why in loader.unreadable.items()},
        fingerprints={path: of for loader in loaders for path, of in loader.fingerprints.items()},
    )


def vary_clouds(clouds: Tensor, generator: torch.Generator, *, mirror: bool) -> Tensor:
    """Stretch clouds along the vertical, jitter their points, leave some out and mirror some: the poses stay.

    Args:
        clouds: (b, n, 3), upright as the folder's are.
        mirror: mirror half of them, left-right.

    Returns:
        (b, m, 3), centred and scaled, with m between LEAST_KEPT · n and n. Points are left out, not replaced by copies
        of one: copies bend the moments that poses are found by, and none are there in use.
    """
    b, n, _ = clouds.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).to(clouds)

    stretch = torch.ones(b, 1, 3).to(clouds)
    stretch[..., 2] = MAX_STRETCH ** (2 * uniform(b, 1) - 1)
    if mirror:
        stretch[..., 0] = 1 - 2 * (uniform(b, 1) < 0.5).to(clouds)
    share = LEAST_KEPT + (1 - LEAST_KEPT) * torch.rand((), generator=generator).item()
    kept = torch.randperm(n, generator=generator)[: max(1, round(share * n))].to(clouds.device)
    noise = JITTER * torch.randn(b, len(kept), 3, generator=generator).to(clouds)
    varied = clouds[:, kept] * stretch + noise.clamp(-MOST_JITTER, MOST_JITTER)
    varied = varied - varied.mean(dim=1, keepdim=True)
    scaled: Tensor = varied / varied.norm(dim=2).amax(dim=1).clamp(min=1e-6)[:, None, None]
    return scaled
