"""Options that several commands share, and the panels that `--help` shows options in.

The defaults of a configuration are written here as text, as help must not import what knows them; tests compare.
"""

import re
from enum import Enum
from typing import Annotated

import typer

from equicli.cli.streams import hushed

# Panels of `--help`.
DATA, NETWORK, CANONICALIZER, TRAINING, OUTPUT = "Data", "Network", "Canonicalizer", "Training", "Output"
MEASURING, RUNNING = "Measuring", "Running"

_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?")


class Ema(str, Enum):
    auto = "auto"
    yes = "yes"
    no = "no"


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Preprocess(str, Enum):
    checkpoint = "checkpoint"
    none = "none"


class Rotate(str, Enum):
    file = "file"
    input = "input"


class Head(str, Enum):
    auto = "auto"
    none = "none"
    new = "new"


class Padding(str, Enum):
    edge = "edge"
    reflect = "reflect"
    zeros = "zeros"


def _hush(context: typer.Context, quiet: bool) -> bool:
    if quiet:
        context.with_resource(hushed())
    return quiet


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on stdout and nothing else there.", rich_help_panel=OUTPUT),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_hush,
        help="Print the result alone, with its 'mind' lines; no progress, no remarks.",
        rich_help_panel=OUTPUT,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.", rich_help_panel=OUTPUT)]
RunArgument = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run folder or an exported file.", show_default="the latest run"),
]
OwnModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The prediction network, where it is your own code: python:module:factory.",
        rich_help_panel=NETWORK,
        show_default="the one in the run",
    ),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        metavar="KEY=VALUE",
        help="Argument of the network's constructor; repeatable.",
        rich_help_panel=NETWORK,
        show_default="none",
    ),
]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="Weights: FILE, FOLDER, or hf-hub:owner/name/file.",
        rich_help_panel=NETWORK,
        show_default="the published ones",
    ),
]
UseEma = Annotated[
    Ema | None,
    typer.Option(
        "--ema",
        help="Averaged weights in --checkpoint: auto takes them where there are any; yes, no.",
        rich_help_panel=NETWORK,
        show_default="auto",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        help="Branch, tag or commit of the Hub repository.", rich_help_panel=NETWORK, show_default="its main branch"
    ),
]
OnTask = Annotated[
    str | None,
    typer.Option(
        help="What the network is asked for, where its name does not say: classification, instances (boxes of "
        "objects, and masks), prompted (masks of what is pointed at), semantic (a class for every pixel), of point "
        "clouds points or point-parts, pose alone, or a task that you added.",
        rich_help_panel=DATA,
        show_default="classification",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=4096,
        help="Side of the prediction network's input in pixels.",
        rich_help_panel=NETWORK,
        show_default="the network's own",
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="Zero-shot networks: lines such as 'a photo of a {}.', or YAML of prompts by class. SAM: boxes or points "
        "of the annotated objects.",
        rich_help_panel=NETWORK,
        show_default="'a photo of a <folder name>.'; boxes",
    ),
]
FitHead = Annotated[
    Head | None,
    typer.Option(
        help="Where classes do not match: auto fits a linear head, none refuses; new: always fits one.",
        rich_help_panel=NETWORK,
        show_default="auto",
    ),
]
Preprocessing = Annotated[
    Preprocess | None,
    typer.Option(
        "--preprocess",
        help="checkpoint: resize and crop as the network was trained; none: only normalize.",
        rich_help_panel=NETWORK,
        show_default="checkpoint",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Normalization mean of red, green, blue, such as 0.5,0.5,0.5.",
        rich_help_panel=NETWORK,
        show_default="the network's own",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Normalization standard deviation, likewise.",
        rich_help_panel=NETWORK,
        show_default="the network's own",
    ),
]
ClassMap = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Output of each class folder: JSON, YAML or lines of text.",
        rich_help_panel=DATA,
        show_default="by name, else by order",
    ),
]
TrainSplit = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Folder of training images in DATA; '.' is DATA itself.",
        rich_help_panel=DATA,
        show_default="train, training, …",
    ),
]
ValSplit = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Folder of validation images in DATA.",
        rich_help_panel=DATA,
        show_default="val, valid, …",
    ),
]
TestSplit = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Folder of test images in DATA.", rich_help_panel=DATA, show_default="test, testing, …"
    ),
]
ValueRange = Annotated[
    str | None,
    typer.Option(
        metavar="LOW:HIGH",
        help="Black and white in pictures of more than 8 bits.",
        rich_help_panel=DATA,
        show_default="theirs, else what the training split has",
    ),
]
MaxPixels = Annotated[
    int | None, typer.Option(min=1, help="Skip larger pictures.", rich_help_panel=DATA, show_default="178956970")
]
Strict = Annotated[
    bool,
    typer.Option("--strict", help="Stop at an unreadable image instead of skipping it.", rich_help_panel=DATA),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Turns to undo. c4: by 90°; c8: by 45°; c…: any number; so2: all; d4, d8, … and o2: these and mirroring; "
        "of point clouds so3, their default, or so2z about z.",
        rich_help_panel=CANONICALIZER,
        show_default="c4",
    ),
]
StartFrom = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Take the canonicalizer of a run, an exported file or owner/name; --epochs 0 leaves it as it is.",
        rich_help_panel=CANONICALIZER,
        show_default="a new one",
    ),
]
Upright = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FOLDER",
        help="Train the canonicalizer on more upright images, of any kind, labelled or not; repeatable.",
        rich_help_panel=TRAINING,
        show_default="none",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        help="Passes over the training images; the best is kept.", rich_help_panel=TRAINING, show_default="20"
    ),
]
BatchSize = Annotated[int | None, typer.Option(help="Images in a batch.", rich_help_panel=TRAINING, show_default="64")]
DEVICE_HELP = "auto (CUDA where it is present), cpu, cuda, cuda:N or mps."
OnDevice = Annotated[
    str | None, typer.Option("--device", help=DEVICE_HELP, rich_help_panel=RUNNING, show_default="auto")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Settings: name of a shipped recipe, or a YAML file.", rich_help_panel=RUNNING, show_default="none"
    ),
]
ROTATE_HELP = "file: turn the picture, as it would come; input: turn the preprocessed tensor, as papers do."
REENCODE_HELP = "Compress turned pictures again, as editors do: jpeg:QUALITY, webp:QUALITY, or none."


def plain(value: object) -> object:
    """The text of a choice; anything else as it is."""
    return value.value if isinstance(value, Enum) else value


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
