"""`equicli predict`: predictions of many files. `equicli join`: one output of the parts that several processes made."""

import shlex
import sys
from typing import Annotated

import typer

from equicli.cli.inputs import Inputs, Workers, find_named, tell_near_chance
from equicli.cli.options import (
    DEVICE_HELP,
    NETWORK,
    OUTPUT,
    RUNNING,
    Json,
    MaxPixels,
    ModelArg,
    Overwrite,
    OwnModel,
    Precision,
    Quiet,
    Strict,
    own_network,
)
from equicli.cli.output import Output


def predict_command(
    inputs: Inputs,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="The file, FILE.jsonl or FILE.csv.",
            rich_help_panel=OUTPUT,
            show_default="JSON lines on stdout",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a killed run was.", rich_help_panel=OUTPUT)
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do the I-th of N parts of the work; `equicli join` joins them.",
            rich_help_panel=RUNNING,
            show_default="all",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in a batch.", rich_help_panel=RUNNING)] = 32,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP, rich_help_panel=RUNNING)] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of the network. auto: bf16 on CUDA, else fp32.", rich_help_panel=RUNNING)
    ] = Precision.fp32,
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
    max_pixels: MaxPixels = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict many files: one row each, with the answer, the pose, how sure the pose is, and passes of the network.

    Files that cannot be read have a row that says why.

    Example: equicli predict runs/latest photos/ --output predictions.csv
    """
    from equicli.errors import EquicliError, UsageError

    file, names = find_named(inputs)
    if output is None and (resume or overwrite or json or shard is not None):
        raise UsageError("--resume, --shard, --overwrite and --json need --output FILE.")
    from equicli import artifact
    from equicli.data.decode import MAX_PIXELS, UnreadableImageError
    from equicli.devices import find_device, find_precision, place
    from equicli.prediction.checkpoint_files import sha256_of
    from equicli.serving.inputs import find_inputs
    from equicli.serving.parts import Joined, Shard, holds_all
    from equicli.serving.predict import Served, check_pictures, plan_output, predict_files, predict_to

    out = Output(json=json, quiet=quiet)
    config = artifact.read_config(file)
    check_pictures(config)  # before inputs are looked for: a folder of clouds has none
    chosen = find_device(device)
    part = None if shard is None else Shard.read(shard)
    target = None if output is None else plan_output(output, overwrite=overwrite or resume)
    paths = find_inputs(names, sys.stdin, out)
    if target is not None and target.is_file() and not overwrite:  # so the call that is gone on with had ended
        if not holds_all(target, paths):
            raise UsageError(f"--output {target}: exists, of other inputs; name another file or add --overwrite.")
        out.say(f"{target} has every input already")
        out.result(str(target), {"path": str(target), "inputs": len(paths)})
        return
    loaded = artifact.load(file, network=own_network(model, model_arg), checkpoint=checkpoint)
    place(loaded, chosen)
    how = find_precision(precision.value, chosen)
    served = Served.of(loaded, config, sha256_of(file), max_pixels or MAX_PIXELS, how)
    if target is None:
        done: Joined = predict_to(
            served, paths, sys.stdout, batch_size=batch_size, workers=workers, strict=strict, progress=out
        )
        tell_near_chance(config, inputs[0], out)
        _tell(done, out)
        return
    try:
        made = predict_files(
            served,
            paths,
            target,
            shard=part,
            batch_size=batch_size,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            strict=strict,
            progress=out,
        )
    except UnreadableImageError as error:  # in strict mode
        raise EquicliError(
            f"{error.path}: unreadable image ({error.reason}). What is done is kept. Mend the file and add --resume; "
            f"or go on without --strict: {_resuming()}"
        ) from None
    except KeyboardInterrupt:
        out.say(f"what is done is kept; to go on: {_resuming()}")
        raise
    tell_near_chance(config, inputs[0], out)
    if isinstance(made, Joined):
        _finish(made, str(target), out)
    else:
        out.result(str(made), {"path": str(made), "shard": shard})
        out.say(f"when all parts are there: equicli join {target}")


def _resuming() -> str:
    """The command that goes on with what this one began."""
    words = [word for word in sys.argv[1:] if word not in ("--strict", "--resume", "--overwrite")]
    return shlex.join(["equicli", *words, "--resume"])


def join_command(
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUTPUT", help="What --output named where the parts were made.", show_default="must be named"
        ),
    ],
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Join the parts that `equicli predict --shard I/N` wrote, and check that every input is there once.

    Example: equicli join predictions.csv
    """
    from equicli.serving.predict import join_parts, plan_output

    target = plan_output(output, overwrite=overwrite)
    _finish(join_parts(target, overwrite=overwrite), output, Output(json=json, quiet=quiet))


def _finish(done, target: str, out: Output) -> None:  # type: ignore[no-untyped-def]
    _tell(done, out)
    out.result(target, {"path": target, "inputs": done.inputs, "unreadable": dict(done.unreadable)})


def _tell(done, out: Output) -> None:  # type: ignore[no-untyped-def]
    from equicli.data.loading import tell_unreadable
    from equicli.errors import counted

    tell_unreadable(done.unreadable, out)
    out.say(f"predicted {done.inputs - len(done.unreadable):,} of {counted(done.inputs, 'files')}")
