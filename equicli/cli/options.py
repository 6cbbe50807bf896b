"""Options that several commands share."""

import re
from enum import Enum
from typing import Annotated

import typer

from equicli.cli.streams import hushed

_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?")


class Device(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def _hush(context: typer.Context, quiet: bool) -> bool:
    if quiet:
        context.with_resource(hushed())
    return quiet


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_hush, help="Print no progress, no remarks and no warnings.")
]
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
Mean = Annotated[
    str | None,
    typer.Option(metavar="R,G,B", help="Normalization mean of red, green, blue, such as 0.5,0.5,0.5."),
]
Std = Annotated[str | None, typer.Option(metavar="R,G,B", help="Normalization standard deviation, likewise.")]
BatchSize = Annotated[int | None, typer.Option(help="Images in a batch.")]


def join_triples(arguments: list[str]) -> list[str]:
    """Let `--mean 0.5 0.5 0.5` be `--mean 0.5,0.5,0.5`, which an option can take."""
    joined: list[str] = []
    rest = list(arguments)
    while rest:
        joined.append(rest.pop(0))
        if joined[-1] in ("--mean", "--std") and len(rest) > 2 and all(map(_NUMBER.fullmatch, rest[:3])):
            joined.append(",".join(rest[:3]))
            del rest[:3]
    return joined


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
