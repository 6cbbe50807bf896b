"""`equicli models`: names to type."""

from typing import Annotated

import typer

from equicli.cli.options import Json, Quiet
from equicli.cli.output import Output


def models_command(
    filter: Annotated[str, typer.Argument(metavar="[FILTER]", help="Show only names that contain this.")] = "",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List short model names, the full timm name that each stands for, parameters and input size.

    Networks of point clouds come last; they take weights of your own. Where FILTER is in none of them, timm's own names
    are listed: every classification network of timm's works by its full name, and torchvision's as torchvision:NAME.

    Example: equicli models vit
    """
    from equicli.errors import UsageError
    from equicli.prediction.catalogue import find_networks

    found, more = find_networks(filter)
    if not found:
        raise UsageError(
            f"{filter}: no short name and no pretrained classification network of timm's contains this. "
            "Networks of torchvision's are written torchvision:NAME."
        )
    width, full_width = max(map(len, found)), max(len(entry["model"]) for entry in found.values())
    lines = [
        f"{name:<{width}}  "
        + ("" if entry["model"] == name else f"{entry['model']:<{full_width}}  ")
        + f"{entry['parameters'] / 1e6:>6.1f} M  "
        + (f"{entry['input_size']:>3} px" if entry["input_size"] else "clouds")
        for name, entry in found.items()
    ]
    out = Output(json=json, quiet=quiet)
    out.result("\n".join(lines), found)
    if more:
        out.say(f"and {more} more; a longer FILTER finds them")
