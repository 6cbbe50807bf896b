"""What people write: paths, `key=value` pairs, YAML files and recipes. Read as text and data, never evaluated."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from equicli.errors import UsageError, did_you_mean


def expand_path(path: str) -> str:
    """Make a path absolute, so that a run can be used from anywhere; replace `~` and `${VARIABLE}` in it.

    Raises:
        UsageError: a variable is not set.
    """
    missing = [name for name in re.findall(r"\$\{(\w+)\}", path) if not os.environ.get(name)]
    if missing:
        raise UsageError(f"{path}: the environment variable {missing[0]} is not set; it is to name a folder.")
    try:
        return str(Path(os.path.expandvars(path)).expanduser().absolute())
    except RuntimeError:
        raise UsageError(f"{path}: there is no such home folder.") from None


def local_path(value: Any) -> Any:
    """Make a path absolute; what is no text stays as it is. Raises a ValueError for an empty one."""
    if value == "":
        raise ValueError("an empty path")
    return expand_path(value) if isinstance(value, str) else value


def expand_checkpoint(value: Any) -> Any:
    """Make a file's path absolute; what is on the Hub stays as it is."""
    return value if str(value).startswith("hf-hub:") else local_path(value)


def expand_origin(value: Any) -> Any:
    """Make the path of a run or file absolute; owner/name[@revision] of which there is none here is on the Hub.

    A link, such as `runs/latest`, is followed now: the run that starts from it will be the latest.
    """
    if not isinstance(value, str) or not value or value.startswith("hf-hub:"):
        return expand_checkpoint(value)
    if (path := Path(expand_path(value))).exists():
        return str(path.resolve())
    on_the_hub = re.fullmatch(r"(?!runs/)\w[\w.-]*/[\w.-]+(@[^@]+)?", value) and not value.endswith(".safetensors")
    return f"hf-hub:{value}" if on_the_hub else local_path(value)


class _Loader(yaml.SafeLoader):
    """Reads `1e-4` as a number, as YAML 1.2 and people do; PyYAML takes it for text. Keys are text, also `no`, `0`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_yaml(text: str) -> Any:
    """Read YAML as plain values.

    Raises:
        ValueError: it is not valid.
    """
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # of dates, numbers and depths that there are not, PyYAML raises anything
        raise ValueError("no valid YAML") from error


def parse_pair(text: str, flag: str) -> tuple[str, Any]:
    """Split `key=value` and read the value as YAML does (numbers, true, lists), never by evaluating it."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"{flag} {text}: write it as key=value.")
    try:
        return key, parse_yaml(value)
    except ValueError:
        raise UsageError(f"{flag} {text}: the value is not valid YAML.") from None


def recipe_folder() -> Path:
    """Where the shipped recipes lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def load_recipe(name: str) -> dict[str, Any]:
    """Read a recipe by name (one that is shipped) or by file.

    Raises:
        UsageError: there is no such recipe, or it is not a YAML mapping.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = recipe_folder() / f"{name}.yaml"
        if not path.is_file():
            known = sorted(str(p.relative_to(recipe_folder()).with_suffix("")) for p in recipe_folder().rglob("*.yaml"))
            hint = did_you_mean(name, known) or f" Known: {', '.join(known)}."
            raise UsageError(f"--recipe {name}: no such recipe.{hint} A recipe of your own is a .yaml file.")
    content = read_yaml(path, "--recipe")
    if not isinstance(content, dict):
        raise UsageError(f"--recipe {path}: a recipe is a mapping of keys to values.")
    return content


def read_yaml(path: Path, flag: str) -> Any:
    """Read a YAML file; `flag` is what an error says that named it.

    Raises:
        UsageError: it cannot be read, or is not valid.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{flag} {path}: cannot be read ({error.strerror}).") from None
    except ValueError:  # also of bytes that are no UTF-8
        raise UsageError(f"{flag} {path}: not a valid YAML file.") from None
