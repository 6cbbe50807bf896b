"""Train what must be trained, then evaluate every system on the same images, in one process."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equicli import artifact
from equicli.comparison.count import Counted, count
from equicli.comparison.remember import Memories
from equicli.comparison.rows import rows_of
from equicli.comparison.systems import Part
from equicli.comparison.warnings import warnings_of
from equicli.config import AdaptConfig
from equicli.data.folders import Sample
from equicli.errors import UsageError
from equicli.evaluation.evaluate import Evaluation
from equicli.evaluation.run import provenance
from equicli.groups import PlanarGroup
from equicli.progress import Progress
from equicli.runs import Run
from equicli.training import adapt as training

SCHEMA = 1


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
    memories = Memories()
    alone: Evaluation | None = None
    labels_of_alone: Mapping[str, int] = {}
    for part, run in zip(parts, runs, strict=True):
        labels = artifact.read_config(run.model).labels
        indices = torch.tensor([-1 if sample.label is None else sample.label for sample in samples])
        targets = torch.tensor([labels[name] for name in classes])[indices] if labels and classes else indices
        network = own_network(part.config)
        found, evaluation = count(
            part, run, samples, targets, elements, network=network, memories=memories, device=device, progress=progress
        )
        counted += found
        if alone is None:
            alone, labels_of_alone = evaluation, labels
    assert alone is not None
    rows = rows_of(counted)
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


def _curve(part: Part, run: Run) -> dict[str, Any]:
    """The identity rate on validation images after each epoch, and the seconds of training until then."""
    seconds = 0.0
    points = []
    for entry in run.read_log():
        if "epoch" not in entry:
            continue
        seconds += entry["seconds"]
        points.append({"seconds": seconds, "identity_rate": entry["validation"]["identity_rate"]})
    return {"run": part.folder, "system": part.system, "points": points}
