"""Answers drawn into a picture at every turn, the network alone beside the adapted model."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.data.decode import Decoder
from equicli.groups import PlanarGroup
from equicli.prediction.inputs import Pictures, Views
from equicli.prediction.signature import asking

if TYPE_CHECKING:
    from equicli.tasks.task import Task

FILE = "overlays.png"
TITLE = "Answers at every turn, the network alone above the adapted model: the pictures that lose most, or the first"
# Pictures and turns that are drawn, at most.
PICTURES, TURNS = 3, 8


@torch.inference_mode()
def figure(
    model: AdaptedModel, task: "Task", elements: PlanarGroup, right: Mapping[Path, Any], max_pixels: int
) -> bytes:
    """A PNG with two rows for each picture, and a column for each turn, as they come; prompts are drawn, too.

    Args:
        right: of each picture what is right, in its frame; None where nothing says.
    """
    from matplotlib.figure import Figure

    turns = list(elements.elements())[:TURNS]
    drawing = Figure(figsize=(2.6 * len(turns), 5 * len(right)), layout="constrained", dpi=110)
    grid = drawing.subplots(2 * len(right), len(turns), squeeze=False)
    ask = asking(model.prediction_network, model.signature)
    decoder = Decoder(model.value_ranges, max_pixels)
    for row, (path, target) in enumerate(right.items()):
        untouched = task.prompted(model.pictures([decoder.read(path)]), None if target is None else [target])
        for column, h in enumerate(turns):
            inputs = cast(Pictures, untouched).turned(elements, h)
            (turned,) = inputs.pictures
            alone = Views(inputs, model.canonicalizer.group, ask, model.signature.outputs).at(None)
            for below, (name, output) in enumerate((("vanilla", alone), ("adapted", model.answer(inputs, ask).output))):
                axes = grid[2 * row + below][column]
                height, width = turned.shape[-2:]
                axes.imshow(turned.permute(1, 2, 0).numpy(), extent=(0, width, height, 0))
                task.draw(axes, output)
                for prompts in inputs.prompts or ():
                    _draw_prompts(axes, prompts)
                axes.set_title(f"{name}, {elements.label(h)}", fontsize=8)
                axes.set_axis_off()
    file = io.BytesIO()
    drawing.savefig(file, format="png")
    return file.getvalue()


def _draw_prompts(axes: Any, prompts: Mapping[str, Tensor]) -> None:
    """Boxes as dashed lines, points as crosses."""
    for left, top, right, bottom in prompts.get("boxes", torch.zeros(0, 4)).tolist():
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], "w--", linewidth=0.8)
    points = prompts.get("points", torch.zeros(0, 1, 2)).flatten(0, 1)
    axes.plot(*points.T.numpy(), "w+", markersize=5)
