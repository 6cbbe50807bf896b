"""Train what must be trained, then evaluate every system on the same images, in one process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from equicli import artifact
from equicli.comparison.count import count
from equicli.comparison.rows import rows_of
from equicli.comparison.systems import Part
from equicli.comparison.warnings import warnings_of
from equicli.errors import UsageError
from equicli.evaluation.cache import Caches
from equicli.evaluation.images import find_samples
from equicli.evaluation.run import provenance
from equicli.files import alone_in
from equicli.groups import Turns
from equicli.progress import Progress
from equicli.runs import Run
from equicli.tasks.registry import make_task
from equicli.training.adapt import train_canonicalizer
from equicli.tree import by_short_name

SCHEMA = 1


def measure_systems(
    parts: Sequence[Part],
    folder: Path,
    elements: Turns,
    reference: str,
    *,
    overwrite: bool,
    device: torch.device,
    progress: Progress,
) -> dict[str, Any]:
    """Compare systems on the same test images.

    Args:
        parts: what to train; the first is the network alone.
        folder: where their runs lie, finished ones of an earlier call too.
        overwrite: see `train`.
        elements: R, the group that accuracies are averaged over.
        reference: the system that others are compared with; see `choose_reference`.

    Returns:
        The document of `compare.json`.

    Raises:
        UsageError: runs of an earlier call do not go with these.
    """
    runs = []
    for number, part in enumerate(parts, start=1):
        progress.say(f"\n[{number}/{len(parts)}] {part.folder}")
        runs.append(train(part, folder, progress, overwrite=overwrite))
        _check_alike(runs[-1], runs[0])
    task = make_task(parts[0].config.task)
    images = find_samples(task, None, runs[0], progress, strict=parts[0].config.strict)
    caches = Caches()
    counted, alone = count(parts[0], runs[0], task, images, elements, caches, device=device, progress=progress)
    for part, run in zip(parts[1:], runs[1:], strict=True):
        counted += count(part, run, task, images, elements, caches, device=device, progress=progress)[0]
    rows = rows_of(counted, reference)
    first, config = parts[0].config, artifact.read_config(runs[0].model)
    return {
        "schema": SCHEMA,
        "task": task.name,
        "score": {"name": task.score, "title": task.title, "words": task.words or task.title},
        "columns": [list(column) for column in task.columns],
        "model": first.network.model,
        "data": first.data,
        "group": first.group,
        "elements": elements.name,
        "rotations": elements.n,
        "rotate": first.evaluation.rotate,
        "reencode": first.evaluation.reencode,
        "labels": "agreement" if alone.agreement else task.labels_from,
        "n": alone.n,
        "epochs": first.training.epochs,
        "batch_size": first.training.batch_size,
        "reference": reference,
        "systems": rows,
        "warnings": warnings_of(alone, task, config.labels, rows),
        "provenance": provenance(config, first.seed, device),
        "curves": [_curve(part, run) for part, run in zip(parts, runs, strict=True) if part.finds_poses],
    }


def train(part: Part, folder: Path, progress: Progress, *, overwrite: bool) -> Run:
    """Train one part, go on with it where it was interrupted, or take it as it is where it is finished.

    Args:
        overwrite: start anew where there is a run of other settings, or one that is not finished.

    Raises:
        UsageError: there is a run of other settings in its place.
    """
    run = Run(folder / part.folder)
    begun, wanted = run.begun, by_short_name(part.config.model_dump(mode="json"))
    before = by_short_name(run.read_settings()) if begun else {}
    same = before == wanted
    if begun and not same and not overwrite:
        key = next(key for key in {**wanted, **before} if wanted.get(key) != before.get(key))
        raise UsageError(
            f"{run.folder}: was made with other settings ({key} = {before.get(key)!r}, now {wanted.get(key)!r}); "
            "name another --output, or add --overwrite."
        )
    if same and run.trained:
        progress.say("finished before")
        return run
    with alone_in(run.folder):
        train_canonicalizer(part.config, run, progress, resume=same and not overwrite)
    return run


def _check_alike(run: Run, first: Run) -> None:
    """Images or weights may have changed between two calls: no run may have trained on what others are tested on."""
    if run.read_split()["test"] != first.read_split()["test"]:
        what = "other test images"
    elif artifact.read_config(run.model).provenance != artifact.read_config(first.model).provenance:
        what = "another network"
    else:
        return
    raise UsageError(f"{run.folder}: was made with {what} than {first.folder}; name another --output.")


def _curve(part: Part, run: Run) -> dict[str, Any]:
    """The identity rate on validation images after each epoch, and the seconds of training until then."""
    seconds = 0.0
    points = []
    for entry in run.read_log():
        if "epoch" not in entry:
            continue
        seconds += entry["seconds"]
        points.append({"seconds": seconds, "identity_rate": entry["validation"]["identity_rate"]})
    return {"system": part.system, "settings": list(part.settings), "seed": part.config.seed, "points": points}
