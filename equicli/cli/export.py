"""`equicli export`: the adapted model as one file."""

from typing import Annotated

import typer

from equicli.cli.options import Json, ModelArg, Overwrite, OwnModel, Quiet, RunArgument, own_network
from equicli.cli.output import Output


def export(
    run: RunArgument = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file; default: <run>.safetensors here.")
    ] = None,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Only the canonicalizer; `load` fetches and verifies the network.")
    ] = False,
    hashes: Annotated[
        bool,
        typer.Option(
            "--hashes/--no-hashes", help="Keep 8 bytes a picture, by which `evaluate` knows those it was trained on."
        ),
    ] = True,
    model: OwnModel = None,
    model_arg: ModelArg = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write canonicalizer and prediction network as one safetensors file.

    `equicli.load(path)` turns it into an nn.Module that takes and returns what the prediction network does.

    Example: equicli export --output model.safetensors
    """
    from equicli import pipeline

    out = Output(json=json, quiet=quiet)
    exported = pipeline.export(
        run,
        output,
        adapter_only=adapter_only,
        hashes=hashes,
        network=own_network(model, model_arg),
        overwrite=overwrite,
    )
    out.result(str(exported["path"]), exported)
    if not adapter_only and model is None:
        out.say(f"next: python -c \"import equicli; model = equicli.load('{exported['path']}')\"")
