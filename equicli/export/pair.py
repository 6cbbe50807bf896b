"""A network that answers prompts as two programs: an encoder of a picture, and a decoder of prompts in it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.errors import UsageError
from equicli.export.cases import noise, turned
from equicli.export.graph import POSE, SURE
from equicli.export.parity import Case, compare
from equicli.export.programs import Run, Wanted, move, runtime, seal, trace, write
from equicli.export.promptable_graphs import (
    FRAME,
    MASKS,
    POINT_LABELS,
    POINTS,
    SCORES,
    DecoderGraph,
    EncoderGraph,
    embedding_names,
)
from equicli.files import check_output
from equicli.model_config import ModelConfig
from equicli.policy import certainty
from equicli.prediction.promptable import FIRST_CORNER, LAST_CORNER, NO_POINT, InPrograms, count_prompts
from equicli.progress import Progress

PARTS = ("encoder", "decoder")
REAL = 2  # pictures that it is compared on: at a thousand pixels a pass takes a minute
# As shares of width and height: two points, both with the other not meant, two boxes, and each point with a box.
_POINTS = ((0.3, 0.4), (0.7, 0.6))
_BOXES = ((0.1, 0.2, 0.6, 0.9), (0.3, 0.1, 0.9, 0.5))

Prompts = Mapping[str, Tensor]


def part_paths(path: Path) -> list[Path]:
    """Of the encoder and the decoder: sam.onnx is sam.encoder.onnx and sam.decoder.onnx."""
    return [path.with_suffix(f".{part}{path.suffix}") for part in PARTS]


def write_pair(
    path: Path, model: AdaptedModel, config: ModelConfig, wanted: Wanted, progress: Progress
) -> tuple[list[Path], dict[str, Any]]:
    """Write both programs, and return their files and what was compared; see `export.write_programs`."""
    if wanted.image_size is not None:
        raise UsageError("--image-size: an encoder takes pictures of any size; leave it out.")
    if wanted.with_preprocessing:
        raise UsageError("--with-preprocessing: an encoder takes pictures of any size as it is; leave it out.")
    form = wanted.form
    paths = part_paths(path)
    for one in paths:
        check_output(one, overwrite=not wanted.new)
    if wanted.half:
        model.half()
    cases = [Case(turned(model, noise(0)), False)] + [Case(turned(model, x), True) for x in wanted.samples[:REAL]]
    progress.say(f"tracing two programs; then {sum(len(c.turned) for c in cases)} pictures are compared")
    encoder, decoder = _parts(model, cases[0].turned[0])
    with TemporaryDirectory(prefix="equicli-") as folder:
        files = [Path(folder) / one.name for one in paths]
        traced = [trace(part.graph, list(part.inputs.values()), part.free) for part in (encoder, decoder)]
        encode, decode = (
            write(form, program, part.outputs, file, wanted.opset, list(part.inputs))
            for file, program, part in zip(files, traced, (encoder, decoder), strict=True)
        )
        found = compare(
            lambda x: _of_model(model, x),
            lambda x: _of_programs(model, encode, decode, x),
            cases,
            runtime(form),
            wanted.precision,
            exact=False,  # no logits are among the answers
        )
        document = {
            "input": "uint8 (h, w, 3)",
            "prompts": "points (n, k, 2), point_labels (n, k): 0, 1, 2 and 3 a box, -1 nothing: the last, "
            + ("always" if cast(InPrograms, model.prediction_network).pads_boxes else "where there is no box"),
            "precision": wanted.precision,
            "parity": asdict(found),
        }
        for name, file, program in zip(PARTS, files, traced, strict=True):
            metadata = json.dumps({**json.loads(config.to_json()), "program": {"part": name, **document}})
            seal(form, program, file, metadata)
        move(dict(zip(files, paths, strict=True)), new=wanted.new)
    return paths, document


@dataclass(frozen=True)
class Part:
    """One of both. inputs: by name, in their order, an example of each. free: their axes that may have any size.
    outputs: their names.
    """

    graph: nn.Module
    inputs: dict[str, Tensor]
    free: Sequence[Any]
    outputs: list[str]


def _parts(model: AdaptedModel, picture: Tensor) -> tuple[Part, Part]:
    encoder, some = EncoderGraph(model), torch.export.Dim.DYNAMIC
    shown = {"picture": _last_axis(picture)}
    with torch.no_grad():
        known = encoder(*shown.values())
    embedding = _embedding(known)
    points, labels = as_points(model, _prompts((picture.shape[1], picture.shape[2]))[-1])
    beside = {POINTS: points, POINT_LABELS: labels, POSE: known[POSE], FRAME: known[FRAME]}
    free = {0: some, 1: some}
    every: tuple[dict[int, Any], ...] = tuple({} for _ in embedding)  # one argument, which takes all
    return (
        Part(encoder, shown, [free], list(known)),
        Part(DecoderGraph(model), {**beside, **embedding}, [free, free, {}, {}, every], [MASKS, SCORES]),
    )


def _embedding(known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: level for name, level in known.items() if name not in (POSE, SURE, FRAME)}


def as_points(model: AdaptedModel, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Prompts as a decoder takes them: points (n, k, 2) and what each is, (n, k)."""
    n = count_prompts(prompts)
    points, labels = [], []
    if POINTS in prompts:
        points.append(prompts[POINTS])
        labels.append(prompts.get(POINT_LABELS, torch.ones(prompts[POINTS].shape[:2], dtype=torch.int64)))
    if "boxes" in prompts:
        points.append(prompts["boxes"].reshape(n, 2, 2))
        labels.append(torch.tensor([[FIRST_CORNER, LAST_CORNER]]).repeat(n, 1))
    if "boxes" not in prompts or cast(InPrograms, model.prediction_network).pads_boxes:
        points.append(torch.zeros(n, 1, 2))
        labels.append(torch.full((n, 1), NO_POINT))
    return torch.cat(points, dim=1), torch.cat(labels, dim=1)


