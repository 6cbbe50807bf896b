"""What one trained system gets right on the test images, and what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equicli import artifact
from equicli.adapted import AdaptedModel
from equicli.comparison.systems import ORACLE, Part
from equicli.config import AdaptConfig
from equicli.data.loading import Loader
from equicli.evaluation.alignment import align
from equicli.evaluation.cache import Caches
from equicli.evaluation.cost import added_parameters, relative_cost
from equicli.evaluation.evaluate import Evaluation
from equicli.evaluation.images import EvaluationImages
from equicli.evaluation.metrics import accuracies, equivariance
from equicli.evaluation.run import count_images
from equicli.groups import PlanarGroup, as_finite, parse_group
from equicli.prediction.load import load_network
from equicli.progress import Progress
from equicli.runs import Run
from equicli.training.adapt import tell_unreadable

BATCH = 64


@dataclass(frozen=True)
class Counted:
    """Of one system with one seed: hits on every test image and turn, bool (n, |R|), and the numbers of `rows.NUMBERS`.

    settings: see `Part`. per_class: of the class's images, `n`, accuracies and alignment.
    """

    system: str
    settings: tuple[str, ...]
    seed: int
    hits: Tensor
    numbers: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]]


def count(
    part: Part,
    run: Run,
    images: EvaluationImages,
    elements: PlanarGroup,
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
    model = artifact.load(run.model, network=_own_network(part.config))
    alone = part.system == "vanilla"
    turned = elements if part.config.evaluation.rotate == "file" else None
    loader = Loader(images.samples, config.preprocess, BATCH, strict=part.config.strict, rotations=turned)
    # A network that was trained is met once; and off the grid views are too many to keep.
    shared = not config.trained_base and elements.exact and as_finite(parse_group(config.group)).exact
    cache = None if not shared else caches.of(config.prediction_network, model.prediction_network)
    found, sample = count_images(
        model,
        config,
        loader,
        images.targets(config),
        elements,
        systems=("adapted", "oracle") if alone else ("adapted",),
        cache=cache,
        label=f"evaluating {part.folder}",
        device=device,
        precision="fp32",
        progress=progress,
    )
    if alone:
        tell_unreadable({str(path): why for path, why in loader.unreadable.items()}, progress)
    log = run.read_log()
    cost = {
        "trainable_parameters": next((e["trainable_parameters"] for e in log if "trainable_parameters" in e), 0),
        "added_parameters": added_parameters(model),
        "training_seconds": sum(entry["seconds"] for entry in log if "epoch" in entry),
        "passes": model.passes,
        "relative_cost": relative_cost(model, sample, "fp32"),
    }
    hits, numbers = found.correct["adapted"], _numbers(found, model, config) | cost
    per_class = _per_class(found, model, config)
    counted = [Counted(part.system, part.settings, part.config.seed, hits, numbers, per_class)]
    if alone:
        free = dict.fromkeys(cost, 0) | {"passes": 1, "relative_cost": None}
        told = {**accuracies(found, ORACLE), **free}
        counted.append(Counted(ORACLE, (), part.config.seed, found.correct[ORACLE], told, {}))
    return counted, found


def _own_network(config: AdaptConfig) -> nn.Module | None:
    """A new prediction network where it is the user's own code, which artifacts do not hold."""
    if not config.network.model.startswith("python:"):
        return None
    return load_network(config.network.model, arguments=config.network.model_args).network


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
