"""Answers drawn into a picture at every turn, the network alone beside the adapted model."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from equicli.adapted import AdaptedModel
from equicli.data.decode import Decoder
from equicli.groups import PlanarGroup
from equicli.prediction.inputs import Pictures, Views
from equicli.prediction.signature import asking

FILE = "overlays.png"
TITLE = "Pictures that lose most at every turn, the network alone above the adapted model"
# Pictures and turns that are drawn.
PICTURES, TURNS = 3, 4


@torch.inference_mode()
def figure(
    model: AdaptedModel,
    draw: Callable[[Any, Any], None],
    elements: PlanarGroup,
    paths: Sequence[Path],
    max_pixels: int,
) -> bytes:
    """A PNG with two rows for each of the first pictures, and a column for each of the first turns, as they came.

    Args:
        draw: see `Task.draw`.
    """
    paths = paths[:PICTURES]
    from matplotlib.figure import Figure

    turns = list(elements.elements())[:TURNS]
    drawing = Figure(figsize=(2.6 * len(turns), 5 * len(paths)), layout="constrained", dpi=110)
    grid = drawing.subplots(2 * len(paths), len(turns), squeeze=False)
    ask = asking(model.prediction_network, model.signature)
    decoder = Decoder(model.value_ranges, max_pixels)
    for row, path in enumerate(paths):
        picture = decoder.read(path)
        for column, h in enumerate(turns):
            inputs = cast(Pictures, model.pictures([picture])).turned(elements, h)
            (turned,) = inputs.pictures
            alone = Views(inputs, model.canonicalizer.group, ask, model.signature.outputs).at(None)
            for below, (name, output) in enumerate((("vanilla", alone), ("adapted", model.answer(inputs, ask).output))):
                axes = grid[2 * row + below][column]
                axes.imshow(turned.permute(1, 2, 0).numpy())
                draw(axes, output)
                axes.set_title(f"{name}, {elements.label(h)}", fontsize=8)
                axes.set_axis_off()
    file = io.BytesIO()
    drawing.savefig(file, format="png")
    return file.getvalue()
