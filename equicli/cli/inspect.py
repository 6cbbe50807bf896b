"""`equicli inspect`: what is inside an artifact, or what a model's name loads."""

from typing import Annotated

import typer

from equicli.cli.options import Checkpoint, ImageSize, Json, ModelArg, Quiet, Revision, UseEma
from equicli.cli.output import Output


def inspect_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|MODEL]",
            help="A run folder, an exported file, or what --model of adapt takes.",
            show_default="the latest run",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    ema: UseEma = None,
    revision: Revision = None,
    model_arg: ModelArg = None,
    image_size: ImageSize = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is inside a run or an exported file, or what a model's name loads.

    Without a name it is the latest run. A model is loaded as `equicli adapt` would, and downloaded where it must be.

    Example: equicli inspect vit_base
    """
    from equicli.errors import UsageError
    from equicli.inspection import find_artifact, inspect_artifact, inspect_model
    from equicli.recipes import expand_checkpoint, parse_pair
    from equicli.reports.listing import listing

    artifact = find_artifact(name)
    if artifact is None:
        assert name is not None
        found = inspect_model(
            name,
            checkpoint=checkpoint and expand_checkpoint(checkpoint),
            arguments=dict(parse_pair(a, "--model-arg") for a in model_arg or []),
            image_size=image_size,
            revision=revision,
            ema=ema.value if ema else "auto",
        )
    else:
        options = {
            "--checkpoint": checkpoint,
            "--ema": ema,
            "--revision": revision,
            "--model-arg": model_arg,
            "--image-size": image_size,
        }
        given = [flag for flag, value in options.items() if value]
        if given:
            raise UsageError(f"{given[0]}: says how to load a model; {artifact} is an artifact, so leave it out.")
        found = inspect_artifact(artifact)
    Output(json=json, quiet=quiet).result(listing(found), found)
