"""The typed configuration of `equicli adapt`: a flag wins over the recipe, the recipe over the default."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from equicli.errors import UsageError, did_you_mean
from equicli.groups import Group, is_finite, parse_group
from equicli.groups.labels import read_label, write_label
from equicli.recipes import expand_checkpoint, expand_path, load_recipe, local_path, parse_pair, read_yaml

Scalar = bool | int | float | str | None


LocalPath = Annotated[str, BeforeValidator(local_path)]
# hf-hub:owner/name[@revision]/file, or a local file.
CheckpointPath = Annotated[str, BeforeValidator(expand_checkpoint)]


Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseModel):
    """A part of the configuration: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class CanonicalizerSettings(Settings):
    """What every canonicalizer's settings have; each kind adds its own."""

    kind: str


class AdaptConfig(Settings):
    """All that decides what `equicli adapt` trains. Written to `resolved.yaml`, which is itself a recipe."""

    data: LocalPath = Field(description="an image folder")
    model: str = Field(description="the prediction network")
    checkpoint: CheckpointPath | None = Field(None, description="a file of weights for the prediction network")
    revision: str | None = Field(None, description="branch, tag or commit of the Hub repository")
    model_args: dict[str, Scalar] = Field({}, description="arguments of the prediction network's constructor")
    prompts: LocalPath | None = Field(None, description="of a zero-shot network's classes: a text or YAML file")
    head: Literal["auto", "none"] = Field("auto", description="fit a linear head where the classes do not match")
    preprocess: Literal["checkpoint", "none"] = Field("checkpoint", description="none: only normalize")
    image_size: int | None = Field(None, ge=8, le=4096)
    mean: tuple[Share, Share, Share] | None = Field(None, description="of images in [0, 1]")
    std: tuple[Deviation, Deviation, Deviation] | None = Field(None, description="of images in [0, 1]")

    group: str = "c4"
    # Settings of one kind of canonicalizer; which keys there are is the kind's own affair.
    canonicalizer: SerializeAsAny[CanonicalizerSettings] = Field(None, validate_default=True)
    average: Literal["none", "probabilities", "logits"] = Field(
        "none", description="instead of choosing a pose: the mean of the network's outputs over all, weighted by p(g|x)"
    )
    train_base: bool = Field(False, description="train the prediction network, too, on the task's own loss")
    augment: bool = Field(False, description="turn training images at random; --canonicalizer none only")
    prior: tuple[str, ...] | dict[str, Share] = Field(
        (), validate_default=True, description="poses that the network expects; or the share of each, adding up to 1"
    )
    padding: Literal["edge", "reflect", "zeros"] = Field("edge", description="what turned images show from outside")
    prior_weight: float = Field(None, ge=0, validate_default=True, description="default: 1 where poses are found")
    contrast_weight: float = Field(
        None, ge=0, validate_default=True, description="default: 0.1 where views are compared"
    )
    artifact_weight: float = Field(
        0.0, ge=0, description="makes poses off the grid agree, at the cost of a second pass"
    )
    mirror: bool = Field(True, description="mirror training images at random, where the prior allows; not for text")
    task_weight: float = Field(
        None,
        ge=0,
        validate_default=True,
        description="of the task's own loss, which needs labels and whole images; default: 1 with train_base, else 0",
    )
    crop: Literal["zoom", "shift"] = Field(
        None,
        validate_default=True,
        description="crop training images at random. zoom: to 60-100 % of the side; shift: by up to an eighth of it, "
        "which does not blur; default: shift where the prediction network sees them (task_weight), else zoom",
    )
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(None, gt=0, validate_default=True, description="default: what the canonicalizer wants")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with momentum 0.9")
    schedule: Literal["cosine", "steps", "constant"] = Field(
        "cosine",
        description="cosine: with a warm-up; steps: a tenth after 1/3 and 1/2 of the epochs, of over 100 after 1/6 too",
    )
    base_learning_rate: float = Field(1e-4, gt=0, description="of the prediction network, with train_base")
    weight_decay: float = Field(0.01, ge=0)
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of the training images that chooses the epoch"
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share held out where the folder has no test split")

    seed: int = Field(0, ge=0)
    split_seed: int | None = Field(None, ge=0, description="of the split into parts; default: seed")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="of training; auto: bf16 on CUDA")
    strict: bool = Field(False, description="stop at an unreadable image instead of skipping it")

    @field_validator("group")
    @classmethod
    def _known_group(cls, name: str) -> str:
        group = parse_group(name)
        if group.dimension != 2:
            raise ValueError(f"--group {name}: turns points in space; images take c4, d4, so2 or o2")
        if group.order == 1:
            raise ValueError("the trivial group leaves nothing to learn; c4 stands for rotations by 90°")
        return group.name

    @field_validator("canonicalizer", mode="before")
    @classmethod
    def _of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        if "group" not in info.data:
            return CanonicalizerSettings(kind="")  # the group is wrong, which is told first
        group = parse_group(info.data["group"])
        keys = dict(value or {})
        kind = keys.setdefault("kind", _default_kind(group.name))
        canonicalizer = _find_kind(kind)
        if not canonicalizer.takes(group):
            fitting = [name for name, other in _kinds().items() if other.takes(group)]
            raise ValueError(f"--canonicalizer {kind}: not for --group {group.name}, which takes {', '.join(fitting)}")
        return canonicalizer.Settings.model_validate(keys)

    @field_validator("prior", mode="before")
    @classmethod
    def _prior_of_the_group(cls, value: Any, info: ValidationInfo) -> Any:
        if "group" not in info.data:
            return ()
        return _read_prior(value, info.data["group"])

    @field_validator("prior_weight", "contrast_weight", "task_weight", "learning_rate", mode="before")
    @classmethod
    def _of_the_canonicalizer(cls, value: Any, info: ValidationInfo) -> Any:
        """Fill in what depends on the kind of canonicalizer, and refuse what does nothing for it."""
        kind = info.data["canonicalizer"].kind if "canonicalizer" in info.data else ""
        if kind not in _kinds():
            return 1.0 if value is None else value  # something is wrong, which is told first
        canonicalizer, name, base = _find_kind(kind), info.field_name, info.data.get("train_base", False)
        if value and name == "prior_weight" and not canonicalizer.finds_poses:
            raise ValueError(f"prior_weight: --canonicalizer {kind} finds no poses; leave it out")
        if value and name == "contrast_weight" and not canonicalizer.compares_views:
            raise ValueError(f"contrast_weight: --canonicalizer {kind} compares no views; leave it out")
        if value and name == "task_weight" and not canonicalizer.learns and not base:
            raise ValueError(f"task_weight: --canonicalizer {kind} trains nothing; leave it out, or add --train-base")
        if value == 0 and name == "task_weight" and base:
            raise ValueError("task_weight: --train-base trains on the task's loss; leave it out, or above 0")
        defaults = {
            "prior_weight": float(canonicalizer.finds_poses),
            "contrast_weight": 0.1 * canonicalizer.compares_views,
            "task_weight": float(base),
            "learning_rate": canonicalizer.learning_rate,
        }
        return defaults[str(name)] if value is None else value

    @field_validator("crop", mode="before")
    @classmethod
    def _crop_for_who_looks(cls, value: Any, info: ValidationInfo) -> Any:
        return ("shift" if info.data.get("task_weight") else "zoom") if value is None else value

    @field_validator("average")
    @classmethod
    def _averages_over_finitely_many(cls, value: str, info: ValidationInfo) -> str:
        group = parse_group(info.data.get("group", "c4"))
        if value != "none" and not is_finite(group):
            raise ValueError(f"average: {group.name} has infinitely many poses; take a group such as c8")
        return value

    @field_validator("augment")
    @classmethod
    def _augments_what_has_no_pose(cls, value: bool, info: ValidationInfo) -> bool:
        kind = info.data["canonicalizer"].kind if "canonicalizer" in info.data else ""
        if value and kind in _kinds() and _find_kind(kind).finds_poses:
            raise ValueError(f"augment: --canonicalizer {kind} learns from the poses that images have; leave it out")
        if value and not info.data.get("train_base"):
            raise ValueError("augment: nothing is trained without --train-base")
        return value

    @field_validator("artifact_weight")
    @classmethod
    def _artifacts_off_the_grid(cls, value: float, info: ValidationInfo) -> float:
        group = parse_group(info.data.get("group", "so2"))
        if value and is_finite(group) and group.exact:
            raise ValueError(f"artifact_weight: {group.name} permutes pixels, so there are no artifacts; leave it out")
        kind = info.data["canonicalizer"].kind if "canonicalizer" in info.data else ""
        if value and kind in _kinds() and not (_find_kind(kind).finds_poses and _find_kind(kind).learns):
            raise ValueError(f"artifact_weight: --canonicalizer {kind} learns no poses; leave it out")
        return value

    @model_validator(mode="after")
    def _learns(self) -> "AdaptConfig":
        finds = _find_kind(self.canonicalizer.kind).finds_poses
        if finds and self.prior_weight == 0 and self.task_weight == 0:
            raise ValueError("prior_weight and task_weight are both 0, so nothing is learned; leave prior_weight at 1")
        return self

    @model_validator(mode="after")
    def _sized_once(self) -> "AdaptConfig":
        if self.preprocess == "none" and self.image_size is not None:
            raise ValueError("--image-size resizes, which --preprocess none forbids; give one of them")
        return self


