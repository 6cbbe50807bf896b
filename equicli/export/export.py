"""An adapted model as one file that other runtimes run, written only where it was seen to say the same."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.errors import UsageError
from equicli.export.cases import of_batches, of_one_picture
from equicli.export.graph import answer
from equicli.export.pair import write_pair
from equicli.export.parity import Parity, compare
from equicli.export.programs import move, runtime, seal, trace, write
from equicli.groups import is_finite
from equicli.model_config import ModelConfig
from equicli.policy import Gate
from equicli.prediction.promptable import makes_programs
from equicli.progress import Progress


def write_programs(
    path: Path,
    model: AdaptedModel,
    config: ModelConfig,
    form: str,
    *,
    with_preprocessing: bool,
    **options: Any,
) -> tuple[list[Path], dict[str, Any]]:
    """Write a model as one program, or as two where it answers prompts: these always take pictures of any size.

    Args:
        options: see `write_program`.

    Returns:
        The files, and what was compared.
    """
    if is_pair(model):
        if with_preprocessing:
            raise UsageError("--with-preprocessing: an encoder takes pictures of any size as it is; leave it out.")
        return write_pair(path, model, config, form, **options)
    document = write_program(path, model, config, form, with_preprocessing=with_preprocessing, **options)
    return [path], document


def write_program(
    path: Path,
    model: AdaptedModel,
    config: ModelConfig,
    form: str,
    *,
    samples: Sequence[Tensor],
    image_size: int | None,
    with_preprocessing: bool,
    half: bool,
    opset: int | None,
    new: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Write a model as ONNX or torch.export, and return what was compared.

    Args:
        model: one that `check_program` takes.
        samples: real ones that the program is compared on: pictures, uint8 (3, h, w), or clouds (n, 3).
        image_size: of inputs, where the model's own preprocessing says none.
        with_preprocessing: the program takes one picture of any size.
        half: the prediction network computes in float16.
        opset: of ONNX; None is the exporter's own.
        new: refuse to take another file's place.

    Raises:
        UsageError: this cannot be asked of the model.
        EquicliError: it cannot be traced or written, or does not say the same; then nothing is written.
    """
    if half:
        if isinstance(model.preprocess, CloudPreprocess):
            raise UsageError("--fp16: is for networks of pictures; leave it out.")
        model.half()
    asked = of_one_picture(model, samples) if with_preprocessing else of_batches(model, samples, image_size)
    cases = asked.cases
    progress.say(f"tracing; then {sum(len(c.turned) for c in cases)} inputs or batches are compared")
    program = trace(asked.graph, [asked.example], [asked.dynamic])

    def ask(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():  # a picture by Pillow, as `predict` has it
            return answer(model, model.pictures([x.permute(2, 0, 1)]) if with_preprocessing else model.tensors(x))

    names = list(ask(cases[0].turned[0]))
    group = model.canonicalizer.group
    with TemporaryDirectory(prefix="equicli-") as folder:
        file = Path(folder) / path.name
        run = write(form, program, names, file, opset)
        found = compare(
            ask, run, cases, runtime(form), "fp16" if half else "fp32", exact=is_finite(group) and group.exact
        )
        document = _document(found, model, asked.takes, half)
        metadata = json.dumps({**json.loads(config.to_json()), "program": document})
        seal(form, program, file, metadata)
        move({file: path}, new=new)
    return document


def is_pair(model: AdaptedModel) -> bool:
    """Whether two programs are made of it, as it answers prompts; see `pair`."""
    return isinstance(model.signature.inputs, Mapping)


def check_program(model: AdaptedModel, form: str) -> None:
    """
    Raises:
        UsageError: no program of this model is written.
    """
    group = model.canonicalizer.group
    if is_pair(model):
        if not makes_programs(model.prediction_network):
            raise UsageError(
                f"--format {form}: of this network that answers prompts no program is written; name a .safetensors "
                "file, which equicli.load reads."
            )
        if not (is_finite(group) and group.exact):
            raise UsageError(
                f"--format {form}: {group.name} turns pictures off the grid, and programs that answer prompts take a "
                "group of 90° steps; name a .safetensors file, which equicli.load reads."
            )
    if model.signature.lists and isinstance(model.policy, Gate):
        raise UsageError(
            f"--format {form}: its gate chooses between answers of other lengths, which no program holds; adapt with "
            "--passes 1."
        )
    if not model.canonicalizer.finds_poses:
        raise UsageError(f"--format {form}: this model finds no poses; export the network itself.")


def _document(found: Parity, model: AdaptedModel, takes: str, half: bool) -> dict[str, Any]:
    gate = {"gate_passes": model.policy.most} if isinstance(model.policy, Gate) else {}
    return {"input": takes, "precision": "fp16" if half else "fp32", **gate, "parity": asdict(found)}
