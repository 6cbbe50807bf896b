"""`equicli evaluate`: group-averaged metrics of an adapted model beside its baselines."""

from enum import Enum
from typing import Annotated

import typer

from equicli.cli.options import (
    DATA,
    DEVICE_HELP,
    MEASURING,
    NETWORK,
    OUTPUT,
    REENCODE_HELP,
    ROTATE_HELP,
    RUNNING,
    ImageSize,
    Json,
    MaxPixels,
    ModelArg,
    Overwrite,
    OwnModel,
    Precision,
    Preprocess,
    Quiet,
    Rotate,
    RunArgument,
    Strict,
    ValueRange,
    own_network,
)
from equicli.cli.output import Output


class Elements(str, Enum):
    rotations = "rotations"
    group = "group"


def evaluate_command(
    run: RunArgument = None,
    data: Annotated[
        str | None,
        typer.Option(help="Image folder.", rich_help_panel=DATA, show_default="the test images recorded in the run"),
    ] = None,
    test_split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Folder of test images in the image folder.",
            rich_help_panel=DATA,
            show_default="as in the run, else test, testing, …",
        ),
    ] = None,
    strict: Strict = False,
    rotations: Annotated[
        int | None,
        typer.Option(
            help="Turn every test image by each rotation of C_n.",
            rich_help_panel=MEASURING,
            show_default="the adapted group; of so2 and o2 8",
        ),
    ] = None,
    elements: Annotated[
        Elements | None,
        typer.Option(
            help="Turn by the adapted group's elements, or of d4, d8, … by its rotations only.",
            rich_help_panel=MEASURING,
            show_default="group",
        ),
    ] = None,
    rotate: Annotated[
        Rotate | None,
        typer.Option(help=ROTATE_HELP, rich_help_panel=MEASURING, show_default="what the run's recipe says, else file"),
    ] = None,
    reencode: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT:QUALITY",
            help=REENCODE_HELP,
            rich_help_panel=MEASURING,
            show_default="what the run's recipe says, else none",
        ),
    ] = None,
    preprocess: Annotated[
        Preprocess | None,
        typer.Option(
            help="checkpoint: resize and crop as the network was trained; none: only normalize.",
            rich_help_panel=NETWORK,
            show_default="as in the run",
        ),
    ] = None,
    image_size: ImageSize = None,
    model: OwnModel = None,
    model_arg: ModelArg = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Weights of the prediction network, for an adapter exported without it.",
            rich_help_panel=NETWORK,
            show_default="those in the file",
        ),
    ] = None,
    value_range: ValueRange = None,
    max_pixels: MaxPixels = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Images in a batch.", rich_help_panel=RUNNING, show_default="32; of networks that take lists 1"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=RUNNING)] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of the network. auto: bf16 on CUDA, else fp32.", rich_help_panel=RUNNING)
    ] = Precision.fp32,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for metrics.json and report.md.",
            rich_help_panel=OUTPUT,
            show_default="the run folder; of an exported file runs/<file>-evaluation",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure vanilla, adapted, symmetrized and oracle accuracy on the same turned images.

    Prints one table; writes metrics.json and report.md.

    Example: equicli evaluate
    """
    from equicli.claims import find_artifact
    from equicli.errors import UsageError

    if elements is Elements.group and rotations is not None:
        raise UsageError("--rotations turns by C_n and --elements group by the adapted group; give one of them.")
    find_artifact(run)  # refused before torch is imported, which takes long
    from equicli import pipeline

    out = Output(json=json, quiet=quiet)
    _, folder = pipeline.evaluate(
        run,
        data=data,
        test_split=test_split,
        network=own_network(model, model_arg),
        checkpoint=checkpoint,
        rotations=rotations,
        elements=elements.value if elements else None,
        rotate=rotate.value if rotate else None,
        reencode=reencode,
        preprocess=preprocess.value if preprocess else None,
        image_size=image_size,
        batch_size=batch_size,
        value_range=value_range,
        max_pixels=max_pixels,
        device=device,
        precision=precision.value,
        strict=strict,
        output=output,
        overwrite=overwrite,
        progress=out,
        show=out.metrics,
    )
    out.say(f"\nwrote {folder}/metrics.json and report.md")
