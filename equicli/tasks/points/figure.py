"""A figure of point clouds: how each comes, at several rotations, and the canonical form that the network is shown."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.data.decode import UnreadableImageError
from equicli.data.value_range import AS_USUAL
from equicli.groups import Turns, acting

FILE = "clouds.png"
TITLE = "How clouds come, and what the network is shown of them"
# Clouds and turns of each that are drawn, and points of each.
CLOUDS, TURNS, POINTS = 2, 4, 600


def figure(model: AdaptedModel, paths: Sequence[Path], turns: Turns) -> bytes | None:
    """Draw the first readable clouds, untouched and turned, and below each what it is turned back to; as a PNG.

    Args:
        turns: by what clouds are turned; the last of them are drawn.

    Returns:
        None where no file can be read.
    """
    from matplotlib.figure import Figure

    clouds = _read(model, paths)
    if not clouds:
        return None
    chosen = [0, *turns.elements()[1 - TURNS :]]
    drawing = Figure(figsize=(2.2 * len(chosen), 4.4 * len(clouds)), layout="constrained")
    grid = drawing.subplots(2 * len(clouds), len(chosen), subplot_kw={"projection": "3d"}, squeeze=False)
    for number, cloud in enumerate(clouds):
        inputs = model.tensors(cloud[None])
        for column, h in enumerate(chosen):
            turned = inputs.turned(*acting(turns, h, torch.tensor([number]))).at(model.canonicalizer.group, None)
            with torch.inference_mode():
                found = model.canonicalize(turned)
            for row, (title, shown) in enumerate((("input", turned), ("canonical form", found))):
                axes = grid[2 * number + row, column]
                points = shown[0, :POINTS].cpu()
                # A colour for each point, by its height in the untouched cloud, so that points are known again.
                axes.scatter(*points.T.numpy(), c=cloud[:POINTS, 2].numpy(), s=2, cmap="viridis")
                axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1), xticks=[], yticks=[], zticks=[])
                axes.set_box_aspect((1, 1, 1))
                axes.set_title(f"{title}, {turns.label(h)}", fontsize=8)
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _read(model: AdaptedModel, paths: Sequence[Path]) -> list[Tensor]:
    """Prepared clouds (points, 3) of files far apart in the list, as neighbours are of one class."""
    decoder, found = model.preprocess.decoder(AS_USUAL), []
    for path in paths[:: max(1, len(paths) // CLOUDS)]:
        try:
            found.append(model.preprocess(decoder.read(path)))
        except UnreadableImageError:
            continue  # told by the evaluation
    return found[:CLOUDS]
