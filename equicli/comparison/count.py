"""What one trained system gets right on the test images, and what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equicli import artifact
from equicli.comparison.systems import ORACLE, Part
from equicli.data.loading import tell_unreadable
from equicli.data.reencode import find_encoding
from equicli.evaluation.alignment import align
from equicli.evaluation.cache import Caches
from equicli.evaluation.cost import added_parameters, relative_cost, relative_operations
from equicli.evaluation.evaluate import Evaluation
from equicli.evaluation.images import Batches, EvaluationSamples
from equicli.evaluation.metrics import equivariance
from equicli.evaluation.run import record_images
from equicli.groups import PlanarGroup, Turns, is_finite, parse_group
from equicli.model_config import ModelConfig
from equicli.progress import Progress
from equicli.runs import Run
from equicli.tasks.task import Task
from equicli.training.start import load_own_code

BATCH = 64


@dataclass(frozen=True)
class Counted:
    """Of one system with one seed: its score on every test sample and turn, (n, |R|), and the numbers of a row.

    settings: see `Part`. intervals: of numbers, by their names and `_ci`.
    per_class: of the class's samples, `n`, scores and alignment.
    over: the turns that are averaged over; None: all.
    """

    system: str
    settings: tuple[str, ...]
    seed: int
    hits: Tensor
    numbers: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    per_class: Mapping[str, Mapping[str, float | None]]
    over: range | None = None

    @property
    def averaged(self) -> Tensor:
        """The scores that the group-averaged one is the mean of."""
        return self.hits if self.over is None else self.hits[:, list(self.over)]


def count(
    part: Part,
    run: Run,
    task: Task,
    images: EvaluationSamples,
    elements: Turns,
    caches: Caches,
    *,
    device: torch.device,
    progress: Progress,
) -> tuple[list[Counted], Evaluation]:
    """Evaluate one trained part; the network alone also gives the oracle.

    Args:
        caches: what the networks of other parts returned.
    """
    config = artifact.read_config(run.model)
    model = artifact.load(run.model, network=load_own_code(part.config.network))
    alone = part.system == "vanilla"
    said = part.config
    batches = Batches(
        model,
        images.samples,
        1 if model.signature.lists else BATCH,
        said.evaluation.rotate,
        reencode=find_encoding(said.evaluation.reencode, said.evaluation.rotate),
        max_pixels=said.max_pixels,
        strict=said.strict,
    )
    # A network that was trained is met once; and off the grid views are too many to keep.
    group = parse_group(config.group)
    shared = not config.trained_base and elements.exact and is_finite(group) and group.exact
    cache = None if not shared else caches.of(config.prediction_network, model.prediction_network)
    found, sample = record_images(
        model,
        config,
        task,
        batches,
        task.targets(images.samples, images.data, config.labels),
        elements,
        systems=("adapted", "oracle") if alone else ("adapted",),
        cache=cache,
        label=f"evaluating {part.folder}",
        device=device,
        precision="fp32",
        progress=progress,
    )
    if alone:
        tell_unreadable(batches.unreadable, progress)
    log = run.read_log()
    timed = relative_cost(model, sample, "fp32")
    cost = {
        "trainable_parameters": next((e["trainable_parameters"] for e in log if "trainable_parameters" in e), 0),
        "added_parameters": added_parameters(model),
        "training_seconds": sum(entry["seconds"] for entry in log if "epoch" in entry),
        "passes": found.passes["adapted"],
        "relative_cost": timed.value,
        "relative_cost_low": timed.low,
        "relative_cost_high": timed.high,
        "relative_flops": relative_operations(model, sample),
    }
    measured = task.measure(found.records["adapted"], found.elements)
    hits, numbers = found.records["adapted"][task.score], _numbers(measured, found, config) | cost
    per_class = _per_class(found, task, config)
    over = None if isinstance(elements, PlanarGroup) else elements.scenarios[elements.name]
    intervals = _intervals(measured)
    counted = [Counted(part.system, part.settings, part.config.seed, hits, numbers, intervals, per_class, over)]
    if alone:
        free = {name: None if name.startswith("relative") else 0 for name in cost} | {"passes": 1}
        records = found.records[ORACLE]
        measured = task.measure(records, elements)
        told, intervals = {**_plain(measured), **free}, _intervals(measured)
        counted.append(Counted(ORACLE, (), part.config.seed, records[task.score], told, intervals, {}, over))
    return counted, found


def _numbers(measured: Mapping[str, Any], found: Evaluation, config: ModelConfig) -> dict[str, float | None]:
    numbers: dict[str, float | None] = _plain(measured)
    told = equivariance(found, config.prior)
    numbers["invariance_residual"] = told["invariance_residual"]
    if found.found is not None:
        numbers["identity_rate"] = told["identity_rate"]
        numbers |= _alignment(found, torch.ones(found.n, dtype=torch.bool), config)
    return numbers


def _plain(measured: Mapping[str, Any]) -> dict[str, float | None]:
    """The single numbers of a system's metrics."""
    return {name: value for name, value in measured.items() if isinstance(value, float)}


def _intervals(measured: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: value for name, value in measured.items() if name.endswith("_ci") and value is not None}


def _alignment(found: Evaluation, rows: Tensor, config: ModelConfig) -> dict[str, float | None]:
    """The distances between prior and poses of some images; none where there are none, or they are no numbers."""
    if found.found is None or found.found.poses is None or not isinstance(found.group, PlanarGroup):
        return {}
    distances = align(found.group, found.found.poses[rows], config.prior)._asdict()
    return {name: None if value != value else value for name, value in distances.items()}  # NaN is no JSON


def _per_class(found: Evaluation, task: Task, config: ModelConfig) -> dict[str, dict[str, float | None]]:
    """By class: its test images, their scores and the alignment of their poses."""
    records = found.records["adapted"]
    own = task.per_class(records, config.labels)
    classes: dict[str, dict[str, float | None]] = {}
    for name, rows in task.groups_of(records, config.labels).items():
        scores = records[task.score][rows].double()
        classes[name] = {
            "n": int(rows.sum()),
            task.score: float(scores[:, 0].mean()),
            f"avg_{task.score}": float(scores.mean()),
            **own.get(name, {}),
            **_alignment(found, rows, config),
        }
    return classes