def _prompts(frame: tuple[int, int]) -> list[Prompts]:
    size = torch.tensor([frame[1], frame[0]])
    points, boxes = torch.tensor(_POINTS)[:, None] * size, torch.tensor(_BOXES) * size.repeat(2)
    pairs = {POINTS: torch.cat([points, points.flip(0)], dim=1), POINT_LABELS: torch.tensor([[1, 0], [1, 0]])}
    return [{POINTS: points}, pairs, {"boxes": boxes}, {POINTS: points, "boxes": boxes}]


def _of_model(model: AdaptedModel, picture: Tensor) -> dict[str, Tensor]:
    """What the model says of a picture, uint8 (3, h, w), as a batch of one."""
    known = model.encode(picture)
    assert known.pose is not None
    answers = [model.decode(known, **prompts) for prompts in _prompts(known.frame)]
    sure, features = certainty(model.policy, known.pose), known.embedding.features
    return {
        POSE: known.pose.element,
        **({} if sure is None else {SURE: sure}),
        FRAME: torch.tensor(known.frame)[None],
        **{name: level.float() for name, level in zip(embedding_names(len(features)), features, strict=True)},
        **_joined(answers),
    }


def _of_programs(model: AdaptedModel, encode: Run, decode: Run, picture: Tensor) -> dict[str, Tensor]:
    """What the programs say of it."""
    known = encode(_last_axis(picture))
    beside = (known[POSE], known[FRAME], *_embedding(known).values())
    asked = _prompts((picture.shape[1], picture.shape[2]))
    answers = [decode(*as_points(model, prompts), *beside) for prompts in asked]
    return {**known, FRAME: known[FRAME][None], **_joined(answers)}


def _joined(answers: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.cat([answer[key] for answer in answers])[None] for key in (MASKS, SCORES)}


def _last_axis(picture: Tensor) -> Tensor:
    """(3, h, w) to (h, w, 3)."""
    return picture.permute(1, 2, 0).contiguous()
