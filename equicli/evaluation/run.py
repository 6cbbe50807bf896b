"""From an adapted model and images to the metrics document."""

import platform
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import equicli
from equicli.adapted import AdaptedModel
from equicli.artifact import ModelConfig
from equicli.data.folders import Sample
from equicli.data.loading import Batch, Loader
from equicli.evaluation.cost import added_parameters, relative_time
from equicli.evaluation.evaluate import evaluate
from equicli.evaluation.metrics import metrics_document
from equicli.groups import PlanarGroup
from equicli.progress import Progress

COST_BATCH = 16


def evaluate_files(
    model: AdaptedModel,
    config: ModelConfig,
    samples: list[Sample],
    targets: Tensor,
    elements: PlanarGroup,
    *,
    rotate: str,
    split: str,
    seed: int,
    batch_size: int,
    device: torch.device,
    precision: str,
    strict: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Evaluate on image files; see `evaluate` for targets and elements.

    Args:
        rotate: `input` turns the preprocessed tensor (the papers' protocol), `file` the decoded picture.
    """
    rotations = elements if rotate == "file" else None
    loader = Loader(samples, config.preprocess, batch_size, strict=strict, rotations=rotations)
    batches = _Probe(progress.track(loader, "evaluating", len(loader)))
    evaluation = evaluate(
        model, batches, targets, config.preprocess.normalization, elements, device=device, precision=precision
    )
    for path, reason in loader.unreadable.items():
        progress.say(f"skipped {path}: {reason}")
    return metrics_document(
        evaluation,
        rotate=rotate,
        split=split,
        poses=config.poses,
        cost=_cost(model, config, batches.first, device, precision),
        unreadable=len(loader.unreadable),
        provenance=_provenance(config, seed, device),
    )


def evaluate_tensor(
    model: AdaptedModel,
    config: ModelConfig,
    images: Tensor,
    targets: Tensor,
    elements: PlanarGroup,
    *,
    seed: int,
    batch_size: int,
    device: torch.device,
    precision: str,
    progress: Progress,
) -> dict[str, Any]:
    """Evaluate on validation images that are in memory, uint8 (n, 3, h, w)."""
    indices = torch.arange(len(images)).split(batch_size)
    batches = progress.track((Batch(i, images[i][:, None]) for i in indices), "evaluating", len(indices))
    evaluation = evaluate(
        model, batches, targets, config.preprocess.normalization, elements, device=device, precision=precision
    )
    return metrics_document(
        evaluation,
        rotate="input",
        split="validation",
        poses=config.poses,
        cost=_cost(model, config, images[:batch_size], device, precision),
        unreadable=0,
        provenance=_provenance(config, seed, device),
    )


class _Probe:
    """Passes batches through and remembers the first one's images, for the cost to be measured on."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self.first: Tensor = torch.empty(0)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            if not len(self.first):
                self.first = batch.images[:, 0]
            yield batch


def _cost(
    model: AdaptedModel, config: ModelConfig, images: Tensor, device: torch.device, precision: str
) -> dict[str, float]:
    normalized = config.preprocess.normalization(images[:COST_BATCH].to(device))
    return {
        "added_parameters": added_parameters(model),
        "relative_time": relative_time(model, normalized, precision),
    }


def _provenance(config: ModelConfig, seed: int, device: torch.device) -> dict[str, Any]:
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
