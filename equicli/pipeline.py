"""The verbs as functions: adapt, evaluate, compare, export. Each joins the rooms and writes what a user keeps."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from equicli import artifact
from equicli.comparison import compare as comparison
from equicli.comparison.systems import Part, choose_reference
from equicli.config import AdaptConfig
from equicli.devices import find_device, find_precision
from equicli.errors import UsageError, reason
from equicli.evaluation.images import Batches, find_samples
from equicli.evaluation.run import evaluate_images
from equicli.files import write_atomically
from equicli.groups import PlanarGroup, is_finite, parse_group, parse_planar_group
from equicli.prediction.checkpoint import sha256_of
from equicli.prediction.inputs import stays
from equicli.prediction.signature import try_network
from equicli.progress import Progress
from equicli.reports import comparison as comparison_report
from equicli.reports import markdown
from equicli.runs import RUNS, Run, find_run, short_name
from equicli.tasks.registry import find_task, make_task
from equicli.training import adapt as training

EVALUATION_BATCH = 32
# Validation images that the report which closes a run is made on.
REPORT_IMAGES = 200


def adapt(config: AdaptConfig, run: Run, progress: Progress, *, resume: bool = False) -> dict[str, Any]:
    """Adapt, then report on validation images; returns the metrics document. See `training.adapt.adapt`."""
    adapted = training.adapt(config, run, progress, resume=resume)
    task, validation = make_task(config.task), adapted.validation
    some = torch.randperm(len(validation), generator=torch.Generator().manual_seed(0))[:REPORT_IMAGES]
    samples = [validation[i] for i in sorted(some.tolist())]
    metrics = evaluate_images(
        adapted.model,
        adapted.config,
        task,
        Batches(adapted.model, samples, EVALUATION_BATCH, config.evaluation.rotate),
        task.targets(samples, adapted.data, adapted.config.labels),
        _default_elements(config.group),
        split="validation",
        seed=config.seed,
        device=find_device(config.device),
        precision="fp32",
        progress=progress,
    )
    _write_reports(run, run.folder, metrics, adapted.config, card=True)
    try:
        run.point_latest()
    except OSError as error:
        progress.say(f"{RUNS}/latest could not be set ({reason(error)}); name the run folder instead")
    return metrics


def evaluate(
    path: str | None,
    *,
    data: str | None = None,
    test_split: str | None = None,
    network: nn.Module | None = None,
    checkpoint: str | None = None,
    rotations: int | None = 4,
    rotate: str | None = None,
    preprocess: str | None = None,
    image_size: int | None = None,
    batch_size: int = EVALUATION_BATCH,
    device: str = "auto",
    precision: str = "fp32",
    strict: bool = False,
    output: str | None = None,
    overwrite: bool = False,
    progress: Progress,
) -> tuple[dict[str, Any], Path]:
    """Evaluate a run or an exported file on test images.

    Args:
        path: a run folder or an exported file; None is the latest run.
        data: a dataset folder; None is the one that the run recorded.
        test_split: the folder of test images in it.
        network: the prediction network, where it is the user's own code.
        checkpoint: the prediction network's weights, for an adapter exported without them.
        rotations: turn by each element of C_n; None is each element of the adapted group.
        rotate: `file`, pictures as they would come turned, or `input`, preprocessed tensors; None is what the run's
            configuration says, or `file`.
        preprocess, image_size: in place of the artifact's own preprocessing; see `Preprocess.override`.
        output: folder to write into; None is the run folder.

    Returns:
        The metrics document, and the folder with metrics.json and report.md.
    """
    file, run = _find_artifact(path)
    folder = _report_folder(file, run, output, overwrite)
    config = artifact.read_config(file)
    task = find_task(config.task, config.task_settings)
    elements = _elements(config.group, rotations)
    settings = run.read_settings() if run else {}
    rotate = rotate or settings.get("evaluation", {}).get("rotate", "file")
    config = _prepared_as(config, preprocess, image_size)
    images = find_samples(task, data, run, progress, test_split=test_split, strict=strict)
    labels = task.rebind(images.data, config.labels, config.class_names)
    if labels != config.labels:
        progress.say("labels: folder names match classes of the network's own")
    config = replace(config, labels=labels)
    targets = task.targets(images.samples, images.data, labels)
    placed = config.preprocess.size is not None and not stays(config.signature.outputs)
    if rotate == "input" and targets is not None and placed:
        raise UsageError("--rotate input: labels lie in the picture, of which this network sees a part; --rotate file.")
    if targets is None and images.data.classes:
        progress.say("this model was adapted without labels; accuracy is agreement with the upright vanilla prediction")
    chosen_device = find_device(device)
    precision = find_precision(precision, chosen_device)
    model = artifact.load(file, network=network, checkpoint=checkpoint)
    model.preprocess = config.preprocess
    if image_size is not None:
        try_network(model.prediction_network, config.signature, torch.zeros(1, 3, image_size, image_size))
    metrics = evaluate_images(
        model,
        config,
        task,
        Batches(model, images.samples, batch_size, rotate, strict=strict),
        targets,
        elements,
        split=images.split,
        seed=settings.get("seed", 0),
        device=chosen_device,
        precision=precision,
        progress=progress,
    )
    # The model card stays with what the run was made for.
    card = data is None and preprocess is None and image_size is None and precision == "fp32"
    _write_reports(run, folder, metrics, config, card=card and folder == file.parent)
    return metrics, folder


def export(
    path: str | None,
    output: str | None,
    *,
    adapter_only: bool = False,
    network: nn.Module | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a run's model as one file.

    Returns:
        path, sha256 and bytes of the file, and whether it is an adapter only.
    """
    file, run = _find_artifact(path)
    name = run.folder.resolve().name if run else file.stem
    target = Path(output) if output else Path(f"{name}{'-adapter' if adapter_only else ''}.safetensors")
    if target.suffix != ".safetensors":
        raise UsageError(f"--output {target}: export writes safetensors; let the name end in .safetensors.")
    if target.is_dir():
        raise UsageError(f"--output {target}: is a folder; name a file.")
    if target.exists() and not overwrite:
        raise UsageError(f"--output {target}: exists; name another file or add --overwrite.")
    config = artifact.read_config(file)
    model = artifact.load(file, network=network)
    artifact.write_artifact(target, model, config, adapter_only=adapter_only)
    return {
        "path": str(target),
        "sha256": sha256_of(target),
        "bytes": target.stat().st_size,
        "adapter_only": adapter_only,
    }


