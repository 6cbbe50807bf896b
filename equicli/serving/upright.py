"""Pictures turned upright, by the poses that a canonicalizer finds."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from equicli.adapted import AdaptedModel
from equicli.data.decode import Decoder
from equicli.data.orientation import D4
from equicli.errors import UsageError
from equicli.files import write_atomically
from equicli.groups import as_finite, is_finite
from equicli.groups.labels import read_label
from equicli.policy import certainty
from equicli.progress import Progress
from equicli.serving.decoding import Decoded, decode, workers_for
from equicli.serving.parts import to_json
from equicli.serving.turning import CannotTurnError, Turned, turn_file

# What was done with a picture.
TURNED, REENCODED, UPRIGHT, UNSURE, LEFT, UNREADABLE = (
    "turned",
    "turned, re-encoded",
    "upright already",
    "left alone: not sure",
    "left alone: cannot be turned",
    "left alone: unreadable",
)
LIST = "upright.jsonl"


@dataclass(frozen=True)
class Done:
    """What was done with a picture. pose: how it stood; sure: p(ĝ | x); why: it was not turned, or not without loss."""

    path: str
    done: str
    pose: str | None = None
    sure: float | None = None
    why: str | None = None


def plan_outputs(paths: Sequence[str], folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """Where each picture goes: below a folder, as it lies below the deepest folder that holds all inputs.

    Raises:
        UsageError: a file is there already, or is one of the inputs.
    """
    inputs = {os.path.realpath(path) for path in paths}
    parents = [os.path.dirname(os.path.abspath(path)) for path in paths]  # noqa: PTH100, PTH120 - links stay as they are
    common = os.path.commonpath(parents)
    targets = {path: folder / os.path.relpath(os.path.abspath(path), common) for path in paths}  # noqa: PTH100
    for target in (*targets.values(), folder / LIST):
        if os.path.realpath(target) in inputs:
            raise UsageError(f"--output {folder}: {target} is an input; name another folder.")
        if target.exists() and not overwrite:
            raise UsageError(f"--output {folder}: {target} exists; name another folder or add --overwrite.")
    return targets


@torch.inference_mode()
def turn_upright(
    model: AdaptedModel,
    paths: Sequence[str],
    targets: dict[str, Path],
    *,
    method: str | None,
    sure: float,
    batch_size: int,
    workers: int | None,
    max_pixels: int,
    strict: bool,
    progress: Progress,
) -> Iterator[Done]:
    """Turn pictures, and copy those that are left as they are, unreadable ones, too.

    Args:
        targets: where each goes; empty writes nothing.
        method: see `turn_file`.
        sure: p(ĝ | x) below which a picture is left as it is.

    Raises:
        UsageError: the model finds no poses of 90° steps, or mirrored ones.
    """
    group = model.canonicalizer.group
    if not (model.canonicalizer.finds_poses and is_finite(group) and group.exact):
        raise UsageError(f"RUN: {group.name} has turns between 90° steps; upright takes one adapted with c4 or c2.")
    if group.find(0, True) is not None:  # it learned that mirrored pictures are as right, and would mirror good ones
        raise UsageError(f"RUN: {group.name} cannot tell handedness from pictures; take one adapted with c4 or c2.")
    if model.canonicalizer.passes:
        raise UsageError("RUN: its canonicalizer asks the prediction network for every pose; take a trained one.")
    in_d4 = [read_label(D4, group.label(g)) for g in range(as_finite(group).order)]
    decoder = Decoder(model.value_ranges, max_pixels)
    count = workers_for(len(paths)) if workers is None else workers
    batches = decode(paths, range(-(-len(paths) // batch_size)), batch_size, decoder, workers=count, strict=strict)
    for batch in progress.track(batches, "turning pictures", len(paths), size=lambda batch: len(batch.paths)):
        found = dict(zip(batch.pictures, _poses(model, batch), strict=True))
        for path in batch.paths:
            if path in batch.unreadable:
                _copy(path, targets.get(path))
                yield Done(path, UNREADABLE, why=batch.unreadable[path])
                continue
            element, share = found[path]
            d4 = in_d4[element]
            assert isinstance(d4, int)
            yield _turn(path, targets.get(path), D4.inverse(d4), group.label(element), share, method, sure)


def _poses(model: AdaptedModel, batch: Decoded) -> list[tuple[int, float]]:
    if not batch.pictures:
        return []
    pose = model.find_pose(model.pictures(list(batch.pictures.values())))
    assert pose is not None
    share = certainty(model.policy, pose)
    shares = [1.0] * len(pose.element) if share is None else share.tolist()
    return list(zip(pose.element.tolist(), shares, strict=True))


def _copy(path: str, target: Path | None) -> None:
    """Copy what is no picture, where it is anything, so that nothing that came is lacking."""
    if target is None:
        return
    try:
        content = Path(path).read_bytes()
    except OSError:  # it is not there
        return
    write_atomically(target, content)


def _turn(
    path: str, target: Path | None, element: int, pose: str, share: float, method: str | None, sure: float
) -> Done:
    content, why = Path(path).read_bytes(), None
    turned = Turned(content)
    done = UNSURE if share < sure else UPRIGHT if element == 0 else TURNED
    if done == TURNED:
        try:
            turned = turn_file(content, element, method)
            done, why = (TURNED if turned.loss is None else REENCODED), turned.loss
        except CannotTurnError as error:
            done, why = LEFT, str(error)
    if target is not None:
        write_atomically(target, turned.content)
    return Done(path, done, pose, round(share, 4), why)


def write_list(folder: Path, every: Sequence[Done]) -> None:
    """Keep what was done with each picture, as lines of JSON."""
    lines = (to_json({k: v for k, v in asdict(one).items() if v is not None}) for one in every)
    write_atomically(folder / LIST, "".join(f"{line}\n" for line in lines))


def count(every: Sequence[Done]) -> dict[str, int]:
    return dict(Counter(one.done for one in every))
