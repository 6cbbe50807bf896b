"""All that decides what `equicli adapt` trains, typed."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny

from equicli.data.decode import MAX_PIXELS
from equicli.data.value_range import read_bounds
from equicli.devices import device_name
from equicli.settings import (
    CanonicalizerSettings,
    EvaluationSettings,
    LocalPath,
    LocalPaths,
    NetworkSettings,
    OriginPath,
    PolicySettings,
    Settings,
    Share,
    SplitSettings,
    TaskSettings,
    TrainingSettings,
)

# Two numbers, or LOW:HIGH as it is written on the command line.
Bounds = Annotated[tuple[float, float], BeforeValidator(read_bounds)]


class AdaptConfig(Settings):
    """All that decides what `equicli adapt` trains. Written to `resolved.yaml`, which is itself a recipe."""

    data: LocalPath = Field(description="an image folder")
    upright: LocalPaths = Field(
        (), description="folders of more upright images, for the canonicalizer's training alone; labels are ignored"
    )
    start_from: OriginPath | None = Field(
        None, description="a run, an exported file or owner/name on the Hub, whose canonicalizer is taken"
    )
    group: str
    prior: Literal["model"] | tuple[str, ...] | dict[str, Share] = Field(
        description="poses that the network expects; or the share of each, adding up to 1; or model: of each training "
        "picture those of which the network says the right thing"
    )
    padding: Literal["edge", "reflect", "zeros"] = Field("edge", description="what turned images show from outside")
    seed: int = Field(0, ge=0)
    device: Annotated[str, AfterValidator(device_name)] = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    strict: bool = Field(False, description="stop at an unreadable image instead of skipping it")
    value_range: Bounds | None = Field(
        None, description="of pictures of more than 8 bits; default: what they say, else what the training split has"
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="larger pictures are not read")

    network: NetworkSettings
    # Settings of one kind; which keys there are is the kind's own affair.
    task: SerializeAsAny[TaskSettings]
    canonicalizer: SerializeAsAny[CanonicalizerSettings]
    policy: PolicySettings
    training: TrainingSettings
    split: SplitSettings
    evaluation: EvaluationSettings = EvaluationSettings()
