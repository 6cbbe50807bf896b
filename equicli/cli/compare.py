"""`equicli compare`: the papers' table for a user's own model and data."""

from typing import Annotated

import typer

from equicli.cli.options import (
    BatchSize,
    Checkpoint,
    ImageSize,
    Json,
    MaxPixels,
    Mean,
    ModelArg,
    Overwrite,
    Preprocessing,
    Quiet,
    Revision,
    Std,
    ValueRange,
)
from equicli.cli.output import Output


def compare(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Image folder, as `equicli adapt` takes it.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The prediction network, as `equicli adapt` takes it.")] = None,
    group: Annotated[str | None, typer.Option(help="Group to adapt to: c4, c8, d4, …")] = None,
    systems: Annotated[
        str | None,
        typer.Option(help="Names separated by commas, or `frozen`: those that train no network; default: all."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each system that is trained.")] = 3,
    rotations: Annotated[
        int | None, typer.Option(min=1, max=360, help="Average over the rotations of C_n; default: the group's own.")
    ] = None,
    rotate: Annotated[
        str | None,
        typer.Option(help="file: turn the picture, as it would come; input: the preprocessed tensor, as papers do."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="System that all others are compared with; default: equioptadapt, else vanilla."),
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE,…", help="Run the systems that have this setting with each value.")
    ] = None,
    checkpoint: Checkpoint = None,
    revision: Revision = None,
    model_arg: ModelArg = None,
    preprocess: Preprocessing = None,
    image_size: ImageSize = None,
    mean: Mean = None,
    std: Std = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images, the same for all.")] = None,
    batch_size: BatchSize = None,
    value_range: ValueRange = None,
    max_pixels: MaxPixels = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="What all systems share: a shipped recipe, or a YAML file.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of all systems that have it; repeatable."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Folder; default: runs/compare-<model>-<group>, with --sweep also -<KEY>."),
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
        "group": group,
        "checkpoint": checkpoint,
        "revision": revision,
        **{f"model_args.{key}": value for key, value in (parse_pair(a, "--model-arg") for a in model_arg or [])},
        "preprocess": preprocess,
        "image_size": image_size,
        "mean": mean,
        "std": std,
        "epochs": epochs,
        "batch_size": batch_size,
        "value_range": value_range,
        "max_pixels": max_pixels,
        "rotate": rotate,
        "device": device,
    }
    out = Output(json=json, quiet=quiet)
    parts, notes = plan(chosen, seeds, flags, settings or [], recipe, sweep)
    for note in notes:
        out.say(note)

    from equicli import pipeline

    try:
        document, folder = pipeline.compare(
            parts, output, rotations=rotations, reference=reference, overwrite=overwrite, progress=out
        )
    except KeyboardInterrupt:
        out.say("to go on, give the same command again")
        raise
    out.comparison(document)
    out.say(f"\nwrote {folder}/: compare.json, compare.md, compare.tex, compare.html")
