"""The typed configuration of `equicli adapt`: a flag wins over the recipe, the recipe over the default."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from equicli.errors import UsageError, did_you_mean
from equicli.groups import parse_planar_group

Scalar = bool | int | float | str | None


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


def _local_path(value: Any) -> Any:
    if value == "":
        raise ValueError("an empty path")
    return expand_path(value) if isinstance(value, str) else value


LocalPath = Annotated[str, BeforeValidator(_local_path)]


Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]


class _Loader(yaml.SafeLoader):
    """Reads `1e-4` as a number, as YAML 1.2 and people do; PyYAML takes it for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class CanonicalizerConfig(_Frozen):
    """The small trainable part. `network` is `conv` (ours) or any timm or torchvision network."""

    network: str = Field("conv", description="`conv`, a timm name, `hf-hub:owner/name` or `torchvision:NAME`")
    checkpoint: LocalPath | None = Field(None, description="weights to start from, in place of the Hub's")
    size: int = Field(64, ge=8, le=1024, description="side in pixels of the square image that it looks at")
    width: int = Field(32, ge=4, le=1024, description="channels of the first stage of `conv`")
    vector_size: int = Field(128, ge=2, le=4096, description="length of the vector that is compared with the reference")
    temperature: float = Field(0.1, ge=0.02, le=1.0, description="initial temperature of the scores; learned")

    @model_validator(mode="after")
    def _loadable(self) -> "CanonicalizerConfig":
        if self.network == "conv" and self.checkpoint is not None:
            raise ValueError("--canonicalizer-checkpoint needs --canonicalizer-network; conv starts untrained")
        if self.network.startswith("python:"):
            raise ValueError(
                "a canonicalization network of your own code could not be loaded again; name timm's or torchvision's"
            )
        return self


class AdaptConfig(_Frozen):
    """All that decides what `equicli adapt` trains. Written to `resolved.yaml`, which is itself a recipe."""

    data: LocalPath = Field(description="an image folder")
    model: str = Field(description="the prediction network")
    checkpoint: LocalPath | None = Field(None, description="a file of weights for the prediction network")
    revision: str | None = Field(None, description="branch, tag or commit of the Hub repository")
    model_args: dict[str, Scalar] = Field({}, description="arguments of the prediction network's constructor")
    head: Literal["auto", "none"] = Field("auto", description="fit a linear head where the classes do not match")
    preprocess: Literal["checkpoint", "none"] = Field("checkpoint", description="none: only normalize")
    image_size: int | None = Field(None, ge=8, le=4096)
    mean: tuple[Share, Share, Share] | None = Field(None, description="of images in [0, 1]")
    std: tuple[Deviation, Deviation, Deviation] | None = Field(None, description="of images in [0, 1]")

    group: str = "c4"
    canonicalizer: CanonicalizerConfig = CanonicalizerConfig()
    prior_weight: float = Field(1.0, ge=0)
    contrast_weight: float = Field(0.1, ge=0)
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of the training images that chooses the epoch"
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share held out where the folder has no test split")

    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="of training; auto: bf16 on CUDA")
    strict: bool = Field(False, description="stop at an unreadable image instead of skipping it")

    @field_validator("group")
    @classmethod
    def _known_group(cls, name: str) -> str:
        group = parse_planar_group(name)
        if group.order == 1:
            raise ValueError("the trivial group leaves nothing to learn; c4 stands for rotations by 90°")
        return group.name

    @model_validator(mode="after")
    def _sized_once(self) -> "AdaptConfig":
        if self.preprocess == "none" and self.image_size is not None:
            raise ValueError("--image-size resizes, which --preprocess none forbids; give one of them")
        return self


def build_config(flags: Mapping[str, Any], settings: list[str], recipe: str | None) -> AdaptConfig:
    """Merge recipe, `--set` pairs and flags into one checked configuration.

    Args:
        flags: keys as in `AdaptConfig`, dotted for nested ones; a value of None means not given.
        settings: `key=value` texts; keys dotted, values as in YAML.
        recipe: a recipe's name or YAML file, or None.

    Raises:
        UsageError: an unknown key (with the nearest known one), or a value that does not fit.
    """
    merged: dict[str, Any] = load_recipe(recipe) if recipe else {}
    for text in settings:
        key, value = parse_pair(text, "--set")
        _put(merged, key, value)
    for key, value in flags.items():
        if value is not None:
            _put(merged, key, value)
    _check_keys(merged, AdaptConfig, "")
    for key, flag in (("data", "DATA"), ("model", "--model")):
        if key not in merged:
            raise UsageError(f"{flag} is missing: name it on the command line or in a recipe.")
    try:
        return AdaptConfig.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        # Beside keys, pydantic names the types of a union that it tried.
        types = ("bool", "int", "float", "str")
        parts = [str(part) for part in first["loc"] if part not in types or len(first["loc"]) < 3]
        key = ".".join(parts)
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"{message}."
            if first["type"] == "value_error" and isinstance(first["input"], dict | BaseModel)
            else f"{key} = {first['input']!r}: {message}."
        ) from None


def parse_pair(text: str, flag: str) -> tuple[str, Any]:
    """Split `key=value` and read the value as YAML does (numbers, true, lists), never by evaluating it."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"{flag} {text}: write it as key=value.")
    try:
        return key, yaml.load(value, _Loader)
    except yaml.YAMLError:
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
            known = sorted(p.stem for p in recipe_folder().glob("*.yaml"))
            hint = did_you_mean(name, known) or f" Known: {', '.join(known)}."
            raise UsageError(f"--recipe {name}: no such recipe.{hint} A recipe of your own is a .yaml file.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UsageError(f"--recipe {path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise UsageError(f"--recipe {path}: not a valid YAML file.") from None
    if not isinstance(content, dict):
        raise UsageError(f"--recipe {path}: a recipe is a mapping of keys to values.")
    return content


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UsageError(f"{dotted}: '{parent}' holds a value, not further keys.")
    tree[leaf] = value


def _check_keys(tree: Mapping[str, Any], model: type[BaseModel], prefix: str) -> None:
    for key, value in tree.items():
        field = model.model_fields.get(str(key))
        if field is None:
            raise UsageError(f"unknown key '{prefix}{key}'.{did_you_mean(f'{prefix}{key}', _known_keys(AdaptConfig))}")
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            if not isinstance(value, Mapping):
                raise UsageError(
                    f"{prefix}{key} = {value!r}: holds further keys, such as {key}.{next(iter(nested.model_fields))}."
                )
            _check_keys(value, nested, f"{prefix}{key}.")


def _known_keys(model: type[BaseModel]) -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            keys += [f"{name}.{inner}" for inner in _known_keys(nested)]
        keys.append(name)
    return keys
