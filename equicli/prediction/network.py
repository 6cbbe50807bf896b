"""What equicli knows of a pretrained network, and what a source of networks is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.preprocess import Preprocess
from equicli.settings import Scalar


@dataclass(frozen=True)
class NetworkSpec:
    """What rebuilds a network without its weights. Stored in artifacts, so it names no file and no import path.

    `library` is `timm`, `torchvision`, `transformers`, `equicli` (see `prediction.points`), `none` or `python` (the
    user's own network, which must be handed over again). `head_outputs` is the number of outputs of a replaced last
    layer, None where the network's own is kept, and `head` its name where that was found out on an image.
    """

    library: str
    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    head_outputs: Annotated[int, Field(ge=1)] | None = None
    head: str | None = None


@dataclass(frozen=True)
class PretrainedNetwork:
    """A loaded network in eval mode.

    class_names: for every output the names that it goes by (WordNet id, words), or None where nothing says.
    provenance: what was loaded: `model`; for published weights `repository`, `revision` (a commit), `file`, `sha256`;
        for a user's own file `checkpoint` (its name) and `sha256`.
    remarks: a line on each thing that differs from what was published.
    """

    network: nn.Module
    spec: NetworkSpec
    preprocess: Preprocess | CloudPreprocess
    class_names: tuple[tuple[str, ...], ...] | None
    provenance: Mapping[str, str]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class NetworkRequest:
    """What a source is asked for: see `load_network`. `pretrained` is False where weights come from the user's file."""

    name: str
    arguments: Mapping[str, Scalar]
    pretrained: bool
    image_size: int | None
    revision: str | None
