"""`equicli export`: the adapted model as one file."""

from typing import Annotated

import typer

from equicli.cli.options import OUTPUT, Json, ModelArg, Overwrite, OwnModel, Quiet, RunArgument, own_network
from equicli.cli.output import Output


def export_command(
    run: RunArgument = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The file.", rich_help_panel=OUTPUT, show_default="<run>.safetensors"),
    ] = None,
    adapter_only: Annotated[
        bool,
        typer.Option(
            "--adapter-only",
            help="Only the canonicalizer; `load` fetches and verifies the network.",
            rich_help_panel=OUTPUT,
        ),
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
    from equicli.runs import plan_export

    # What can be refused is refused before torch is imported, which takes long.
    plan_export(run, output, adapter_only=adapter_only, overwrite=overwrite)
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
    out.say(f'next: python -c "import equicli; model = {exported["load"]}"')
