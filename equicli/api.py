"""`equicli.adapt`: a network of your own made equivariant in Python, without a run folder."""

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Canonicalizer, Context
from equicli.canonicalization.prior import Prior
from equicli.canonicalization.registry import REGISTRY
from equicli.config import AdaptConfig, build_config
from equicli.data.decode import Picture, read_picture
from equicli.data.folders import open_folder
from equicli.data.layouts import SplitNames
from equicli.data.normalization import IMAGENET, Normalization
from equicli.data.preprocess import Preprocess
from equicli.data.small_view import SmallView
from equicli.data.source import Resident
from equicli.devices import find_device
from equicli.errors import EquicliError, UsageError, counted
from equicli.groups import parse_group
from equicli.prediction.no_network import NONE
from equicli.prediction.signature import CLASSIFIER, Signature
from equicli.progress import Progress, Silent
from equicli.training.gate import calibrate
from equicli.training.images import shrunk
from equicli.training.loop import fit
from equicli.training.objective import Objective
from equicli.tree import merge

# Sections and keys of a configuration that mean something without a run folder.
SETTINGS = ("training", "canonicalizer", "prior", "padding", "seed")
VALIDATION = 0.1  # share of the pictures that chooses the epoch


def adapt(
    model: nn.Module,
    images: str | Path | Sequence[Picture] | DataLoader[Any],
    group: str = "c4",
    *,
    size: int | None = None,
    mean: Sequence[float] = IMAGENET.mean,
    std: Sequence[float] = IMAGENET.std,
    preprocess: Preprocess | None = None,
    signature: Signature = CLASSIFIER,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> AdaptedModel:
    """Train a canonicalizer in front of your own network, and return both as one module in eval mode.

    Nothing is written, and random generators are left as they were. Your network is not copied: it is put
    on the device, in eval mode, and its parameters want no gradient from then on; no number in it changes.

    Args:
        model: takes images (b, 3, h, w), normalized by mean and std.
        images: upright pictures, hundreds or more, without labels: a folder; a list of paths, PIL images or arrays; or
            a DataLoader of batches of images (b, 3, h, w), uint8 or floats in [0, 1], with labels or without. None of
            them is kept but in the canonicalizer's small view.
        group: the turns to undo: c4, c8, d4, so2 and the like.
        size: side in pixels of the network's input; `predict` resizes and crops pictures to it. None: as they are.
        mean, std: of each channel of images in [0, 1].
        preprocess: how `predict` prepares pictures, in place of size, mean and std.
        signature: what the network takes and returns, where it is no classifier.
        settings: of training and canonicalizer, prior, padding and seed, as of a recipe, such as
            {"epochs": 5, "canonicalizer.network": "conv"}.
        device: auto, cpu, cuda, cuda:N or mps.
        progress: is told what is done; None is silent, but for a warning where no pretrained network can be had for the
            canonicalizer.

    Raises:
        UsageError: no such group or setting, or images of another kind. EquicliError: there are too few pictures.
    """
    told, chosen = progress or Silent(), find_device(device)
    _check_settings(settings or {})
    config = build_config({"data": ".", "model": NONE, "group": group}, _pairs(settings or {}), None)
    training, turns = config.training, parse_group(config.group)
    prior = Prior.of(config.prior, turns)
    if training.task_weight or training.train_base:
        raise UsageError("task_weight, train_base: need labels and a run folder; use `equicli adapt`.")
    prepare = preprocess or Preprocess(size, size, "bilinear", Normalization(tuple(mean), tuple(std)))  # type: ignore[arg-type]
    devices = [chosen] if chosen.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        kind = REGISTRY[config.canonicalizer.kind]
        canonicalizer = kind.create(config.canonicalizer, Context(turns, prepare.normalization.rgb())).to(chosen)
        for remark in canonicalizer.remarks:
            told.say(remark)
            if progress is None and _starts_untrained(config, canonicalizer):
                warnings.warn(remark, stacklevel=2)
        adapted = AdaptedModel(canonicalizer, model.to(chosen), prepare, padding=config.padding, signature=signature)
        looks = None
        if kind.learns and training.epochs:
            train, validation = _sources(images, canonicalizer.view, config.seed, chosen, told)
            objective = Objective.of(training, prior, config.padding, None)
            fit(
                canonicalizer,
                train,
                validation,
                objective,
                training,
                config.seed,
                state=None,
                log=_ignore,
                progress=told,
            )
            looks = validation.looks
        adapted.canonicalizer = canonicalizer.ship()
        if looks is not None and kind.finds_poses:
            adapted.policy = calibrate(adapted.canonicalizer, looks, prior)
    return adapted.to(chosen).requires_grad_(False).eval()


def _starts_untrained(config: AdaptConfig, canonicalizer: Canonicalizer) -> bool:
    """Whether the best pretrained network was asked for and none can be had, which must not go unheard."""
    asked = getattr(config.canonicalizer, "network", None)
    return asked == "auto" and not getattr(canonicalizer.spec, "provenance", None)


def _pairs(settings: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def _ignore(entry: Mapping[str, Any]) -> None:
    """Training's log is for run folders."""


def _check_settings(settings: Mapping[str, Any]) -> None:
    """
    Raises:
        UsageError: one is of what this call has arguments of its own for, or does not do.
    """
    given = merge(None, _pairs(settings)).values
    other = [key for key in given if key in AdaptConfig.model_fields and key not in SETTINGS]
    if other:
        raise UsageError(f"settings: takes those of {', '.join(SETTINGS)}, and not of {other[0]}; leave it out.")


def _sources(
    images: Any, view: SmallView, seed: int, device: torch.device, progress: Progress
) -> tuple[Resident, Resident]:
    """Training and validation images as a canonicalizer sees them."""
    kept, aspects, looks = [], [], []
    draw = random.Random(seed)
    for number, picture in enumerate(_pictures(images, progress)):
        small, aspect = shrunk(picture, view)
        kept.append(small)
        aspects.append(aspect)
        # Unrounded, as `predict` will see them: of validation pictures alone, as they take four times the memory.
        looks.append(view.of_picture(picture) if number == 0 or draw.random() < VALIDATION else None)
    if len(kept) < 2:
        raise EquicliError(f"images: {counted(len(kept), 'pictures')}; give two or more, hundreds to learn from.")
    pixels, widths = torch.stack(kept), torch.tensor(aspects)
    chosen = torch.tensor([look is not None for look in looks])

    def part(rows: Tensor, seen: Tensor | None = None) -> Resident:
        return Resident(pixels[rows].to(device), widths[rows], [None] * int(rows.sum()), seen)

    return part(~chosen), part(chosen, torch.stack([look for look in looks if look is not None]).to(device))


def _pictures(images: Any, progress: Progress) -> Iterator[Tensor]:
    """Pictures, uint8 (3, h, w), one by one."""
    if isinstance(images, DataLoader):
        for batch in images:
            yield from _of_batch(batch)
        return
    if isinstance(images, Tensor | np.ndarray | Image.Image) or not isinstance(images, Iterable | Path):
        raise UsageError(f"images: a folder, a list of pictures or a DataLoader, not {type(images).__name__}.")
    if isinstance(images, str | Path):
        folder = open_folder(Path(images), SplitNames())
        folder.tell(progress, strict=False)
        images = [sample.path for sample in folder.train]
    for picture in images:
        yield read_picture(picture)


def _of_batch(batch: Any) -> Iterator[Tensor]:
    while isinstance(batch, list | tuple) and batch:
        batch = batch[0]
    if isinstance(batch, Mapping):
        batch = next((value for value in batch.values() if isinstance(value, Tensor) and value.ndim == 4), None)
    if not isinstance(batch, Tensor) or batch.ndim != 4 or batch.shape[1] != 3:
        raise UsageError("images: the DataLoader's batches are no images (b, 3, h, w).")
    if batch.is_floating_point():
        low, high = float(batch.min()), float(batch.max())
        if low < 0 or high > 1:
            raise UsageError(f"images: floats from {low:.3g} to {high:.3g}; give them in [0, 1], not normalized.")
        batch = (batch * 255).round().to(torch.uint8)
    yield from batch
