"""Train what must be trained, then evaluate every system on the same images, in one process."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from equicli import artifact
from equicli.adapted import AdaptedModel
from equicli.comparison.differences import Difference, difference
from equicli.comparison.systems import ORACLE, TITLES, Part
from equicli.comparison.warnings import warnings_of
from equicli.config import AdaptConfig
from equicli.data.folders import Sample
from equicli.data.loading import Loader
from equicli.errors import UsageError
from equicli.evaluation.alignment import align
from equicli.evaluation.cost import added_parameters, relative_cost
from equicli.evaluation.evaluate import Evaluation, evaluate
from equicli.evaluation.metrics import accuracies, equivariance
from equicli.evaluation.run import COST_BATCH, provenance
from equicli.groups import PlanarGroup
from equicli.progress import Progress
from equicli.runs import Run
from equicli.training import adapt as training
from equicli.training.adapt import tell_unreadable

SCHEMA = 1
BATCH = 64
# What a run counts; of several seeds their mean and standard deviation are told.
NUMBERS = (
    "acc avg_acc worst_acc top5_acc avg_top5_acc ece avg_ece invariance_residual identity_rate total_variation "
    "wasserstein mmd trainable_parameters added_parameters training_seconds passes relative_cost"
).split()


def train(part: Part, folder: Path, progress: Progress, *, overwrite: bool) -> Run:
    """Train one part, go on with it where it was interrupted, or take it as it is where it is finished.

    Args:
        overwrite: start anew where there is a run of other settings.

    Raises:
        UsageError: there is a run of other settings in its place.
    """
    run = Run(folder / part.folder)
    begun = run.settings.is_file()
    if begun and run.read_settings() != json.loads(part.config.model_dump_json()):
        if overwrite:
            run.remove()
            return train(part, folder, progress, overwrite=False)
        raise UsageError(f"{run.folder}: was made with other settings; name another --output, or add --overwrite.")
    if run.finished:
        progress.say(f"{part.folder}: finished before")
        return run
    progress.say(f"\n{part.folder}")
    training.adapt(part.config, run, progress, resume=begun)
    return run


@dataclass(frozen=True)
class Counted:
    """One part's hits on every test image and turn, (n, |R|), and its numbers, by the names in NUMBERS."""

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
    device: torch.device,
    progress: Progress,
) -> tuple[list[Counted], Evaluation]:
    """Evaluate one trained part; the network alone also gives the oracle.

    Args:
        samples: the test images; targets: int64, the right output of each, -1 throughout without labels.
        network: the prediction network, where it is the user's own code.
    """
    config = artifact.read_config(run.model)
    model = artifact.load(run.model, network=network)
    systems = ("adapted", "oracle") if part.system == "vanilla" else ("adapted",)
    loader = Loader(samples, config.preprocess, BATCH, strict=part.config.strict)
    first: list[Tensor] = []

    def batches() -> Iterable[Any]:
        for batch in progress.track(loader, f"evaluating {part.folder}", len(loader)):
            first.extend([batch.images[:COST_BATCH, 0]] if not first else [])
            yield batch

    normalization = config.preprocess.normalization
    found = evaluate(
        model, batches(), targets, normalization, elements, prior=config.prior, systems=systems, device=device
    )
    if part.system == "vanilla":
        tell_unreadable({str(path): why for path, why in loader.unreadable.items()}, progress)
    log = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    # Of an epoch that was begun twice the last one counts.
    seconds = {entry["epoch"]: entry["seconds"] for entry in log if "epoch" in entry}
    trainable = [entry["trainable_parameters"] for entry in log if "trainable_parameters" in entry]
    cost = {
        "trainable_parameters": trainable[-1] if trainable else 0,
        "added_parameters": added_parameters(model),
        "training_seconds": sum(seconds.values()),
        "passes": model.passes,
        "relative_cost": relative_cost(model, normalization(first[0].to(device)), "fp32"),
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


def compare(
    parts: Sequence[Part],
    folder: Path,
    elements: PlanarGroup,
    *,
    overwrite: bool,
    open_test: Callable[[Run], tuple[Sequence[Sample], tuple[str, ...]]],
    own_network: Callable[[AdaptConfig], nn.Module | None],
    device: torch.device,
    progress: Progress,
) -> dict[str, Any]:
    """Compare systems on the same test images.

    Args:
        parts: what to train; the first is the network alone.
        folder: where their runs lie, finished ones of an earlier call too.
        overwrite: start anew those of other settings.
        elements: R, the group that accuracies are averaged over.
        open_test: the test images of a run and the names of their classes.
        own_network: a new prediction network where it is the user's own code.

    Returns:
        The document of `compare.json`.
    """
    runs = [train(part, folder, progress, overwrite=overwrite) for part in parts]
    samples, classes = open_test(runs[0])
    counted: list[Counted] = []
    alone: Evaluation | None = None
    labels_of_alone: Mapping[str, int] = {}
    for part, run in zip(parts, runs, strict=True):
        labels = artifact.read_config(run.model).labels
        indices = torch.tensor([-1 if sample.label is None else sample.label for sample in samples])
        targets = torch.tensor([labels[name] for name in classes])[indices] if labels and classes else indices
        network = own_network(part.config)
        found, evaluation = count(
            part, run, samples, targets, elements, network=network, device=device, progress=progress
        )
        counted += found
        if alone is None:
            alone, labels_of_alone = evaluation, labels
    assert alone is not None
    rows = _rows(counted)
    return {
        "schema": SCHEMA,
        "model": parts[0].config.model,
        "data": parts[0].config.data,
        "group": parts[0].config.group,
        "elements": elements.name,
        "rotations": elements.n,
        "n": len(alone.predictions),
        "epochs": parts[0].config.epochs,
        "batch_size": parts[0].config.batch_size,
        "systems": rows,
        "warnings": warnings_of(alone, labels_of_alone, rows),
        "provenance": provenance(artifact.read_config(runs[0].model), parts[0].config.seed, device),
        "curves": [_curve(part, run) for part, run in zip(parts, runs, strict=True)],
    }


def _rows(counted: Sequence[Counted]) -> list[dict[str, Any]]:
    """One row a system: numbers by seed, their mean and standard deviation, and how far it is from the best."""
    names = list(dict.fromkeys(c.row for c in counted))
    names.sort(key=lambda name: list(TITLES).index(name.split()[0]))
    runs = {name: [c for c in counted if c.row == name] for name in names}
    # Of each image, the share of seeds and turns in which it was right.
    shares = {name: torch.stack([c.hits.double().mean(dim=1) for c in runs[name]]).mean(dim=0) for name in names}
    # A swept setting is no system of its own, and choosing the best of its values would be choosing by the test set.
    systems = [name for name in names if name != ORACLE and " " not in name] or names
    best = max(systems, key=lambda name: float(shares[name].mean()))
    rows = []
    for name in names:
        values = {number: [c.numbers.get(number) for c in runs[name]] for number in NUMBERS}
        known = {number: [v for v in found if v is not None] for number, found in values.items()}
        apart: Difference | None = None if name in (best, ORACLE) else difference(shares[name], shares[best])
        rows.append(
            {
                "system": name.split()[0],
                "settings": name.split()[1:],
                "title": " ".join([TITLES[name.split()[0]], *name.split()[1:]]),
                "seeds": [c.part.config.seed for c in runs[name]],
                "mean": {number: mean(found) if found else None for number, found in known.items()},
                "std": {number: stdev(found) if len(found) > 1 else None for number, found in known.items()},
                "runs": [
                    {**c.numbers, "correct": c.hits.sum(dim=0).tolist(), "per_class": c.per_class} for c in runs[name]
                ],
                "best": name == best,
                "to_best": None if apart is None else apart._asdict(),
            }
        )
    return rows


def _curve(part: Part, run: Run) -> dict[str, Any]:
    """The identity rate on validation images after each epoch, and the seconds of training until then."""
    log = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    epochs = {entry["epoch"]: entry for entry in log if "epoch" in entry}
    seconds = 0.0
    points = []
    for _, entry in sorted(epochs.items()):
        seconds += entry["seconds"]
        points.append({"seconds": seconds, "identity_rate": entry["validation"]["identity_rate"]})
    return {"run": part.folder, "system": part.system, "points": points}
