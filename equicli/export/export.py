"""An adapted model as one file that other runtimes run, written only where it was seen to say the same."""

import json
from collections.abc import Mapping
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
from equicli.export.programs import Wanted, move, runtime, seal, trace, write
from equicli.groups import is_finite
from equicli.model_config import ModelConfig
from equicli.policy import Gate
from equicli.prediction.promptable import makes_programs
from equicli.progress import Progress


def write_programs(
    path: Path, model: AdaptedModel, config: ModelConfig, wanted: Wanted, progress: Progress
) -> tuple[list[Path], dict[str, Any]]:
    """Write a model as one program, or as two where it answers prompts: these always take pictures of any size.

    Args:
        model: one that `check_program` takes.

    Returns:
        The files, and what was compared.

    Raises:
        UsageError: a file is there, or this cannot be asked of the model.
        EquicliError: it cannot be traced or written, or does not say the same; then nothing is written.
    """
    if wanted.half and isinstance(model.preprocess, CloudPreprocess):
        raise UsageError("--fp16: is for networks of pictures; leave it out.")
    if is_pair(model):
        return write_pair(path, model, config, wanted, progress)
    return [path], write_program(path, model, config, wanted, progress)


def write_program(
    path: Path, model: AdaptedModel, config: ModelConfig, wanted: Wanted, progress: Progress
) -> dict[str, Any]:
    """Write a model as one program, and return what was compared; see `write_programs`."""
    if wanted.half:
        model.half()
    form, samples, with_preprocessing = wanted.form, wanted.samples, wanted.with_preprocessing
    asked = of_one_picture(model, samples) if with_preprocessing else of_batches(model, samples, wanted.image_size)
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
        run = write(form, program, names, file, wanted.opset)
        found = compare(ask, run, cases, runtime(form), wanted.precision, exact=is_finite(group) and group.exact)
        document = _document(found, model, asked.takes, wanted.precision)
        metadata = json.dumps({**json.loads(config.to_json()), "program": document})
        seal(form, program, file, metadata)
        move({file: path}, new=wanted.new)
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


def _document(found: Parity, model: AdaptedModel, takes: str, precision: str) -> dict[str, Any]:
    gate = {"gate_passes": model.policy.most} if isinstance(model.policy, Gate) else {}
    return {"input": takes, "precision": precision, **gate, "parity": asdict(found)}
