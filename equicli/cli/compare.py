"""`equicli compare`: the papers' table for a user's own model and data."""

from typing import Annotated

import typer

from equicli.cli.options import (
    MEASURING,
    NETWORK,
    OUTPUT,
    REENCODE_HELP,
    ROTATE_HELP,
    RUNNING,
    BatchSize,
    Checkpoint,
    ClassMap,
    Epochs,
    FitHead,
    Group,
    ImageSize,
    Json,
    MaxPixels,
    Mean,
    ModelArg,
    OnDevice,
    OnTask,
    Overwrite,
    Preprocessing,
    Prompts,
    Quiet,
    Recipe,
    Revision,
    Rotate,
    Std,
    Strict,
    TestSplit,
    TrainSplit,
    UseEma,
    ValSplit,
    ValueRange,
    plain,
)
from equicli.cli.output import Output


def compare_command(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="Image folder, as `equicli adapt` takes it.", show_default="what the recipe says"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The prediction network, as `equicli adapt` takes it.",
            rich_help_panel=NETWORK,
            show_default="what the recipe says",
        ),
    ] = None,
    task: OnTask = None,
    group: Group = None,
    systems: Annotated[
        str | None,
        typer.Option(
            help="Names separated by commas; all; frozen, those that train no network; points, those of point clouds.",
            rich_help_panel=MEASURING,
            show_default="all",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Runs of each system that is trained.", rich_help_panel=MEASURING)
    ] = 3,
    rotations: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=360,
            help="Average over the rotations of C_n.",
            rich_help_panel=MEASURING,
            show_default="every element of the group",
        ),
    ] = None,
    rotate: Annotated[
        Rotate | None, typer.Option(help=ROTATE_HELP, rich_help_panel=MEASURING, show_default="file")
    ] = None,
    reencode: Annotated[
        str | None,
        typer.Option(metavar="FORMAT:QUALITY", help=REENCODE_HELP, rich_help_panel=MEASURING, show_default="none"),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="System that all others are compared with.",
            rich_help_panel=MEASURING,
            show_default="equioptadapt, else vanilla",
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE,…",
            help="Run the systems that have this setting with each value.",
            rich_help_panel=MEASURING,
            show_default="none",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    ema: UseEma = None,
    revision: Revision = None,
    model_arg: ModelArg = None,
    prompts: Prompts = None,
    head: FitHead = None,
    preprocess: Preprocessing = None,
    image_size: ImageSize = None,
    mean: Mean = None,
    std: Std = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    class_map: ClassMap = None,
    train_split: TrainSplit = None,
    val_split: ValSplit = None,
    test_split: TestSplit = None,
    value_range: ValueRange = None,
    max_pixels: MaxPixels = None,
    strict: Strict = False,
    device: OnDevice = None,
    recipe: Recipe = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of all systems that have it; repeatable.",
            rich_help_panel=RUNNING,
            show_default="none",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder.",
            rich_help_panel=OUTPUT,
            show_default="runs/compare-<model>-<group>, with --sweep also -<KEY>",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare systems: train what must be trained, evaluate all on the same images, write the table.

    The same command goes on where it was interrupted, and takes over what is finished.

    Example: equicli compare --model vit_base --group c4 --systems frozen data/
    """
    from equicli.comparison.plan import plan
    from equicli.comparison.systems import parse_systems
    from equicli.recipes import parse_pair

    chosen = parse_systems(systems)
    flags = {
        "data": data,
        "model": model,
        "task.kind": task,
        "group": group,
        "checkpoint": checkpoint,
        "ema": plain(ema),
        "revision": revision,
        **{f"model_args.{key}": value for key, value in (parse_pair(a, "--model-arg") for a in model_arg or [])},
        "prompts": prompts,
        "head": plain(head),
        "class_map": class_map,
        "train_split": train_split,
        "val_split": val_split,
        "test_split": test_split,
        "preprocess": plain(preprocess),
        "image_size": image_size,
        "mean": mean,
        "std": std,
        "epochs": epochs,
        "batch_size": batch_size,
        "value_range": value_range,
        "max_pixels": max_pixels,
        "strict": strict or None,
        "rotate": plain(rotate),
        "reencode": reencode,
        "device": device,
    }
    out = Output(json=json, quiet=quiet)
    parts, notes = plan(chosen, seeds, flags, settings or [], recipe, sweep)
    for note in notes:
        out.say(note)

    from equicli import pipeline

    try:
        _, folder = pipeline.compare(
            parts,
            output,
            rotations=rotations,
            reference=reference,
            overwrite=overwrite,
            progress=out,
            show=out.comparison,
        )
    except KeyboardInterrupt:
        out.say("to go on, give the same command again")
        raise
    out.say(f"\nwrote {folder}/: compare.json, compare.md, compare.tex, compare.html")
