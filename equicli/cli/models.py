"""`equicli models`: names to type."""

from typing import Annotated

import typer

from equicli.cli.options import Json
from equicli.cli.output import Output


def models(
    filter: Annotated[str | None, typer.Argument(metavar="[FILTER]", help="Show only names that contain this.")] = None,
    json: Json = False,
) -> None:
    """List short model names and the full timm name, with its tag, that each stands for.

    Every other classification network of timm's works by its full name, and torchvision's as torchvision:NAME.
    """
    from equicli.errors import UsageError
    from equicli.prediction.short_names import SHORT_NAMES

    found = {short: full for short, full in SHORT_NAMES.items() if filter is None or filter in short or filter in full}
    if not found:
        raise UsageError(f"{filter}: no short name contains this; timm's and torchvision's full names work too.")
    width = max(map(len, found))
    text = "\n".join(f"{short:<{width}}  {full}" for short, full in found.items())
    Output(json=json).result(text, found)
