"""Settings: what every part of a configuration is made of, and the sections that all runs have."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import ErrorDetails

from equicli.recipes import expand_checkpoint, expand_origin, local_path

Scalar = bool | int | float | str | None
# Whether averaged weights are taken; `auto`: where a file has any.
Ema = Literal["auto", "yes", "no"]

LocalPath = Annotated[str, BeforeValidator(local_path)]
# hf-hub:owner/name[@revision]/file, or a local file.
CheckpointPath = Annotated[str, BeforeValidator(expand_checkpoint)]

# A run folder, a file, or hf-hub:owner/name[@revision][/file].
OriginPath = Annotated[str, BeforeValidator(expand_origin)]
# One folder, or a list.
LocalPaths = Annotated[
    tuple[LocalPath, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]

Share = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]


def _of_channels(value: Any) -> Any:
    """Three numbers, also as one text (0.5,0.5,0.5), or one for all three."""
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int | float) else parts
    if isinstance(parts, list | tuple) and len(parts) == 1:
        parts = [*parts] * 3
    if isinstance(parts, list | tuple) and len(parts) != 3:
        raise ValueError("must be three numbers, such as 0.5,0.5,0.5, or one for all three")
    return parts


OfChannels = BeforeValidator(_of_channels)
# Strict, as other defaults depend on whether they are there: "0" would be.
Weight = Annotated[float, Field(ge=0, strict=True)]
Switch = Annotated[bool, Field(strict=True)]


def _yes_or_no(value: Any) -> Any:
    """YAML reads `yes` and `no` as true and false."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


class Settings(BaseModel):
    """A part of the configuration: unknown keys are refused, and nothing changes once it is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class CanonicalizerSettings(Settings):
    """What every canonicalizer's settings have; each kind adds its own."""

    kind: str


class StartedSettings(CanonicalizerSettings):
    """What can be said of a canonicalizer that exists; it has all else."""

    size: int | None = Field(None, ge=8, le=1024, description="side in pixels of what it looks at; default: its own")
    glance: int | None = Field(
        None, description="side in pixels of a smaller first look; 0: none; default: its own, or of another size none"
    )

    @property
    def look(self) -> dict[str, int | None]:
        """What is said of how it looks, by name; its own glance fits no other size."""
        said = self.model_dump(include={"size", "glance"}, exclude_none=True)
        return {**said, "glance": said.get("glance") or None} if said else {}


class TaskSettings(Settings):
    """What every task's settings have, of its data; each kind adds its own."""

    kind: str
    train_split: str | None = Field(None, description="folder of training images; '.' is DATA itself, without parts")
    val_split: str | None = Field(None, description="folder of validation images in DATA")
    test_split: str | None = Field(None, description="folder of test images in DATA")


class NetworkSettings(Settings):
    """The prediction network, and how it is shown images."""

    model: str = Field(description="the prediction network")
    checkpoint: CheckpointPath | None = Field(None, description="a file of weights for the prediction network")
    ema: Annotated[Ema, BeforeValidator(_yes_or_no)] = Field(
        "auto", description="whether averaged weights in the checkpoint are taken; auto: where there are any"
    )
    revision: str | None = Field(None, description="branch, tag or commit of the Hub repository")
    model_args: dict[str, Scalar] = Field({}, description="arguments of the prediction network's constructor")
    preprocess: Literal["checkpoint", "none"] = Field("checkpoint", description="none: only normalize")
    image_size: int | None = Field(None, ge=8, le=4096)
    mean: Annotated[tuple[Share, Share, Share], OfChannels] | None = Field(None, description="of images in [0, 1]")
    std: Annotated[tuple[Deviation, Deviation, Deviation], OfChannels] | None = Field(
        None, description="of images in [0, 1]"
    )


