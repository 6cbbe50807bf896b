"""`equicli inspect`: what is inside an artifact, or what a model's name loads."""

from typing import Annotated

import typer

from equicli.cli.options import (
    Checkpoint,
    ImageSize,
    Json,
    Mean,
    ModelArg,
    Preprocessing,
    Quiet,
    Revision,
    Std,
    UseEma,
    plain,
)
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
    preprocess: Preprocessing = None,
    image_size: ImageSize = None,
    mean: Mean = None,
    std: Std = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is inside a run or an exported file, or what a model's name loads.

    Without a name it is the latest run. A model is loaded as `equicli adapt` would, and downloaded where it must be.

    Example: equicli inspect vit_base
    """
    from equicli.errors import UsageError
    from equicli.inspection import artifact_named, inspect_artifact, inspect_model
    from equicli.recipes import parse_pair
    from equicli.reports.listing import listing

    artifact = artifact_named(name)
    options = {
        "checkpoint": checkpoint,
        "ema": plain(ema),
        "revision": revision,
        "model_args": dict(parse_pair(a, "--model-arg") for a in model_arg or []) or None,
        "preprocess": plain(preprocess),
        "image_size": image_size,
        "mean": mean,
        "std": std,
    }
    if artifact is None:
        from equicli.config import build_config

        assert name is not None
        found = inspect_model(build_config({"data": ".", "model": name, **options}, [], None).network)
    else:
        given = [key.replace("model_args", "model_arg").replace("_", "-") for key, value in options.items() if value]
        if given:
            raise UsageError(f"--{given[0]}: says how to load a model; {artifact} is an artifact, so leave it out.")
        found = inspect_artifact(artifact)
    Output(json=json, quiet=quiet).result(listing(found), found)