def build_config(
    flags: Mapping[str, Any], settings: Sequence[str], recipe: str | Mapping[str, Any] | None
) -> AdaptConfig:
    """Merge recipe, `--set` pairs and flags into one checked configuration.

    Args:
        flags: keys as in `AdaptConfig`, dotted for nested ones; a value of None means not given.
        settings: `key=value` texts; keys dotted, values as in YAML.
        recipe: a recipe's name or YAML file, what `load_recipe` read of one, or None.

    Raises:
        UsageError: an unknown key (with the nearest known one), or a value that does not fit.
    """
    shared = load_recipe(recipe) if isinstance(recipe, str) else recipe or {}
    merged: dict[str, Any] = copy.deepcopy(dict(shared))
    for text in settings:
        key, value = parse_pair(text, "--set")
        _put(merged, key, value)
    for key, value in flags.items():
        if value is not None:
            _put(merged, key, value)
    if shared:
        _drop_other_kind(merged, shared, {key for key, value in flags.items() if value is not None})
    _check_keys(merged)
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
        # Messages of our own name what they are about.
        named = isinstance(first["input"], dict | BaseModel) or message.startswith(("--", f"{key}:"))
        raise UsageError(
            f"{message}." if first["type"] == "value_error" and named else f"{key} = {first['input']!r}: {message}."
        ) from None


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, leaf = dotted.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UsageError(f"{dotted}: '{parent}' holds a value, not further keys.")
    tree[leaf] = value


