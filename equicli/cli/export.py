"""`equicli export`: the adapted model as one file."""

from enum import Enum
from typing import Annotated

import typer

from equicli.cli.options import (
    DATA,
    OUTPUT,
    ImageSize,
    Json,
    ModelArg,
    Overwrite,
    OwnModel,
    Quiet,
    RunArgument,
    own_network,
)
from equicli.cli.output import Output


class Format(str, Enum):
    safetensors = "safetensors"
    onnx = "onnx"
    torch_export = "torch-export"


def export_command(
    run: RunArgument = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The file.", rich_help_panel=OUTPUT, show_default="<run>.safetensors"),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="onnx and torch-export are programs: compared with the model before they are written.",
            rich_help_panel=OUTPUT,
            show_default="by the file's name, else safetensors",
        ),
    ] = None,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="The program takes one uint8 picture (h, w, 3) of any size.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    fp16: Annotated[
        bool,
        typer.Option("--fp16", help="The program's prediction network computes in half.", rich_help_panel=OUTPUT),
    ] = False,
    opset: Annotated[
        int | None,
        typer.Option(min=18, max=23, help="Of ONNX.", rich_help_panel=OUTPUT, show_default="the exporter's own"),
    ] = None,
    image_size: ImageSize = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Pictures that a program is compared on.", rich_help_panel=DATA, show_default="test images of the run"
        ),
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
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            "--push-to-hub",
            metavar="OWNER/NAME",
            help="Upload the model, its card and its metrics, in place of writing a file.",
            rich_help_panel=OUTPUT,
            show_default="none",
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository a private one.", rich_help_panel=OUTPUT)
    ] = False,
    model: OwnModel = None,
    model_arg: ModelArg = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write canonicalizer and prediction network as one file: safetensors, ONNX or torch.export.

    `equicli.load(path)` turns safetensors into an nn.Module that takes and returns what the prediction network does.
    A program of the others has the whole: it takes a batch of any size, preprocessed already. A network that answers
    prompts becomes two: FILE.encoder.onnx takes a picture, FILE.decoder.onnx prompts in it.

    Example: equicli export --output model.safetensors
    """
    from equicli.claims import plan_export
    from equicli.errors import UsageError

    if private and push_to_hub is None:
        raise UsageError("--private: says what --push-to-hub makes; leave it out.")
    if push_to_hub is not None:
        of_files: dict[str, object] = {
            "--output": output,
            "--format": form,
            "--with-preprocessing": with_preprocessing,
            "--fp16": fp16,
            "--no-hashes": not hashes,
        }
        of_files |= {"--opset": opset, "--data": data, "--image-size": image_size}
        for flag, value in of_files.items():
            if value:
                raise UsageError(f"{flag}: --push-to-hub uploads safetensors and writes no file; leave it out.")
        from equicli import sharing

        out = Output(json=json, quiet=quiet)
        pushed = sharing.push_to_hub(
            run,
            push_to_hub,
            private=private,
            adapter_only=adapter_only,
            network=own_network(model, model_arg),
            overwrite=overwrite,
            progress=out,
        )
        out.result(str(pushed["repository"]), pushed)
        out.say(f'next: python -c "import equicli; model = {pushed["load"]}"')
        return
    # What can be refused is refused before torch is imported, which takes long.
    _, _, chosen = plan_export(run, output, form and form.value, adapter_only=adapter_only, overwrite=overwrite)
    program_only = {"--with-preprocessing": with_preprocessing, "--fp16": fp16, "--opset": opset, "--data": data}
    for flag, wanted in ({**program_only, "--image-size": image_size}).items():
        if wanted and (chosen == "safetensors" or (flag == "--opset" and chosen != "onnx")):
            raise UsageError(f"{flag}: is not for --format {chosen}; leave it out.")
    if not hashes and chosen != "safetensors":
        raise UsageError(f"--no-hashes: is not for --format {chosen}, which holds none; leave it out.")
    from equicli import sharing

    out = Output(json=json, quiet=quiet)
    exported = sharing.export(
        run,
        output,
        form=chosen,
        adapter_only=adapter_only,
        hashes=hashes,
        data=data,
        image_size=image_size,
        with_preprocessing=with_preprocessing,
        half=fp16,
        opset=opset,
        network=own_network(model, model_arg),
        overwrite=overwrite,
        progress=out,
    )
    written = [file["path"] for file in exported.get("files", [exported])]
    out.result("\n".join(written), exported)
    if "parity" in exported:
        found = exported["parity"]
        out.say(
            f"{found['runtime']} says the same of {found['inputs']} inputs ({found['real']} of them real) at "
            f"{found['elements']} turns: numbers differ by {found['max_delta']:.2g} at most; {found['ties']} ties"
            + (f"; {100 * found['changed']:.3g} % of classes and pixels differ" if found.get("changed") else "")
        )
        return
    out.say(f'next: python -c "import equicli; model = {exported["load"]}"')
