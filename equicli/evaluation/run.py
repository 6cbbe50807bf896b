"""From an adapted model and image files to the metrics document."""

import platform
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from equicli.adapted import AdaptedModel
from equicli.data.folders import Sample
from equicli.data.loading import tell_unreadable
from equicli.data.reencode import NONE
from equicli.errors import EquicliError, is_out_of_memory
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.cost import cost_of
from equicli.evaluation.evaluate import Evaluation, InputBatch, record_systems
from equicli.evaluation.images import Batches, is_elsewhere, names_of
from equicli.evaluation.lost import lost_most
from equicli.evaluation.metrics import metrics_document
from equicli.evaluation.warnings import near_chance_of, warnings_of
from equicli.files import from_here
from equicli.groups import Turns
from equicli.model_config import ModelConfig
from equicli.prediction.inputs import Inputs
from equicli.progress import Progress
from equicli.tasks.task import Task
from equicli.version import VERSION

COST_BATCH = 16


def evaluate_images(
    model: AdaptedModel,
    config: ModelConfig,
    task: Task,
    batches: Batches,
    targets: Sequence[Any] | None,
    elements: Turns,
    *,
    split: str,
    seed: int,
    device: torch.device,
    precision: str,
    of: int | None = None,
    seen: Collection[bytes] | None = None,
    root: Path = Path(),
    folder: Sequence[Sample] = (),
    overrides: Mapping[str, Any] | None = None,
    latest: Path | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Evaluate on image files, and build the metrics document.

    Args:
        targets: what is right for each sample; None where nothing says.
        split, of, overrides: which images these are, and how they are prepared; see `metrics_document`.
        seen: fingerprints of the pictures that training saw; None where nothing says, or where all are known to be.
        root: the dataset folder. folder: all samples of the folder that these are from.
        latest: the run that was meant where the command names none.
    """
    systems = ("adapted", *task.baselines)
    evaluation, sample = record_images(
        model,
        config,
        task,
        batches,
        targets,
        elements,
        systems=systems,
        device=device,
        precision=precision,
        progress=progress,
    )
    tell_unreadable(batches.unreadable, progress, task.things)
    if task.has_network:
        progress.say("measuring time: canonicalizer and network in turns")
    cost = cost_of(model, sample, precision)
    count = None if seen is None else batches.count_seen(seen)
    names = names_of(batches.samples, root)
    pretrained = bool(config.canonicalizer.spec.get("provenance"))
    warnings = warnings_of(evaluation, task, config.labels, cost, config.prior, count, pretrained=pretrained)
    return metrics_document(
        evaluation,
        task,
        labels=config.labels,
        lost=lost_most(evaluation, task, names) if task.draws else (),
        rotate=batches.rotate,
        reencode=str(batches.reencode or NONE),
        split=split,
        prior=config.prior,
        trained_base=config.trained_base,
        cost=cost,
        warnings=[task.said(line) for line in warnings],
        near_chance=near_chance_of(evaluation, task, config.prior),
        of=of,
        seen=count,
        elsewhere=bool(seen and model.canonicalizer.learns and count == 0 and is_elsewhere(folder, seen)),
        overrides=overrides,
        precision=precision,
        unreadable=len(batches.unreadable),
        provenance=provenance(config, seed, device, latest),
    )


def record_images(
    model: AdaptedModel,
    config: ModelConfig,
    task: Task,
    batches: Batches,
    targets: Sequence[Any] | None,
    elements: Turns,
    *,
    systems: Sequence[str],
    cache: OutputCache | None = None,
    label: str = "evaluating",
    device: torch.device,
    precision: str,
    progress: Progress,
) -> tuple[Evaluation, Inputs]:
    """Evaluate; return some inputs, too, preprocessed and on the device, for the cost to be measured on.

    Args:
        targets, systems, cache: see `record_systems`.
        label: what progress calls this.
    """
    sample: list[torch.Tensor] = []
    # From all over: a folder's first pictures are of one class, and a canonicalizer may look twice at some.
    wanted = {round(i * len(batches.samples) / COST_BATCH) for i in range(COST_BATCH)}

    def tracked() -> Iterator[InputBatch]:
        read = progress.track(batches, label, len(batches.samples), size=lambda batch: len(batch.indices))
        for indices, inputs in read:
            right = None if targets is None else [targets[i] for i in indices.tolist()]
            batch = InputBatch(indices, task.prompted(inputs, right))
            chosen = [row for row, index in enumerate(indices.tolist()) if index in wanted] or [0] * (not sample)
            if chosen:
                shown = batch.inputs.at(model.canonicalizer.group, None)
                sample.extend(shown[row] for row in chosen)
            yield batch

    try:
        evaluation = record_systems(
            model,
            task,
            tracked(),
            targets,
            elements,
            prior=config.prior,
            systems=systems,
            cache=cache,
            reencode=batches.reencode,
            device=device,
            precision=precision,
        )
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise EquicliError("not enough memory for a batch: lower --batch-size, or --max-pixels.") from error
    return evaluation, model.tensors(_together(sample))


def _together(sample: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """Inputs as one batch; as a list where they are rectangles or of several sizes, which are turned one by one."""
    first = sample[0].shape
    alike = all(one.shape == first for one in sample) and (len(first) == 2 or first[-1] == first[-2])
    return torch.stack(list(sample)) if alike else list(sample)


def provenance(config: ModelConfig, seed: int, device: torch.device, latest: Path | None = None) -> dict[str, Any]:
    """Where the numbers of a document are from.

    Args:
        latest: the run that was meant where the command names none; by then another may be the latest.
    """
    command = ["equicli", *sys.argv[1:]] if Path(sys.argv[0]).stem in ("equicli", "__main__") else sys.argv
    if latest is not None and command[1:2] == ["evaluate"]:
        command = [*command[:2], str(from_here(latest)), *command[2:]]
    return {
        "model": config.provenance["model"],
        "revision": config.provenance.get("revision"),
        "sha256": config.provenance.get("sha256"),
        "command": shlex.join(command),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "versions": {
            "equicli": VERSION,
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "torchvision", "timm")},
        },
    }
