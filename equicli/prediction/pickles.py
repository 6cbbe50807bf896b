"""Reading what torch.save wrote, without running any code in it.

Trainers write more than tensors: arguments, numbers of NumPy's, paths, dates. None of it is needed. torch.load with
`weights_only=True` refuses such classes, so each of those that are known to be harmless is allowed by its name, and
stands for an object of ours that does nothing, whatever the class itself would do. It need not even be installed.
"""

import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from equicli.errors import EquicliError, reason, shown
from equicli.prediction.file_kinds import ALONE, Kind

# Names of classes that stand for nothing. `\w+` never matches a dot, so that each pattern names whole modules.
_IGNORED = re.compile(
    r"argparse\.Namespace"
    r"|pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path"
    r"|datetime\.\w+|decimal\.Decimal|fractions\.Fraction|uuid\.\w+|types\.SimpleNamespace|typing\.\w+"
    r"|operator\.getitem"  # of typing.Optional[int] and the like
    r"|builtins\.(object|bool|int|float|complex|str|bytes|list|tuple|dict|set|frozenset|slice|range|type)"
    r"|numpy\.(ndarray|dtype|matrix|generic|bool_?|(u?int|float|complex|str|bytes|object|datetime|timedelta)\d*_?)"
    r"|numpy\.dtypes\.\w+DType"
    r"|numpy\.(_core|core)\.(multiarray|numeric)\.(scalar|_reconstruct|_frombuffer)"
    r"|numpy\.random\.(_pickle\.__\w+_ctor|_\w+\.\w+)"
    r"|omegaconf(\.\w+)*\.\w+"
    r"|mm(engine|cv)(\.\w+)*\.(HistoryBuffer|ConfigDict|Config)"
    r"|(pytorch_lightning|lightning(\.pytorch)?)\.callbacks(\.\w+)*\.\w+|lightning_fabric\.\w+(\.\w+)*\.\w+"
    r"|transformers\.(training_args|trainer_utils)\.\w+"
    r"|torch\.(torch_version\.TorchVersion|Generator|optim(\.\w+)*\.\w+|nn\.modules\.\w+\.\w+)"
)
# Those whose entries may hold the weights. They become plain dictionaries.
_MAPPINGS = re.compile(
    r"collections\.defaultdict|easydict\.EasyDict|addict(\.addict)?\.Dict|munch(\.\w+)?\.\w*Munch"
    r"|(yacs|fvcore\.common|detectron2\.config|iopath\.common)(\.\w+)*\.CfgNode"
    r"|(lightning|lightning_fabric|pytorch_lightning)(\.\w+)*\.AttributeDict"
    r"|mm(engine|cv|cls)(\.\w+)*\.ConfigDict"
)
_LISTS = re.compile(r"collections\.deque|fastcore\.foundation\.L")

_MODULE = re.compile(r"torch\.nn\.modules\.(?!loss|activation)\w+\.\w+")
_REFUSED = re.compile(r"GLOBAL (\S+)")


class Ignored:
    """Stands for an object beside the weights, or for a class; keeps nothing and does nothing."""

    def __new__(cls, *_: object, **__: object) -> "Ignored":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def read_pickle(path: Path, kind: Kind, name: str) -> Any:
    """Read a file of torch.save: nested plain containers, tensors, and `Ignored` in place of all else.

    Args:
        name: what an error calls the file.

    Raises:
        EquicliError: it holds objects of other classes, or is damaged.
    """
    names = set(_names_in(path, kind))
    stand_ins = [_stand_in(full) for full in names if _is_allowed(full)]
    try:
        with (
            path.open("rb") as file,  # by a path that ends in .safetensors torch reads something else
            warnings.catch_warnings(),
            torch.serialization.safe_globals(stand_ins),
        ):
            warnings.simplefilter("ignore")  # torch's, about other versions of pickle
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EquicliError(f"{name}: {_why_refused(str(error), names)}") from error
    except Exception as error:  # a damaged pickle fails in any way
        raise EquicliError(f"{name}: not a readable checkpoint ({reason(error)}). Get it again.") from error


def holds_module(name: str) -> str:
    """What is said of a whole pickled network of the class `name`."""
    return f"a whole pickled network ({shown(name)}), and code from a checkpoint is never run. Instead, {ALONE}."


def _why_refused(message: str, names: set[str]) -> str:
    found = _REFUSED.search(message)
    modules = sorted(filter(_MODULE.fullmatch, names))
    if found is None and modules:  # torch once saved their source, too
        return holds_module(modules[0])
    if found is None:
        if "persistent_load" in message or "operand" in message or "opcode" in message:
            return (
                "damaged, or written with another pickle_protocol than torch.save's own; code from a checkpoint is "
                f"never run. Get it again, or {ALONE}."
            )
        return f"not a readable file of torch.save; code from a checkpoint is never run. Get it again, or {ALONE}."
    refused = next((n for n in names if n == f"builtins.{found[1]}"), found[1])
    if modules:
        return holds_module(refused)
    return (
        f"holds an object of {shown(refused)} beside its weights, and code from a checkpoint is never run. "
        f"Instead, {ALONE}."
    )


def _is_allowed(full: str) -> bool:
    return any(pattern.fullmatch(full) for pattern in (_IGNORED, _MAPPINGS, _LISTS))


def _stand_in(full: str) -> Any:
    """A class that goes by the full name of another."""
    module, _, name = full.rpartition(".")
    namespace: dict[str, Any] = {"__module__": module}
    made: Any = None
    # torch fills no other classes than these.
    if _MAPPINGS.fullmatch(full):
        made = OrderedDict
    elif _LISTS.fullmatch(full):
        made = list
    if made is not None:
        namespace["__new__"] = lambda cls, *_, **__: made()
    return type(name, (Ignored,), namespace)


def _names_in(path: Path, kind: Kind) -> Iterator[str]:
    """The full names of the classes and functions that a file asks for."""
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                for member in archive.namelist():
                    if member.endswith("data.pkl"):
                        with archive.open(member) as file:
                            yield from _names_in_pickle(file)
        else:
            with path.open("rb") as legacy:
                for _ in range(4):  # a number, a version, the system, and then what was saved
                    yield from _names_in_pickle(legacy)
    except Exception:  # damaged: reading it says how
        return


def _names_in_pickle(file: IO[bytes]) -> Iterator[str]:
    texts: list[str] = []
    for code, argument, _ in pickletools.genops(file):
        if code.name == "GLOBAL":
            yield _renamed(*str(argument).split(" ", 1))
        elif code.name == "STACK_GLOBAL" and len(texts) > 1:
            yield _renamed(*texts[-2:])
        elif isinstance(argument, str):
            texts = [*texts[-1:], argument]


def _renamed(module: str, name: str) -> str:
    """The full name, with what Python 2 had, which protocol 2 writes, by its name of today."""
    if module == "__builtin__":
        return "builtins." + {"long": "int", "unicode": "str", "xrange": "range"}.get(name, name)
    return f"{module}.{name}"
