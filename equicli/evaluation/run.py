"""From an adapted model and images to the metrics document."""

import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import equicli
from equicli.adapted import AdaptedModel
from equicli.artifact import ModelConfig
from equicli.data.loading import Batch, Loader, Preloaded
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.cost import added_parameters, relative_time
from equicli.evaluation.evaluate import SYSTEMS, Evaluation, evaluate
from equicli.evaluation.metrics import metrics_document
from equicli.groups import PlanarGroup
from equicli.progress import Progress

COST_BATCH = 16


def evaluate_images(
    model: AdaptedModel,
    config: ModelConfig,
    images: Loader | Preloaded,
    targets: Tensor,
    elements: PlanarGroup,
    *,
    split: str,
    seed: int,
    device: torch.device,
    precision: str,
    progress: Progress,
) -> dict[str, Any]:
    """Evaluate on image files or on images in memory, and build the metrics document.

    Args:
        images: turned by `elements` as files where a loader was made with these as `rotations`, else here as tensors.
        targets: int64, the right output for each sample; -1 throughout where there are no labels.
        split: which images these are, for the document.
    """
    evaluation, sample = count_images(
        model, config, images, targets, elements, device=device, precision=precision, progress=progress
    )
    for path, why in images.unreadable.items():
        progress.say(f"skipped {path}: {why}")
    cost = {
        "added_parameters": added_parameters(model),
        "relative_time": relative_time(model, sample, precision),
    }
    return metrics_document(
        evaluation,
        rotate="file" if images.rotations is not None else "input",
        split=split,
        prior=config.prior,
        passes=model.passes,
        finds_poses=model.finds_poses,
        trained_base=config.trained_base,
        cost=cost,
        unreadable=len(images.unreadable),
        provenance=provenance(config, seed, device),
    )


def count_images(
    model: AdaptedModel,
    config: ModelConfig,
    images: Loader | Preloaded,
    targets: Tensor,
    elements: PlanarGroup,
    *,
    systems: Sequence[str] = SYSTEMS,
    cache: OutputCache | None = None,
    label: str = "evaluating",
    device: torch.device,
    precision: str,
    progress: Progress,
) -> tuple[Evaluation, Tensor]:
    """Evaluate; return the first images, too, normalized and on the device, for the cost to be measured on.

    Args:
        systems, targets, cache: see `evaluate`; images: see `evaluate_images`.
        label: what progress calls this.
    """
    sample: list[Tensor] = []
    normalization = config.preprocess.normalization

    def batches() -> Iterator[Batch]:
        for batch in progress.track(images, label, len(images)):
            if not sample:
                sample.append(normalization(batch.images[:COST_BATCH, 0].to(device)))
            yield batch

    evaluation = evaluate(
        model,
        batches(),
        targets,
        normalization,
        elements,
        prior=config.prior,
        systems=systems,
        turned=images.rotations is not None,
        cache=cache,
        device=device,
        precision=precision,
    )
    return evaluation, sample[0]


def provenance(config: ModelConfig, seed: int, device: torch.device) -> dict[str, Any]:
    command = ["equicli", *sys.argv[1:]] if Path(sys.argv[0]).stem in ("equicli", "__main__") else sys.argv
    return {
        "model": config.provenance["model"],
        "revision": config.provenance.get("revision"),
        "sha256": config.provenance.get("sha256"),
        "command": shlex.join(command),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "versions": {
            "equicli": equicli.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "timm")},
        },
    }
