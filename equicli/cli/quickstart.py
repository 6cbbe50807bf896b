"""`equicli quickstart`: the main job on data and a network that come with the installation."""

from enum import Enum
from typing import Annotated

import typer

from equicli.cli.options import Json, Overwrite, Quiet
from equicli.cli.output import Output


class OnTask(str, Enum):
    classification = "classification"
    points = "points"


def quickstart_command(
    task: Annotated[
        OnTask, typer.Option(help="classification: pictures of digits; points: point clouds of shapes.")
    ] = OnTask.classification,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder for the data, the network and the run.")
    ] = "quickstart",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Adapt a small network on real handwritten digits: a minute, offline.

    Writes scikit-learn's digits as an image folder, pretrains a small timm network on them upright, then runs adapt,
    evaluate and export as you would. With --task points the same with point clouds of shapes that the program makes.
    """
    from pathlib import Path

    from equicli import pipeline, sharing
    from equicli.claims import claim_new
    from equicli.config import build_config
    from equicli.errors import UsageError
    from equicli.files import alone_in, check_writable

    folder = Path(output)
    earlier = (folder / "run" / "resolved.yaml").is_file()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: is a file; name a folder.")
    if folder.exists() and any(folder.iterdir()) and not (overwrite and earlier):
        raise UsageError(
            f"--output {folder}: exists; name another folder, or replace an earlier quickstart with --overwrite."
        )
    check_writable(folder)
    out = Output(json=json, quiet=quiet)
    weights = f"{folder}/network.safetensors"
    points = task is OnTask.points
    recipe = "quickstart-points" if points else "quickstart"
    commands = [
        f"equicli adapt --recipe {recipe} --checkpoint {weights} --output {folder}/run {folder}/data",
        f"equicli evaluate {folder}/run",
        f"equicli export {folder}/run --output {folder}/model.safetensors",
    ]
    with alone_in(folder):
        if points:
            from equicli.quickstart.shapes import prepare_shapes

            prepare_shapes(folder, out)
        else:
            from equicli.quickstart.digits import prepare

            prepare(folder, out)
        out.say(f"\n$ {commands[0]}")
        config = build_config({"data": f"{folder}/data", "checkpoint": weights}, [], recipe)
        with claim_new(f"{folder}/run", config.network.model, config.group, overwrite=overwrite) as run:
            pipeline.adapt(config, run, out)
        out.say(f"\n$ {commands[1]}")
        pipeline.evaluate(str(run.folder), progress=out, show=out.metrics)
        out.say(f"\n$ {commands[2]}")
        sharing.export(str(run.folder), f"{folder}/model.safetensors", overwrite=overwrite)
    if points:
        further = (
            f"  equicli compare --recipe {recipe} --checkpoint {weights} --seeds 1 --systems points {folder}/data\n"
        )
        own = "clouds:\n  equicli adapt --task points --group so3 --model pointnet --checkpoint weights.pth data/\n"
    else:
        further = f"  equicli compare --recipe compare-quickstart --checkpoint {weights} --seeds 1 {folder}/data\n"
        own = "images:\n  equicli adapt --model vit_base --group c4 data/\n"
    out.say(
        f"\nBeside the papers' systems, in some minutes:\n{further}"
        f"The same on your own {own}  equicli evaluate\n  equicli export"
    )