def compare(
    parts: Sequence[Part],
    output: str | None,
    *,
    rotations: int | None,
    reference: str | None,
    overwrite: bool,
    progress: Progress,
) -> tuple[dict[str, Any], Path]:
    """Compare systems and write the table; see `comparison.compare`.

    Args:
        parts: what `comparison.plan.plan` made.
        output: folder; None is `runs/compare-<model>-<group>`, and of a sweep one of its own, where the same command
            goes on.
        rotations: turn by each element of C_n; None is each element of the adapted group.
        reference: the system that others are compared with; None chooses, see `choose_reference`.

    Returns:
        The document of `compare.json`, and the folder.
    """
    first = parts[0].config
    swept = sorted({setting.partition("=")[0] for part in parts for setting in part.settings})
    name = "-".join(["compare", short_name(first.network.model), first.group, *swept])
    folder = Path(output) if output else RUNS / name
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: is a file; name a folder.")
    if folder.exists() and any(folder.iterdir()) and not any(folder.glob("*/resolved.yaml")):
        raise UsageError(f"--output {folder}: exists and holds no comparison; name another.")
    samples = make_task(first.task).open(Path(first.data)).samples
    if all(sample.target is None for sample in samples):
        without = sorted({part.system for part in parts if part.config.training.task_weight})
        if without:
            progress.say(f"left out, as the images have no labels to train on: {', '.join(without)}")
        parts = [part for part in parts if not part.config.training.task_weight]
        if without and len(parts) == 1:
            raise UsageError(f"{first.data}: no labels, which all of these --systems train on; name others.")
    document = comparison.compare(
        parts,
        folder,
        _elements(first.group, rotations),
        choose_reference(parts, reference),
        overwrite=overwrite,
        device=find_device(first.device),
        progress=progress,
    )
    write_atomically(folder / "compare.json", json.dumps(document, indent=2) + "\n")
    for name, text in comparison_report.files(document).items():
        write_atomically(folder / name, text)
    return document, folder


def _find_artifact(path: str | None) -> tuple[Path, Run | None]:
    """The artifact that RUN names, and the run folder it lies in, if any."""
    if path is not None and Path(path).is_file():
        run = Run(Path(path).parent)
        return Path(path), run if run.settings.is_file() and run.model.name == Path(path).name else None
    run = find_run(path)
    return run.model, run


def _prepared_as(config: artifact.ModelConfig, mode: str | None, image_size: int | None) -> artifact.ModelConfig:
    """The same with the preprocessing that was asked for in place of its own."""
    if mode == "none" and image_size is not None:
        raise UsageError("--image-size resizes, which --preprocess none forbids; give one of them.")
    if mode is None and image_size is None:
        return config
    preprocess = config.preprocess.override(mode or "checkpoint", image_size=image_size)
    if mode == "checkpoint" and preprocess.size is None:
        raise UsageError(
            "--preprocess checkpoint: nothing says how this network's pictures are resized; add --image-size N."
        )
    return replace(config, preprocess=preprocess)


def _report_folder(file: Path, run: Run | None, output: str | None, overwrite: bool) -> Path:
    """Where an evaluation is written. A run's own reports are renewed; its log keeps every earlier evaluation."""
    if output is None and run:
        return run.folder
    folder = Path(output) if output else RUNS / f"{file.stem}-evaluation"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: is a file; name a folder.")
    if (folder / "metrics.json").exists() and not overwrite:
        raise UsageError(f"--output {folder}: holds metrics.json already; name another folder or add --overwrite.")
    return folder


def _default_elements(name: str) -> PlanarGroup:
    """What the report that closes a run turns images by: the group itself, where it is one that turns pictures."""
    group = parse_group(name)
    return group if isinstance(group, PlanarGroup) else PlanarGroup(4 if is_finite(group) else 8)


def _elements(group: str, rotations: int | None) -> PlanarGroup:
    """What images are turned by: C_n, or the adapted group itself."""
    if rotations is None:
        if not is_finite(parse_group(group)):
            raise UsageError(f"--elements group: {group} has infinitely many elements; use --rotations, such as 8.")
        if not isinstance(parse_group(group), PlanarGroup):
            raise UsageError(f"--elements group: reports turn images by C_n and D_n, not by {group}; use --rotations.")
        return parse_planar_group(group)
    try:
        return parse_planar_group(f"c{rotations}")
    except UsageError:
        raise UsageError(f"--rotations {rotations}: the number of rotations must be from 1 to 360.") from None


def _write_reports(
    run: Run | None, folder: Path, metrics: dict[str, Any], config: artifact.ModelConfig, *, card: bool
) -> None:
    write_atomically(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    write_atomically(folder / "report.md", markdown.report(metrics))
    if run is not None:
        run.append_log({"metrics": metrics})
        if card:
            write_atomically(folder / "README.md", markdown.model_card(metrics, asdict(config)))
