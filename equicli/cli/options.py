"""Options that several commands share."""

from enum import Enum
from typing import Annotated

import typer


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no remarks.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run folder or an exported file; default: the latest run.")
]
OwnModel = Annotated[
    str | None,
    typer.Option("--model", help="The prediction network, where it is your own code: python:module:factory."),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option("--model-arg", metavar="KEY=VALUE", help="Argument of the network's constructor; repeatable."),
]
Checkpoint = Annotated[
    str | None, typer.Option(help="Weights in place of the published: FILE, or hf-hub:owner/name/file.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the Hub repository.")]
ImageSize = Annotated[
    int | None, typer.Option(min=8, max=4096, help="Side of the prediction network's input in pixels.")
]
Preprocessing = Annotated[
    str | None, typer.Option("--preprocess", help="checkpoint: as the network was trained; none: only normalize.")
]
Mean = Annotated[tuple[float, float, float] | None, typer.Option(help="Normalization mean of red, green, blue.")]
Std = Annotated[tuple[float, float, float] | None, typer.Option(help="Normalization standard deviation.")]
ValueRange = Annotated[
    str | None,
    typer.Option(
        metavar="LOW:HIGH",
        help="Black and white in pictures of more than 8 bits; default: theirs, else what the training split has.",
    ),
]
MaxPixels = Annotated[int | None, typer.Option(min=1, help="Skip larger pictures; default: 178956970.")]
BatchSize = Annotated[int | None, typer.Option(help="Images in a batch.")]


def own_network(model: str | None, arguments: list[str] | None):  # type: ignore[no-untyped-def]
    """Build the user's own network for an artifact that stores none; None without `--model`."""
    from equicli.errors import UsageError
    from equicli.prediction.load import load_network
    from equicli.recipes import parse_pair

    if model is None:
        if arguments:
            raise UsageError("--model-arg: only together with --model.")
        return None
    if not model.startswith("python:"):
        raise UsageError(
            f"--model {model}: the artifact holds its network; only your own code (python:…) is asked for again."
        )
    return load_network(model, arguments=dict(parse_pair(a, "--model-arg") for a in arguments or [])).network