class PolicySettings(Settings):
    """How the prediction network is asked."""

    kind: Literal["one", "mean", "gate"] = Field(
        description="one: at the pose that was found; mean: at all poses, weighted by p(g|x); gate: at several where "
        "the canonicalizer is not sure; default: gate for a classifier whose canonicalizer is trained for a finite "
        "group and without the network, else one",
    )
    of: Literal["probabilities", "logits"] = Field("probabilities", description="what the mean is of")
    passes: float | None = Field(
        None, gt=1, description="of a gate, the mean allowed; default: as few up to 1.25 as give most of the gain"
    )


class TrainingSettings(Settings):
    """What training minimizes, and how.

    Settings without a default here have one that depends on the canonicalizer: see `config.resolve`.
    """

    train_base: Switch = Field(False, description="train the prediction network, too, on the task's own loss")
    augment: bool = Field(False, description="turn training images at random; --canonicalizer none only")
    mirror: bool = Field(True, description="mirror training images at random, where the prior allows; not for text")
    crop: Literal["zoom", "shift"] = Field(
        description="crop training images at random. zoom: to 60-100 % of the side; shift: by up to an eighth of it, "
        "which does not blur; default: shift where the prediction network sees them (task_weight), else zoom",
    )
    crop_size: float = Field(
        1.0,
        ge=0.25,
        le=1.0,
        description="side that zoomed crops are shown at ÷ side that it looks at: in crops, things look larger",
    )
    views: int | None = Field(
        None,
        ge=1,
        description="of consensus: how many views of each image a training step asks, at random; default: all",
    )
    prior_weight: Weight = Field(description="default: 1 where poses are found")
    contrast_weight: Weight = Field(description="default: 0.1 where views are compared")
    artifact_weight: Weight = Field(0.0, description="makes poses off the grid agree, at the cost of a second pass")
    task_weight: Weight = Field(
        description="of the task's own loss, which needs labels and whole images; default: 1 with train_base, else 0",
    )
    epochs: int = Field(20, ge=0, description="passes over the training images; 0 with start_from: attach it as it is")
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(gt=0, description="default: what the canonicalizer wants")
    base_learning_rate: float = Field(1e-4, gt=0, description="of the prediction network, with train_base")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="sgd: with momentum 0.9")
    schedule: Literal["cosine", "steps", "constant"] = Field(
        "cosine",
        description="cosine: with a warm-up; steps: a tenth after 1/3 and 1/2 of the epochs, of over 100 after 1/6 too",
    )
    weight_decay: float = Field(0.01, ge=0)
    running_mean: Switch = Field(
        False, description="validate and keep a running mean of the weights, over about a tenth of the steps"
    )
    degrade: Switch = Field(False, description="vary colours, sharpness and noise of training images at random")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on CUDA, but of clouds fp32"
    )


class SplitSettings(Settings):
    """How a folder is split into parts."""

    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of the training images that chooses the epoch"
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share held out where the folder has no test split")
    seed: int = Field(ge=0, description="default: the run's")


class EvaluationSettings(Settings):
    """How the adapted model is measured."""

    rotate: Literal["file", "input"] = Field(
        "file", description="file: the picture is turned, as it would come; input: the preprocessed tensor"
    )
    reencode: str = Field(
        "none", description="how turned pictures are compressed again, such as jpeg:75; none: they are not"
    )


# What pydantic finds wrong, as people say it; `{}` is what it holds the value against.
_FAULTS = {
    "greater_than_equal": "must be {ge:g} or more",
    "greater_than": "must be more than {gt:g}",
    "less_than_equal": "must be {le:g} or less",
    "less_than": "must be less than {lt:g}",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "missing": "is missing",
    "too_short": "must have {min_length} values",
    "too_long": "must have {max_length} values",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    "string_type": "must be text",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must hold keys and values"),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    "extra_forbidden": "is unknown",
}


def fault(error: ErrorDetails) -> str:
    """What is wrong with a value, in words that follow it."""
    words = _FAULTS.get(error["type"])
    return words.format(**error.get("ctx", {})) if words else error["msg"].removeprefix("Value error, ")
