"""Which output stands for which class, as a file of the user's says."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equicli.data.names import normal
from equicli.errors import UsageError, did_you_mean, shown
from equicli.prediction.classes import find_label
from equicli.recipes import read_yaml

_CLASS_FIRST = re.compile(r"(.*?)\s*(?:=>|->|[\s,;:=])\s*(\d+)")
_OUTPUT_FIRST = re.compile(r"(\d+)\s*(?:=>|->|[\s,;:=])\s*(.*)")


def read_class_map(path: str, classes: Sequence[str], outputs: int) -> dict[str, int]:
    """The output of each class folder.

    Args:
        path: JSON or YAML, a mapping from class to output or from output to class (or to several names of it), or a
            list of classes in the order of outputs; or text with a class a line, in that order or with its output.
        outputs: how many the network has.

    Raises:
        UsageError: it cannot be read, lacks a class, or names an output that the network has not.
    """
    mapping = _read(Path(path))
    found: dict[str, int] = {}
    for name in classes:
        output = find_label(name, mapping)
        if output is None:
            raise UsageError(
                f"--class-map {path}: no output for class folder '{shown(name)}'.{did_you_mean(name, mapping)}"
            )
        if not 0 <= output < outputs:
            raise UsageError(
                f"--class-map {path}: '{shown(name)}' is output {output}; the network has 0 to {outputs - 1}."
            )
        found[name] = output
    return found


def _read(path: Path) -> dict[str, int]:
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        content = read_yaml(path, "--class-map")
    else:
        text = _read_text(path)
        content = _of_json(path, text) if suffix == ".json" else _of_lines(text)
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping) or not content:
        raise UsageError(f"--class-map {path}: wants a mapping from class to output, or a list of classes.")
    return _directed(path, content)


def _directed(path: Path, content: Mapping[Any, Any]) -> dict[str, int]:
    """A mapping from class to output, also where the file has it the other way round."""
    numbers = {str(key): _number(value) for key, value in content.items()}
    if all(number is not None for number in numbers.values()):
        return {normal(name): number for name, number in numbers.items() if number is not None}
    mapping: dict[str, int] = {}
    for key, value in content.items():
        output = _number(key)
        names = value if isinstance(value, list) else [value]
        if output is None or not names or not all(isinstance(name, str | int) for name in names):
            raise UsageError(f"--class-map {path}: '{shown(key)}: {shown(value)}' is no class with its output.")
        for name in names:
            if mapping.setdefault(normal(str(name)), output) != output:
                raise UsageError(
                    f"--class-map {path}: '{shown(name)}' has two outputs, {mapping[str(name)]}, {output}."
                )
    return mapping


def _number(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return int(value) if isinstance(value, int) or value.strip().isdecimal() else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"--class-map {path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UsageError(f"--class-map {path}: not a text file.") from None


def _of_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"--class-map {path}: not valid JSON.") from None


def _of_lines(text: str) -> dict[Any, Any]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (_CLASS_FIRST, _OUTPUT_FIRST):
        matches = [match for line in lines if (match := pattern.fullmatch(line))]
        pairs = {match[1]: match[2] for match in matches}
        if len(pairs) == len(lines):
            return pairs
    return dict(enumerate(lines))
