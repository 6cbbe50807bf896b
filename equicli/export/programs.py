"""Writing a graph as a program: ONNX or torch.export."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equicli.errors import EquicliError, reason

ONNX, TORCH_EXPORT = "onnx", "torch-export"
# The key of an ONNX file's metadata, and of a torch.export file's extra files.
METADATA = "equicli"

# Runs a written program: from an input to what it says, by name.
Run = Callable[[Tensor], Mapping[str, Tensor]]


def trace(graph: nn.Module, example: Tensor, dynamic: Mapping[int, Any]) -> torch.export.ExportedProgram:
    """Trace a graph.

    Args:
        dynamic: which axes of the input may have any size.

    Raises:
        EquicliError: it cannot be traced, told in one line.
    """
    try:
        with _hushed(), torch.no_grad():
            return torch.export.export(graph, (example,), dynamic_shapes=(dict(dynamic),))
    except Exception as error:  # of any network
        raise EquicliError(
            f"--format: torch.export cannot follow this model ({reason(error)}). Export safetensors."
        ) from error


def write_onnx(program: torch.export.ExportedProgram, names: list[str], path: Path, opset: int | None) -> None:
    """Write a program as ONNX.

    Args:
        names: of its outputs.

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
                input_names=["input"],
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
    name, names = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]

    def run(x: Tensor) -> Mapping[str, Tensor]:
        said = session.run(None, {name: x.numpy()})
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

    def run(x: Tensor) -> Mapping[str, Tensor]:
        with torch.no_grad():
            return dict(module(x))

    return run


@contextmanager
def _hushed() -> Iterator[None]:
    """Exporters warn of their own affairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
