"""`equicli upright`: pictures turned upright."""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from equicli.cli.inputs import Inputs, Workers, find_named, tell_near_chance
from equicli.cli.options import DEVICE_HELP, OUTPUT, RUNNING, Json, MaxPixels, Overwrite, Quiet, Strict
from equicli.cli.output import Output


class Method(str, Enum):
    tag = "tag"
    pixels = "pixels"


def upright_command(
    inputs: Inputs,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder for all pictures, turned or not.",
            rich_help_panel=OUTPUT,
            show_default="needed, but for --dry-run",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.", rich_help_panel=OUTPUT)
    ] = False,
    method: Annotated[
        Method | None,
        typer.Option(
            help="tag: set the orientation of a JPEG and change no pixel; pixels: turn them, of a JPEG without loss "
            "where its blocks are whole (extra jpeg).",
            rich_help_panel=RUNNING,
            show_default="tag for JPEG, else pixels",
        ),
    ] = None,
    sure: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Leave pictures alone whose pose is less probable than this.", rich_help_panel=RUNNING
        ),
    ] = 0.9,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in a batch.", rich_help_panel=RUNNING)] = 32,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=RUNNING)] = "auto",
    max_pixels: MaxPixels = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn pictures upright. Those that are upright, or whose pose is not sure, are copied as they are.

    Takes no prediction network: `equicli adapt --model none` trains a canonicalizer alone.

    Example: equicli upright runs/latest photos/ --output upright/
    """
    from equicli.errors import UsageError

    file, names = find_named(inputs)
    if output is None and not dry_run:
        raise UsageError("--output is missing: name a folder for the pictures, or add --dry-run.")
    from equicli import artifact
    from equicli.data.decode import MAX_PIXELS
    from equicli.devices import find_device, place
    from equicli.serving import upright
    from equicli.serving.inputs import find_inputs

    out = Output(json=json, quiet=quiet)
    chosen = find_device(device)
    tell_near_chance(artifact.read_config(file), inputs[0], out)
    paths = find_inputs(names, sys.stdin, out)
    targets = {} if output is None else upright.plan_outputs(paths, Path(output), overwrite=overwrite)
    targets = {} if dry_run else targets  # planned all the same: what would be refused is told
    model = artifact.load_poses(file)
    place(model, chosen)
    every = list(
        upright.turn_upright(
            model,
            paths,
            targets,
            method=method and method.value,
            sure=sure,
            batch_size=batch_size,
            workers=workers,
            max_pixels=max_pixels or MAX_PIXELS,
            strict=strict,
            progress=out,
        )
    )
    if output is not None and not dry_run:
        upright.write_list(Path(output), every)
    told = (upright.UPRIGHT,) if dry_run else (upright.TURNED, upright.UPRIGHT)
    for one in every:
        if one.done not in told:
            share = "" if one.sure is None else f" (looks {one.pose}, {one.sure:.0%} sure)"
            out.say(f"{one.path}: {one.done}{share}" + (f": {one.why}" if one.why else ""))
    counts = upright.count(every)
    lines = "\n".join(f"{number:7,} {what}" for what, number in counts.items())
    lines += "\n(a dry run: nothing was written)" * dry_run
    out.result(lines, {"output": output, "sure": sure, "counts": counts, "pictures": len(every)})
