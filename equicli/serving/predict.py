"""Predictions of many files: decoded in processes beside, answered batch by batch, written as they come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.decode import Decoder
from equicli.devices import arithmetic, device_of
from equicli.errors import UsageError, counted
from equicli.files import check_output
from equicli.groups import Group, is_finite
from equicli.model_config import ModelConfig
from equicli.policy import certainty, passes_of_each
from equicli.progress import Progress
from equicli.serving.decoding import Decoded, decode, workers_for
from equicli.serving.parts import ERROR, SUFFIXES, Joined, Row, Shard, Work, find_parts, join, open_part, to_json
from equicli.tasks.registry import find_task
from equicli.tasks.task import Task


@dataclass(frozen=True)
class Served:
    """A model as it is asked about files.

    names: of its classes, output by output. sha256: of its file.
    """

    model: AdaptedModel
    task: Task
    names: tuple[str, ...]
    sha256: str
    decoder: Decoder
    precision: str = "fp32"

    @classmethod
    def of(cls, model: AdaptedModel, config: ModelConfig, sha256: str, max_pixels: int, precision: str) -> "Served":
        """
        Raises:
            UsageError: see `check_pictures`.
        """
        check_pictures(config)
        task = find_task(config.task, config.task_settings)
        return cls(model, task, config.names, sha256, Decoder(model.value_ranges, max_pixels), precision)

    def work(self, paths: Sequence[str], batch_size: int) -> Work:
        return Work.of(self.sha256, paths, batch_size, self.precision, self.decoder.max_pixels)

    @torch.inference_mode()
    def rows(self, batch: Decoded) -> list[Row]:
        """One row a file of a batch, in its order."""
        answers: dict[str, Row] = {}
        if batch.pictures:
            names, pictures = zip(*batch.pictures.items(), strict=True)
            with arithmetic(device_of(self.model), self.precision):
                output, pose = self.model.answer(self.model.pictures(pictures))
            said = self.task.answers(output, self.names)
            found = describe_poses(self.model, pose, len(names))
            answers = {name: {**a, **b} for name, a, b in zip(names, said, found, strict=True)}
        return [{"path": p, **answers.get(p, {ERROR: batch.unreadable.get(p)})} for p in batch.paths]


def check_pictures(config: ModelConfig) -> None:
    """
    Raises:
        UsageError: the model takes point clouds, or prompts.
    """
    if not isinstance(config.signature.inputs, str):
        raise UsageError("predict: this network answers prompts; use model.encode and model.decode in Python.")
    if isinstance(config.preprocess, CloudPreprocess):
        raise UsageError("predict: takes pictures; of clouds use model.predict(paths) in Python.")


def describe_poses(model: AdaptedModel, pose: Pose | None, count: int) -> list[dict[str, Any]]:
    """Pose, how sure of it, and passes of the prediction network, for each of `count` inputs."""
    group = model.canonicalizer.group
    passes = [p + model.canonicalizer.passes for p in passes_of_each(model.policy, group, pose, count)]
    if pose is None:
        return [{"passes": p} for p in passes]
    sure = certainty(model.policy, pose)
    shares = [None] * count if sure is None else [round(p, 4) for p in sure.tolist()]
    poses = pose_labels(group, pose)
    return [{"pose": g, "sure": s, "passes": p} for g, s, p in zip(poses, shares, passes, strict=True)]


def pose_labels(group: Group, pose: Pose) -> list[str]:
    """How each input stands, counter-clockwise from upright: `r90`, or `r90m` where it is mirrored, too."""
    if is_finite(group):
        return [group.label(element) for element in pose.element.tolist()]
    sign = torch.linalg.det(pose.element.float()).sign()
    # Mirroring changes the first column only.
    angles = torch.atan2(-pose.element[:, 0, 1], pose.element[:, 1, 1]).rad2deg() % 360
    return [f"r{angle:.1f}{'m' * (s < 0)}" for angle, s in zip(angles.tolist(), sign.tolist(), strict=True)]


def plan_output(output: str, *, overwrite: bool) -> Path:
    """
    Raises:
        UsageError: it cannot be named so, or see `check_output`.
    """
    path = Path(output)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--output {output}: let the name end in .jsonl or .csv.")
    check_output(path, overwrite=overwrite)
    return path


def predict_files(
    served: Served,
    paths: Sequence[str],
    output: Path,
    *,
    shard: Shard | None,
    batch_size: int,
    workers: int | None,
    resume: bool,
    overwrite: bool,
    strict: bool,
    progress: Progress,
) -> Joined | Path:
    """Predict files and write the output; or, of a shard, its part, which `join_parts` joins with the others.

    Args:
        shard: None does all the work.
        workers: processes that decode; None is as many as there are cores, where there is work for them.
        resume: go on with what an earlier call left.

    Raises:
        UsageError: see `open_part`. UnreadableImageError: in strict mode, a file cannot be read.
    """
    work, mine = served.work(paths, batch_size), shard or Shard()
    path = mine.path(output)
    with open_part(path, work, mine, resume=resume, overwrite=overwrite) as part:
        todo = [number for number in mine.numbers(work.batches) if number not in part.done]
        if part.done:
            mine_all = counted(len(mine.numbers(work.batches)), "batches")
            progress.say(f"going on after {len(part.done):,} of {mine_all}")
        for batch in _decoded(served, paths, todo, batch_size, workers, strict, progress):
            part.append(batch.number, served.rows(batch))
    return path if shard is not None else join(output, [path], overwrite=overwrite)


def predict_to(
    served: Served,
    paths: Sequence[str],
    stream: TextIO,
    *,
    batch_size: int,
    workers: int | None,
    strict: bool,
    progress: Progress,
) -> Joined:
    """Predict files and print a row of JSON for each as soon as it is known."""
    unreadable: dict[str, str] = {}
    batches = range(-(-len(paths) // batch_size))
    for batch in _decoded(served, paths, batches, batch_size, workers, strict, progress):
        for row in served.rows(batch):
            print(to_json(row), file=stream)
        stream.flush()
        unreadable |= batch.unreadable
    return Joined(len(paths), unreadable)


def join_parts(output: Path, *, overwrite: bool) -> Joined:
    """Join the parts that processes with `--shard` wrote; see `parts.join`."""
    return join(output, find_parts(output), overwrite=overwrite)


def _decoded(
    served: Served,
    paths: Sequence[str],
    todo: Sequence[int],
    batch_size: int,
    workers: int | None,
    strict: bool,
    progress: Progress,
) -> Iterator[Decoded]:
    total = sum(len(paths[number * batch_size : (number + 1) * batch_size]) for number in todo)
    count = workers_for(total) if workers is None else workers
    batches = decode(paths, todo, batch_size, served.decoder, workers=count, strict=strict)
    return progress.track(batches, "predicting files", total, size=lambda batch: len(batch.paths))
