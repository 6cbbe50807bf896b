"""`equicli evaluate`: group-averaged metrics of an adapted model beside its baselines."""

from enum import Enum
from typing import Annotated

import typer

from equicli.cli.options import (
    Device,
    ImageSize,
    Json,
    ModelArg,
    Overwrite,
    OwnModel,
    Precision,
    Quiet,
    RunArgument,
    own_network,
)
from equicli.cli.output import Output


class Rotate(str, Enum):
    file = "file"
    input = "input"


class Preprocess(str, Enum):
    checkpoint = "checkpoint"
    none = "none"


class Elements(str, Enum):
    rotations = "rotations"
    group = "group"


def evaluate(
    run: RunArgument = None,
    data: Annotated[
        str | None, typer.Option(help="Image folder; default: the test images recorded in the run.")
    ] = None,
    test_split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Folder of test images in the image folder.")
    ] = None,
    rotations: Annotated[
        int | None, typer.Option(help="Turn every test image by each rotation of C_n; default: 4.")
    ] = None,
    elements: Annotated[
        Elements, typer.Option(help="group: turn by the adapted group's elements instead.")
    ] = Elements.rotations,
    rotate: Annotated[
        Rotate | None,
        typer.Option(
            help="file: turn the picture, as it would come; input: turn the preprocessed tensor, as papers do; "
            "default: what the run's recipe says, else file."
        ),
    ] = None,
    preprocess: Annotated[
        Preprocess | None,
        typer.Option(help="checkpoint: resize and crop as the network was trained; none: only normalize."),
    ] = None,
    image_size: ImageSize = None,
    model: OwnModel = None,
    model_arg: ModelArg = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Weights of the prediction network, for an adapter exported without it.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 32,
    device: Annotated[Device, typer.Option(help="auto is CUDA where it is present.")] = Device.auto,
    precision: Annotated[Precision, typer.Option(help="Of the network; auto: bf16 on CUDA.")] = Precision.fp32,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at an unreadable image instead of skipping it.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder for metrics.json and report.md; default: the run folder."),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure vanilla, adapted, symmetrized and oracle accuracy on the same turned images.

    Prints one table; writes metrics.json and report.md.

    Example: equicli evaluate --rotations 4
    """
    from equicli.errors import UsageError

    if elements is Elements.group and rotations is not None:
        raise UsageError("--rotations turns by C_n and --elements group by the adapted group; give one of them.")
    from equicli import pipeline

    out = Output(json=json, quiet=quiet)
    metrics, folder = pipeline.evaluate(
        run,
        data=data,
        test_split=test_split,
        network=own_network(model, model_arg),
        checkpoint=checkpoint,
        rotations=None if elements is Elements.group else 4 if rotations is None else rotations,
        rotate=rotate.value if rotate else None,
        preprocess=preprocess.value if preprocess else None,
        image_size=image_size,
        batch_size=batch_size,
        device=device.value,
        precision=precision.value,
        strict=strict,
        output=output,
        overwrite=overwrite,
        progress=out,
    )
    out.metrics(metrics)
    out.say(f"\nwrote {folder}/metrics.json and report.md")
