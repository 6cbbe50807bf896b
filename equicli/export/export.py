"""An adapted model as one file that other runtimes run, written only where it was seen to say the same."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.errors import UsageError
from equicli.export.graph import ImagesGraph, answer
from equicli.export.parity import Case, Parity, compare
from equicli.export.picture_graph import PictureGraph
from equicli.export.programs import ONNX, add_to_onnx, onnx_run, torch_run, trace, write_onnx, write_torch
from equicli.files import write_whole
from equicli.groups import as_finite, is_finite
from equicli.groups.action import act
from equicli.groups.elements import Element
from equicli.model_config import ModelConfig
from equicli.policy import Gate
from equicli.progress import Progress

# Random inputs that parity is checked on: batches of so many.
RANDOM = (1, 3)
CHUNK = 1 << 22
ANGLES = 8  # that inputs are turned by, at most


def write_program(
    path: Path,
    model: AdaptedModel,
    config: ModelConfig,
    form: str,
    *,
    pictures: Sequence[Tensor],
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
        pictures: real ones that the program is compared on, uint8 (3, h, w).
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
        model.half()
    cases, graph, dynamic = _cases(model, pictures, image_size, with_preprocessing)
    progress.say(f"tracing; then {sum(len(c.turned) for c in cases)} inputs or batches are compared")
    program = trace(graph, cases[0].turned[0] if with_preprocessing else _pair(cases[0].turned[0]), dynamic)

    def ask(x: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():  # a picture by Pillow, as `predict` has it
            return answer(model, model.pictures([x.permute(2, 0, 1)]) if with_preprocessing else model.tensors(x))

    names = list(ask(cases[0].turned[0]))
    group = model.canonicalizer.group
    with TemporaryDirectory(prefix="equicli-") as folder:
        file = Path(folder) / path.name
        if form == ONNX:
            write_onnx(program, names, file, opset)
            run = onnx_run(file)
        else:
            write_torch(program, file, "")
            run = torch_run(file)
        found = compare(
            ask, run, cases, _runtime(form), "fp16" if half else "fp32", exact=is_finite(group) and group.exact
        )
        document = _document(found, model, with_preprocessing, half)
        metadata = json.dumps({**json.loads(config.to_json()), "program": document})
        if form == ONNX:
            add_to_onnx(file, metadata)
        else:
            write_torch(program, file, metadata)
        _move(file, path, new=new)
    return document


def check_program(model: AdaptedModel, form: str) -> None:
    """
    Raises:
        UsageError: no program of this model is written.
    """
    if isinstance(model.preprocess, CloudPreprocess):
        raise UsageError(f"--format {form}: is for networks of pictures; of clouds export safetensors.")
    if not model.canonicalizer.finds_poses:
        raise UsageError(f"--format {form}: this model finds no poses; export the network itself.")


def _cases(
    model: AdaptedModel, pictures: Sequence[Tensor], image_size: int | None, whole: bool
) -> tuple[list[Case], nn.Module, dict[int, Any]]:
    any_size = torch.export.Dim.DYNAMIC
    generator = torch.Generator().manual_seed(0)
    if whole:
        frames = ((61, 83), (160, 97))
        noise = [torch.randint(0, 256, (3, *frame), dtype=torch.uint8, generator=generator) for frame in frames]
        cases = [Case(_turned(model, picture, last=True), False) for picture in noise]
        cases += [Case(_turned(model, picture, last=True), True) for picture in pictures]
        return cases, PictureGraph(model), {0: any_size, 1: any_size}
    size = model.preprocess.size or image_size or _size_of(pictures)
    channels = model.preprocess.normalization.channels
    inputs = [torch.randn(count, channels, size, size, generator=generator) for count in RANDOM]
    cases = [Case(_turned(model, x), False) for x in inputs]
    prepare, normalize = model.preprocess, model.preprocess.normalization
    real = [normalize(shown) for picture in pictures if (shown := prepare(picture)).shape[-2:] == (size, size)]
    if real:
        cases.append(Case(_turned(model, torch.stack(real)), True))
    return cases, ImagesGraph(model), {0: any_size}


def _size_of(pictures: Sequence[Tensor]) -> int:
    """The side of the first picture, of a network that takes pictures as they are."""
    if pictures and pictures[0].shape[-1] == pictures[0].shape[-2]:
        return int(pictures[0].shape[-1])
    raise UsageError("--image-size: nothing says which size this network's inputs have; name it.")


def _turned(model: AdaptedModel, x: Tensor, *, last: bool = False) -> list[Tensor]:
    """An input turned by each element; a picture becomes (h, w, 3)."""
    group = model.canonicalizer.group
    elements: list[Element] = []
    if is_finite(group):
        order = as_finite(group).order
        elements = list(range(0, order, max(1, order // ANGLES)))
    else:
        found = [group.find(360 / ANGLES * k, False) for k in range(ANGLES)]
        elements = [element for element in found if element is not None]
    turned = [act(group, element, x, padding=model.padding) for element in elements]
    return [picture.permute(1, 2, 0).contiguous() for picture in turned] if last else turned


def _pair(x: Tensor) -> Tensor:
    """An example of a batch that may have any size: one of 1 would be taken for what it always is."""
    return torch.cat([x, x]) if len(x) == 1 else x


def _document(found: Parity, model: AdaptedModel, whole: bool, half: bool) -> dict[str, Any]:
    gate = {"gate_passes": model.policy.most} if isinstance(model.policy, Gate) else {}
    return {
        "input": "uint8 (h, w, 3)" if whole else "float32 (b, c, h, w), preprocessed",
        "precision": "fp16" if half else "fp32",
        **gate,
        "parity": asdict(found),
    }


def _runtime(form: str) -> str:
    if form != ONNX:
        return f"torch {torch.__version__}"
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def _move(file: Path, path: Path, *, new: bool) -> None:
    with file.open("rb") as source:
        try:
            write_whole(path, iter(lambda: source.read(CHUNK), b""), new=new)
        except FileExistsError:
            raise UsageError(f"--output {path}: exists; name another file or add --overwrite.") from None
