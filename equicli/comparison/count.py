"""What one trained system gets right on the test images, and what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equicli import artifact
from equicli.adapted import AdaptedModel
from equicli.comparison.remember import Memories, Memory, remembering
from equicli.comparison.systems import ORACLE, Part
from equicli.data.folders import Sample
from equicli.data.loading import Loader
from equicli.evaluation.alignment import align
from equicli.evaluation.cost import added_parameters, relative_cost
from equicli.evaluation.evaluate import Evaluation
from equicli.evaluation.metrics import accuracies, equivariance
from equicli.evaluation.run import count_images
from equicli.groups import PlanarGroup
from equicli.progress import Progress
from equicli.runs import Run
from equicli.training.adapt import tell_unreadable

BATCH = 64


@dataclass(frozen=True)
class Counted:
    """One part's hits on every test image and turn, (n, |R|), and its numbers, by the names in `rows.NUMBERS`."""

    part: Part
    row: str
    hits: Tensor
    numbers: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]]


def count(
    part: Part,
    run: Run,
    samples: Sequence[Sample],
    targets: Tensor,
    elements: PlanarGroup,
    *,
    network: nn.Module | None,
    memories: Memories,
    device: torch.device,
    progress: Progress,
) -> tuple[list[Counted], Evaluation]:
    """Evaluate one trained part; the network alone also gives the oracle.

    Args:
        samples: the test images; targets: int64, the right output of each, -1 throughout without labels.
        network: the prediction network, where it is the user's own code.
        memories: of other parts, what their networks returned.
    """
    config = artifact.read_config(run.model)
    model = artifact.load(run.model, network=network)
    systems = ("adapted", "oracle") if part.system == "vanilla" else ("adapted",)
    loader = Loader(samples, config.preprocess, BATCH, strict=part.config.strict)
    network = model.prediction_network
    # A network that was trained is met once.
    memory = Memory() if config.trained_base else memories.of(config.prediction_network, network)
    with remembering(network, memory):
        found, sample = count_images(
            model,
            config,
            loader,
            targets,
            elements,
            systems=systems,
            label=f"evaluating {part.folder}",
            device=device,
            precision="fp32",
            progress=progress,
        )
    if part.system == "vanilla":
        tell_unreadable({str(path): why for path, why in loader.unreadable.items()}, progress)
    log = run.read_log()
    cost = {
        "trainable_parameters": next((e["trainable_parameters"] for e in log if "trainable_parameters" in e), 0),
        "added_parameters": added_parameters(model),
        "training_seconds": sum(entry["seconds"] for entry in log if "epoch" in entry),
        "passes": model.passes,
        "relative_cost": relative_cost(model, sample, "fp32"),
    }
    counted = [
        Counted(
            part,
            part.row,
            found.correct["adapted"],
            _numbers(found, model, config) | cost,
            _per_class(found, model, config),
        )
    ]
    if "oracle" in systems:
        free = dict.fromkeys(cost, 0) | {"passes": 1, "relative_cost": None}
        counted.append(Counted(part, ORACLE, found.correct["oracle"], {**accuracies(found, "oracle"), **free}, {}))
    return counted, found


def _numbers(found: Evaluation, model: AdaptedModel, config: artifact.ModelConfig) -> dict[str, float | None]:
    numbers: dict[str, float | None] = {**accuracies(found, "adapted")}
    told = equivariance(found, config.prior)
    numbers["invariance_residual"] = told["invariance_residual"]
    if model.finds_poses:
        numbers["identity_rate"] = told["identity_rate"]
        numbers |= _alignment(found, torch.ones(len(found.targets), dtype=torch.bool), config)
    return numbers


def _alignment(found: Evaluation, rows: Tensor, config: artifact.ModelConfig) -> dict[str, float | None]:
    """The distances between prior and poses of some images; none where poses are no numbers."""
    if found.poses is None or not isinstance(found.group, PlanarGroup):
        return {}
    distances = align(found.group, found.poses[rows], config.prior)._asdict()
    return {name: None if value != value else value for name, value in distances.items()}  # NaN is no JSON


def _per_class(
    found: Evaluation, model: AdaptedModel, config: artifact.ModelConfig
) -> dict[str, dict[str, float | None]]:
    """By class: its test images, their accuracies and the alignment of their poses."""
    classes = {}
    for name, output in config.labels.items():
        rows = found.targets == output
        if not rows.any():
            continue
        hits = found.correct["adapted"][rows].double()
        numbers: dict[str, float | None] = {
            "n": int(rows.sum()),
            "acc": float(hits[:, 0].mean()),
            "avg_acc": float(hits.mean()),
        }
        classes[name] = numbers | (_alignment(found, rows, config) if model.finds_poses else {})
    return classes
