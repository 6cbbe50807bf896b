"""What `predict` and `upright` are called with: a run, files, and how these are decoded."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equicli.cli.options import RUNNING

if TYPE_CHECKING:
    from equicli.cli.output import Output
    from equicli.model_config import ModelConfig

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN INPUT...",
        help="A run folder or an exported file; then pictures, folders, patterns, or - for a list on standard input.",
        show_default="all must be named",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that decode; 0 takes threads.",
        rich_help_panel=RUNNING,
        show_default="one a core, for 500 files or more",
    ),
]


def find_named(inputs: list[str]) -> tuple[Path, list[str]]:
    """The artifact that the first argument names, and the others. Before torch is imported, which takes long.

    And while its threads can still be told to leave the cores, where they wait for each other, to the processes that
    decode: else they wait busily, which more than doubled the processor's time.

    Raises:
        UsageError: there is no such run, or nothing is named after it.
    """
    from equicli.claims import find_artifact
    from equicli.errors import UsageError

    run, *names = inputs
    if not names:
        raise UsageError(f"INPUT is missing: name pictures, folders of them, patterns, or - for a list, after {run}.")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return find_artifact(run)[0], names


def tell_near_chance(config: "ModelConfig", run: str, out: "Output") -> None:
    """Tell where poses are hardly better than guesses, so that nobody takes them for more."""
    if config.near_chance:
        out.say(
            f"mind: the canonicalizer of {run} is near chance: training found {config.identity_rate:.1%} of its "
            "validation images as the prior says. Adapt anew; `equicli evaluate` tells what may help"
        )
