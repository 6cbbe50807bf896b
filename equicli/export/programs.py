"""Writing a graph as a program: ONNX or torch.export."""

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equicli.errors import EquicliError, reason
from equicli.files import replacing, writing_output

ONNX, TORCH_EXPORT = "onnx", "torch-export"
# The key of an ONNX file's metadata, and of a torch.export file's extra files.
METADATA = "equicli"

INPUT = "input"  # of a program that takes one

# Runs a written program: from its inputs, in their order, to what it says, by name.
Run = Callable[..., Mapping[str, Tensor]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    form: `ONNX` or `TORCH_EXPORT`.
    samples: real ones that a program is compared on: pictures, uint8 (3, h, w), or clouds (n, 3).
    image_size: of inputs, where the model's own preprocessing says none.
    with_preprocessing: the program takes one picture of any size.
    half: the prediction network computes in float16.
    opset: of ONNX; None is the exporter's own.
    new: refuse to take another file's place.
    """

    form: str
    samples: Sequence[Tensor]
    image_size: int | None = None
    with_preprocessing: bool = False
    half: bool = False
    opset: int | None = None
    new: bool = True

    @property
    def precision(self) -> str:
        return "fp16" if self.half else "fp32"


def trace(graph: nn.Module, examples: Sequence[Tensor], dynamic: Sequence[Any]) -> torch.export.ExportedProgram:
    """Trace a graph.

    Args:
        examples: its inputs. dynamic: of each which axes may have any size.

    Raises:
        EquicliError: it cannot be traced, told in one line.
    """
    try:
        with _hushed(), torch.no_grad():
            return torch.export.export(graph, tuple(examples), dynamic_shapes=tuple(dynamic))
    except Exception as error:  # of any network
        raise EquicliError(
            f"--format: torch.export cannot follow this model ({reason(error)}). Export safetensors."
        ) from error


def write_onnx(
    program: torch.export.ExportedProgram,
    names: list[str],
    path: Path,
    opset: int | None,
    inputs: Sequence[str] = (INPUT,),
) -> None:
    """Write a program as ONNX.

    Args:
        names, inputs: of its outputs and its inputs.

    Raises:
        EquicliError: an operation has no translation, or the extra is missing.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise EquicliError("--format onnx: takes the extra onnx: pip install 'equicli[onnx]'") from None
    try:
        with _hushed():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=list(inputs),
                output_names=names,
                verbose=False,
                optimize=True,
            )
            assert made is not None
            made.save(path, external_data=False)
    except Exception as error:
        root: BaseException = error
        while root.__cause__ is not None:  # the first says only which step failed
            root = root.__cause__
        raise EquicliError(f"--format onnx: cannot be written ({reason(root)}). Export torch-export.") from error


def onnx_session(path: Path) -> Any:
    """Open an ONNX file in ONNX Runtime, on the CPU.

    Raises:
        EquicliError: it runs none of the kind.
    """
    try:
        import onnxruntime
    except ImportError:
        raise EquicliError("--format onnx: takes the extra onnx: pip install 'equicli[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EquicliError(f"--format onnx: ONNX Runtime refuses it ({reason(error)}); nothing is written.") from error


def onnx_run(path: Path) -> Run:
    session = onnx_session(path)
    inputs, names = ([one.name for one in ends] for ends in (session.get_inputs(), session.get_outputs()))

    def run(*given: Tensor) -> Mapping[str, Tensor]:
        said = session.run(None, {name: x.numpy() for name, x in zip(inputs, given, strict=True)})
        return {key: torch.from_numpy(value) for key, value in zip(names, said, strict=True)}

    return run


def add_to_onnx(path: Path, metadata: str) -> None:
    """Keep a text in an ONNX file."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA: metadata})
    onnx.save(model, path)


def write_torch(program: torch.export.ExportedProgram, path: Path, metadata: str) -> None:
    with _hushed():
        torch.export.save(program, path, extra_files={METADATA: metadata})


def torch_run(path: Path) -> Run:
    with _hushed():
        module = torch.export.load(path).module()

    def run(*given: Tensor) -> Mapping[str, Tensor]:
        with torch.no_grad():
            return dict(module(*given))

    return run


def write(
    form: str,
    program: torch.export.ExportedProgram,
    names: list[str],
    path: Path,
    opset: int | None,
    inputs: Sequence[str] = (INPUT,),
) -> Run:
    """Write a program in a format, and return what runs it; see `write_onnx`."""
    if form == ONNX:
        write_onnx(program, names, path, opset, inputs)
        return onnx_run(path)
    write_torch(program, path, "")
    return torch_run(path)


def seal(form: str, program: torch.export.ExportedProgram, path: Path, metadata: str) -> None:
    """Keep a text in a program's file."""
    if form == ONNX:
        add_to_onnx(path, metadata)
    else:
        write_torch(program, path, metadata)


def runtime(form: str) -> str:
    """What runs programs of this format, and its version."""
    if form != ONNX:
        return f"torch {torch.__version__}"
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def move(files: Mapping[Path, Path], *, new: bool) -> None:
    """Put files where they belong: none takes its place before all are written beside theirs.

    Raises:
        UsageError: one is there, and `new` says that it may not be.
    """
    with ExitStack() as stack:
        for file, path in files.items():
            stack.enter_context(writing_output(path))
            shutil.copyfile(file, stack.enter_context(replacing(path, new=new)))


@contextmanager
def _hushed() -> Iterator[None]:
    """Exporters warn of their own affairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