def _check_keys(tree: Mapping[str, Any]) -> None:
    nested = tree.get("canonicalizer", {})
    if not isinstance(nested, Mapping):
        raise UsageError(f"canonicalizer = {nested!r}: holds further keys, such as canonicalizer.kind.")
    kind = nested.get("kind") or _default_kind(str(tree.get("group", "c4")))
    inner = [f"canonicalizer.{key}" for key in _find_kind(kind).Settings.model_fields] if nested else []
    known = [*AdaptConfig.model_fields, *inner]
    remedy = " The resolved.yaml of a run has all of them."
    for key in (*tree, *(f"canonicalizer.{key}" for key in nested)):
        if key not in known:
            owner = f" of --canonicalizer {kind}" if str(key).startswith("canonicalizer.") else ""
            raise UsageError(f"unknown key '{key}'{owner}.{did_you_mean(str(key), known) or remedy}")


def _drop_other_kind(merged: dict[str, Any], recipe: Mapping[str, Any], flags: Iterable[str]) -> None:
    """Where a flag chose another canonicalizer than the recipe, leave out what the recipe set for its own."""
    nested, own = merged.get("canonicalizer"), recipe.get("canonicalizer")
    if not isinstance(nested, dict) or not isinstance(own, Mapping):
        return
    before = own.get("kind") or _default_kind(str(recipe.get("group", "c4")))
    after = nested.get("kind") or _default_kind(str(merged.get("group", "c4")))
    if before != after:
        kept = {key: value for key, value in nested.items() if f"canonicalizer.{key}" in flags or own.get(key) != value}
        merged["canonicalizer"] = {**kept, "kind": after}


def _default_kind(group: str) -> str:
    return "optimized" if is_finite(parse_group(group)) else "steerable"


def _kinds() -> Mapping[str, Any]:
    # Imported late: it needs torch, and canonicalizers read their settings' base from here.
    from equicli.canonicalization.registry import REGISTRY

    return REGISTRY


def _find_kind(kind: str) -> Any:
    if str(kind) not in _kinds():
        hint = did_you_mean(str(kind), _kinds()) or f" Known: {', '.join(_kinds())}."
        raise UsageError(f"--canonicalizer {kind}: no such canonicalizer.{hint}")
    return _kinds()[kind]


def _read_prior(value: Any, group_name: str) -> tuple[str, ...] | dict[str, float]:
    """Read `r90`, `r0,r180`, a list of poses, a mapping of poses to shares, or a YAML file that holds either."""
    group = parse_group(group_name)
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        value = read_yaml(Path(expand_path(value)), "--prior")
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not value:
        # A photo's handedness is mostly unknowable; but of d1 it is all that there is to know.
        handed = group.find(0, True) is not None and group.order != 2
        value = ("r0", "r0m") if handed else ("r0",)
    if not isinstance(value, Mapping | list | tuple):
        raise ValueError("--prior: write poses such as r0,r180, or name a YAML file of poses and their shares")
    names = {label: _pose_name(label, group) for label in value}
    if not isinstance(value, Mapping):
        poses = tuple(dict.fromkeys(names.values()))
        if len(poses) == group.order:
            raise ValueError(f"--prior: all {group.order} poses of {group.name}, which leaves nothing to learn")
        return poses
    if not is_finite(group):
        raise ValueError(f"--prior: {group.name} has infinitely many poses; shares need a finite group, such as c8")
    if any(not isinstance(share, int | float) or not 0 <= share <= 1 for share in value.values()):
        raise ValueError("--prior: the share of a pose is a number from 0 to 1")
    total = sum(value.values())
    if abs(total - 1) > 1e-3:
        raise ValueError(f"--prior: the shares add up to {total:g}, not to 1")
    shares: dict[str, float] = {}
    for label, share in value.items():
        shares[names[label]] = shares.get(names[label], 0) + share / total
    return shares


def _pose_name(label: Any, group: Group) -> str:
    """The one name of a pose, however its angle is written."""
    element = read_label(group, str(label))
    if element is None:
        raise ValueError(f"--prior {label}: no pose of {group.name}. Poses are written r90, or r90m where mirrored")
    name = write_label(group, element)
    if not is_finite(group) and "." in name:
        raise ValueError(f"--prior {label}: poses of {group.name} are told in whole degrees")
    return name
