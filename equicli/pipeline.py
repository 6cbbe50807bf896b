"""The verbs as functions: adapt, evaluate, compare. Each joins the rooms and writes what a user keeps."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equicli import artifact
from equicli.claims import find_artifact, short_name
from equicli.comparison.compare import measure_systems
from equicli.comparison.systems import Part, choose_reference
from equicli.config import AdaptConfig
from equicli.data.decode import MAX_PIXELS
from equicli.data.reencode import NONE, find_encoding
from equicli.devices import find_device, find_precision
from equicli.errors import UsageError
from equicli.evaluation.images import Batches, find_samples, names_of
from equicli.evaluation.overrides import Overrides
from equicli.evaluation.run import evaluate_images
from equicli.evaluation.turns import turns_for
from equicli.files import alone_in, check_writable, write_atomically
from equicli.prediction.inputs import stays
from equicli.prediction.signature import try_network
from equicli.progress import Progress
from equicli.reports import comparison as comparison_report
from equicli.reports.folder import Show, check_folder, report_folder, shown, write_reports
from equicli.runs import RUNS, Run, become_latest
from equicli.tasks.registry import find_task, make_task
from equicli.training.adapt import train_canonicalizer

# Validation images that the report which closes a run is made on.
REPORT_IMAGES = 200


def ignore(document: dict[str, Any]) -> None:
    """Show nothing."""


def adapt(
    config: AdaptConfig, run: Run, progress: Progress, *, resume: bool = False, show: Show = ignore
) -> dict[str, Any]:
    """Train, then report on validation images; returns the metrics document. See `train_canonicalizer`.

    Args:
        show: is given the document before it is written.
    """
    adapted = train_canonicalizer(config, run, progress, resume=resume)
    task, validation = make_task(config.task), adapted.validation
    rotate = config.evaluation.rotate
    reencode = find_encoding(config.evaluation.reencode, rotate)
    some = torch.randperm(len(validation), generator=torch.Generator().manual_seed(0))[:REPORT_IMAGES]
    samples = [validation[i] for i in sorted(some.tolist())]
    metrics = evaluate_images(
        adapted.model,
        adapted.config,
        task,
        Batches(
            adapted.model,
            samples,
            None,
            rotate,
            reencode=reencode,
            max_pixels=config.max_pixels,
            strict=config.strict,
        ),
        task.targets(samples, adapted.data, adapted.config.labels),
        turns_for(config.group),
        split="validation",
        seed=config.seed,
        device=find_device(config.device),
        precision="fp32",
        of=len(validation) if len(samples) < len(validation) else None,
        seen=adapted.seen,
        root=adapted.data.root,
        folder=adapted.data.samples,
        progress=progress,
    )
    metrics["run"] = str(run.folder)
    with shown(metrics, show):
        write_reports(run, run.folder, metrics, adapted.config, card=True)
    become_latest(run, progress)
    return metrics


def evaluate(
    path: str | None,
    *,
    data: str | None = None,
    test_split: str | None = None,
    network: nn.Module | None = None,
    checkpoint: str | None = None,
    rotations: int | None = None,
    elements: str | None = None,
    rotate: str | None = None,
    reencode: str | None = None,
    preprocess: str | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    value_range: str | None = None,
    max_pixels: int | None = None,
    device: str = "auto",
    precision: str = "fp32",
    strict: bool = False,
    output: str | None = None,
    overwrite: bool = False,
    progress: Progress,
    show: Show = ignore,
) -> tuple[dict[str, Any], Path]:
    """Evaluate a run or an exported file on test images.

    Args:
        path: a run folder or an exported file; None is the latest run.
        data: a dataset folder; None is the one that the run recorded.
        test_split: the folder of test images in it.
        network: the prediction network, where it is the user's own code.
        checkpoint: the prediction network's weights, for an adapter exported without them.
        rotations: turn by each element of C_n.
        elements: without rotations, turn by the `group` that was adapted, or only by its `rotations`; None is the
            group, or of one with infinitely many elements C8.
        rotate: `file`, pictures as they would come turned, or `input`, preprocessed tensors; None is what the run's
            configuration says, or `file`.
        reencode: how turned pictures are compressed again, such as `jpeg:75`, or `none`; None is what the run's
            configuration says, or `none`.
        preprocess, image_size, value_range: in place of the artifact's own; see `Overrides`.
        max_pixels: larger pictures are not read; None is what the run's configuration says, or `MAX_PIXELS`.
        output: folder to write into; None is the run folder.
        show: is given the document before it is written, so that it is not lost where it cannot be.

    Returns:
        The metrics document, and the folder with metrics.json and report.md.
    """
    file, run = find_artifact(path)
    config = artifact.read_config(file)
    with report_folder(file, run, output, overwrite) as folder:
        task = find_task(config.task, config.task_settings)
        turns = turns_for(config.group, rotations, elements)
        recorded = run.recorded() if run else None
        rotate = rotate or (recorded.evaluation.rotate if recorded else "file")
        encoding = find_encoding(reencode or (recorded.evaluation.reencode if recorded else NONE), rotate)
        max_pixels = max_pixels or (recorded and recorded.max_pixels) or MAX_PIXELS
        overrides = Overrides(preprocess, image_size, value_range)
        config = overrides.apply(config)
        flags = {"--data": data, "--test-split": test_split}
        given = {flag: value for flag, value in flags.items() if value is not None} | overrides.by_flag()
        images = find_samples(task, data, run, progress, test_split=test_split, strict=strict)
        labels = task.rebind(images.data, config.labels, config.class_names)
        if labels != config.labels:
            progress.say("labels: folder names match classes of the network's own")
        config = replace(config, labels=labels)
        targets = task.targets(images.samples, images.data, labels)
        placed = config.preprocess.resizes and not stays(config.signature.outputs)
        if rotate == "input" and targets is not None and placed:
            raise UsageError(
                "--rotate input: labels lie in the picture, of which this network sees a part; --rotate file."
            )
        if targets is None and images.data.classes:
            progress.say(
                "this model was adapted without labels; accuracy is agreement with the upright vanilla prediction"
            )
        chosen_device = find_device(device)
        precision = find_precision(precision, chosen_device)
        model = artifact.load(file, network=network, checkpoint=checkpoint)
        model.preprocess, model.value_ranges = config.preprocess, config.value_ranges
        if image_size is not None:
            example = torch.zeros(1, config.preprocess.normalization.channels, image_size, image_size)
            try_network(model.prediction_network, config.signature, example)
        batches = Batches(
            model, images.samples, batch_size, rotate, reencode=encoding, max_pixels=max_pixels, strict=strict
        )
        metrics = evaluate_images(
            model,
            config,
            task,
            batches,
            targets,
            turns,
            split=images.split,
            seed=recorded.seed if recorded else 0,
            device=chosen_device,
            precision=precision,
            seen=artifact.read_pictures_seen(file),
            root=images.data.root,
            folder=images.data.samples,
            overrides=given,
            latest=run.folder if run and path is None else None,
            progress=progress,
        )
        paths = [sample.path for sample in images.samples]
        of_each = [None] * len(paths) if targets is None else targets
        right = {p: t for p, t in zip(paths, of_each, strict=True) if p not in batches.unreadable}
        named = dict(zip(names_of(images.samples, images.data.root), paths, strict=True))
        figure = task.figure(model, turns, right, [named[one["file"]] for one in metrics["lost_most"]], max_pixels)
        metrics["figure"] = {"file": figure.file, "title": figure.title} if figure else None
        # The model card stays with what the run was made for.
        as_it_was = not given and reencode is None and precision == "fp32"
        with shown(metrics, show):
            write_reports(run, folder, metrics, config, card=as_it_was and folder == file.parent, figure=figure)
        return metrics, folder


def compare(
    parts: Sequence[Part],
    output: str | None,
    *,
    rotations: int | None,
    reference: str | None,
    overwrite: bool,
    progress: Progress,
    show: Show = ignore,
) -> tuple[dict[str, Any], Path]:
    """Compare systems and write the table; see `comparison.compare.measure_systems`.

    Args:
        parts: what `comparison.plan.plan` made.
        output: folder; None is `runs/compare-<model>-<group>`, and of a sweep one of its own, where the same command
            goes on.
        rotations: turn by each element of C_n; None is what fits the group.
        reference: the system that others are compared with; None chooses, see `choose_reference`.
        show: is given the document before it is written.

    Returns:
        The document of `compare.json`, and the folder.
    """
    first = parts[0].config
    swept = sorted({setting.partition("=")[0] for part in parts for setting in part.settings})
    name = "-".join(["compare", short_name(first.network.model), first.group, *swept])
    folder = Path(output) if output else RUNS / name
    check_folder(folder)
    found = [path for path in folder.iterdir() if not path.is_dir() or any(path.iterdir())] if folder.exists() else []
    if found and not any(folder.glob("*/resolved.yaml")):
        raise UsageError(f"--output {folder}: exists and holds no comparison; name another.")
    check_writable(folder)
    samples = make_task(first.task).open(Path(first.data)).samples
    if all(sample.target is None for sample in samples):
        without = sorted({part.system for part in parts if part.config.training.task_weight})
        if without:
            progress.say(f"left out, as the images have no labels to train on: {', '.join(without)}")
        parts = [part for part in parts if not part.config.training.task_weight]
        if without and len(parts) == 1:
            raise UsageError(f"{first.data}: no labels, which all of these --systems train on; name others.")
    with alone_in(folder):
        document = measure_systems(
            parts,
            folder,
            turns_for(first.group, rotations),
            choose_reference(parts, reference),
            overwrite=overwrite,
            device=find_device(first.device),
            progress=progress,
        )
        with shown(document, show):
            write_atomically(folder / "compare.json", json.dumps(document, indent=2) + "\n")
            for name, text in comparison_report.files(document).items():
                write_atomically(folder / name, text)
    return document, folder
