"""The command line. One file per command: it parses, builds the configuration and calls; torch is imported on call."""

import io
import os
import sys
import traceback

import typer

from equicli.cli.adapt import adapt_command
from equicli.cli.compare import compare_command
from equicli.cli.evaluate import evaluate_command
from equicli.cli.export import export_command
from equicli.cli.inspect import inspect_command
from equicli.cli.models import models_command
from equicli.cli.options import join_triples
from equicli.cli.predict import join_command, predict_command
from equicli.cli.quickstart import quickstart_command
from equicli.cli.streams import discard, fill_closed
from equicli.cli.upright import upright_command
from equicli.errors import EquicliError
from equicli.files import naming

# 128 + SIGPIPE
PIPE_CLOSED = 141
# Parts of typer's messages, and what we say.
_WORDS = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "not a whole number",
    "Input should be a valid number, unable to parse string as a number": "not a number",
    "Input should be greater than or equal to": "must be at least",
    "Input should be less than or equal to": "must be at most",
    "Got unexpected extra argument(s)": "More arguments than there is room for, as names with spaces need quotes:",
    "Got unexpected extra argument": "More arguments than there is room for, as names with spaces need quotes:",
}

# Before torch is loaded: threads that wait by spinning make training ten times slower where cores are shared.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    name="equicli",
    help="Make a large pretrained vision model rotation-equivariant without touching the model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `equicli quickstart`: a minute, offline, on real handwritten digits.",
)
for command in (
    adapt_command,
    compare_command,
    evaluate_command,
    export_command,
    inspect_command,
    join_command,
    models_command,
    predict_command,
    quickstart_command,
    upright_command,
):
    app.command(command.__name__.removesuffix("_command"))(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from equicli import __version__

        with naming("standard output"):
            print(f"equicli {__version__}", flush=True)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    pass


_run = typer.main.get_command(app)


def main() -> None:
    """Run the command line; errors that a user can cause are one line on stderr and exit code 1 or 2.

    Where nobody reads the output any more, as in `equicli models | head -1`, the code is 141, as of a process that
    SIGPIPE ends.
    """
    fill_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ° must not cost an evaluation
    try:
        code = _run(join_triples(sys.argv[1:]), standalone_mode=False, prog_name="equicli")
        with naming("standard output"):
            sys.stdout.flush()
    except (SystemExit, BrokenPipeError):  # typer and rich make one of the other
        discard(sys.stdout)
        code = PIPE_CLOSED
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("EQUICLI_DEBUG") == "1":
            traceback.print_exc()
        message, code = _explain(error)
        if message:
            print(message, file=sys.stderr)
        if isinstance(error, OSError):
            discard(sys.stdout)  # which may be what cannot be written
    sys.exit(code if isinstance(code, int) else 0)


def _plain(message: str) -> str:
    """What typer says, in our words."""
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return message if not message or message.endswith((".", "?", "!")) else f"{message}."


def _explain(error: BaseException) -> tuple[str, int]:
    """The line and the exit code for an exception."""
    if isinstance(error, EquicliError):
        return f"equicli: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "equicli: interrupted", 130
    if hasattr(error, "format_message"):  # typer's own: unknown option, missing argument, or help without a command
        message = _plain(error.format_message())
        command = getattr(getattr(error, "ctx", None), "command_path", "equicli")
        return f"equicli: {message} See `{command} --help`." if message else "", 2
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"equicli: {place}{error.strerror or error}." + ("" if place else " EQUICLI_DEBUG=1 shows where."), 1
    if type(error).__name__ == "OutOfMemoryError":
        return "equicli: out of GPU memory; lower --batch-size, or use --device cpu.", 1
    return f"equicli: internal error ({type(error).__name__}: {error}). EQUICLI_DEBUG=1 shows where.", 1
