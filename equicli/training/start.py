"""What training starts from: data, its split and the frozen network; and that a resumed run starts from the same."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from equicli.config import AdaptConfig, names_code
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.decode import Decoder, UnreadableImageError
from equicli.data.folders import Dataset, Sample, Split, match_recorded, recorded_split, split_folder
from equicli.data.loading import in_threads
from equicli.devices import place
from equicli.errors import EquicliError, UsageError, counted
from equicli.model_config import ModelConfig
from equicli.origin import Origin, find_origin
from equicli.prediction.identity import state_sha256
from equicli.prediction.load import load_network, load_wanted
from equicli.prediction.network import PretrainedNetwork
from equicli.progress import Progress
from equicli.runs import Run
from equicli.settings import NetworkSettings
from equicli.tasks.task import Task


def open_data(config: AdaptConfig, task: Task, run: Run, progress: Progress, *, resume: bool) -> tuple[Dataset, Split]:
    """The dataset folder and its split; of a run that is gone on with, the split that it was begun with."""
    if resume:  # images that came since must not move any between the parts
        data, split = _open_recorded(config, task, run, progress)
    else:
        data = task.open(Path(config.data))
        of = config.split
        split = split_folder(data, validation=of.validation_fraction, test=of.test_fraction, seed=of.seed)
    data.tell(progress, strict=config.strict)
    unlabelled = [sample for sample in split.train + split.validation if sample.target is None]
    classes = f" in {len(data.classes)} classes" if data.classes else ", unlabelled" if unlabelled else ""
    progress.say(
        task.said(
            f"data: {len(split.train)} training, {len(split.validation)} validation, {len(split.test)} test images"
        )
        + classes
    )
    if config.training.task_weight and unlabelled:
        raise UsageError(f"task_weight: the task's loss needs labels, and {unlabelled[0].path} has none; leave it out.")
    return data, split


def _open_recorded(config: AdaptConfig, task: Task, run: Run, progress: Progress) -> tuple[Dataset, Split]:
    """The folder, and the images in it that the run was begun with; test images are not needed to go on."""
    recorded = run.read_split()
    try:
        data = task.open(Path(config.data))
        gone = {name for name, sample in match_recorded(data, recorded)["test"].items() if sample is None}
        split = recorded_split(data, {**recorded, "test": [name for name in recorded["test"] if name not in gone]})
    except EquicliError as error:
        raise type(error)(f"{error} If the folder moved, name it: --resume {run.folder} DATA") from error
    if gone:
        progress.say(f"{len(gone)} of the run's test images are gone: training goes on without, evaluating needs them")
    return data, split


def load_frozen(
    config: AdaptConfig, task: Task, data: Dataset, device: torch.device, progress: Progress
) -> PretrainedNetwork:
    """The prediction network, frozen and on the device, with the preprocessing that was asked for."""
    wanted = config.network
    found = load_wanted(wanted)
    progress.say(f"prediction network: {_describe(found) if task.has_network else 'none, a canonicalizer alone'}")
    for remark in found.remarks:
        progress.say(remark)
    if "sha256" not in found.provenance:
        whose = "the weights that your code returns, as they are" if names_code(wanted.model) else "untrained weights"
        progress.say(f"no --checkpoint: taking {whose}")
    state = state_sha256(found.network)  # no name tells which weights own code returns
    found = task.prepare(found, data, progress)
    place(found.network.requires_grad_(False), device)
    return replace(
        found,
        preprocess=found.preprocess.override(wanted.preprocess, wanted.mean, wanted.std),
        provenance={**found.provenance, "state_sha256": state},
    )


def open_origin(config: AdaptConfig, run: Run, *, resume: bool) -> Origin | None:
    """What `--start-from` names; of a run that is gone on with, the copy that it keeps."""
    if config.start_from is None:
        return None
    if resume and run.start.is_file():
        recorded = run.read_config().get("canonicalizer", {}).get("source", {})
        return Origin(run.start, str(recorded.get("name")), str(recorded.get("sha256")))
    return find_origin(config.start_from)


def load_own_code(wanted: NetworkSettings) -> nn.Module | None:
    """A new prediction network where it is the user's own code, which artifacts do not hold."""
    if not names_code(wanted.model):
        return None
    return load_network(wanted.model, arguments=wanted.model_args).network


def _describe(found: PretrainedNetwork) -> str:
    """One line on what was loaded."""
    source = found.provenance
    millions = sum(p.numel() for p in found.network.parameters()) / 1e6
    origin = f", revision {source['revision']}" if "revision" in source else ""
    file = source.get("checkpoint") or source.get("file")
    weights = f", weights {file} (sha256 {source['sha256'][:12]}…)" if file else ""
    return f"{source['model']} ({millions:.2f} M parameters{origin}{weights})"


def first_picture(split: Split, decoder: Decoder | CloudDecoder) -> Tensor:
    """The first readable training picture, uint8 (3, h, w), or cloud (n, 3)."""
    for sample in split.train:
        try:
            return decoder.read(sample.path)
        except UnreadableImageError:
            continue  # told when all are read
    raise EquicliError(f"{split.train[0].path.parent}: none of {len(split.train)} training images can be read.")


def tell_copies(split: Split, read: Mapping[Path, bytes], decoder: Decoder | CloudDecoder, progress: Progress) -> None:
    """Say how many test images are copies of those that were trained on, or chose the epoch.

    Only files whose size one of these has can be copies, and are opened; rows of a file have no size of their own.
    """
    sizes, seen = set(map(_size, read)), set(read.values())

    def is_copy(sample: Sample) -> bool:
        try:
            return _size(sample.path) in sizes and decoder.fingerprint(sample.path) in seen
        except OSError:
            return False

    found = in_threads(is_copy, split.test)
    copies = [sample.path for sample, copy in zip(split.test, found, strict=True) if copy]
    if copies:
        progress.say(
            f"{len(copies)} of {len(split.test)} test images are copies of training or validation images, such as "
            f"{copies[0]}: figures on them will flatter; remove the copies"
        )


def tell_broken(split: Split, decoder: Decoder | CloudDecoder, progress: Progress) -> None:
    """Say how many test pictures cannot be opened, by what stands before their pixels; `evaluate` tells the others."""
    if isinstance(decoder, CloudDecoder):
        return
    broken = [
        sample.path
        for sample, frame in zip(split.test, in_threads(decoder.frame, [s.path for s in split.test]), strict=True)
        if frame is None
    ]
    if broken:
        progress.say(
            f"{len(broken)} of {counted(len(split.test), 'test images')} cannot be opened, such as {broken[0]}: "
            "`equicli evaluate` leaves them out"
        )


def _size(path: Path) -> int | None:
    """The bytes of a file; None of a row of one, and of what is gone."""
    return path.stat().st_size if path.is_file() else None


def check_resumed(run: Run, config: ModelConfig) -> None:
    """Refuse to go on where what the run was begun with is no longer the same."""
    recorded, now = run.read_config(), json.loads(config.to_json())
    changed = sorted(key for key in {*recorded, *now} if recorded.get(key) != now.get(key))
    if not changed:
        return
    names = {
        "provenance": "the prediction network's weights or prompts",
        "canonicalizer": "the canonicalization network",
        "labels": "the folder's classes",
    }
    what = next((names[key] for key in names if key in changed), changed[0])
    raise EquicliError(f"--resume {run.folder}: {what} changed since; put back what was there, or start anew.")
