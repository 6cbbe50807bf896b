"""What the tasks of point clouds have in common: how clouds are prepared, and scores by how test clouds are turned."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor

from equicli.data.clouds.preprocess import CloudPreprocess, Draw, Points, Seed
from equicli.groups import Rotations, Turns
from equicli.prediction.network import PretrainedNetwork
from equicli.progress import Progress
from equicli.settings import Settings
from equicli.tasks.intervals import clustered
from equicli.tasks.task import Figure

if TYPE_CHECKING:
    from equicli.adapted import AdaptedModel

# What the scenarios of the literature call the turns of test clouds.
SCENARIOS = {"so2z": "z", "so3": "so3"}
_DRAWN = {"random": "at random", "first": "from the first on", "farthest": "each the farthest from those before"}


class CloudSettings(Settings):
    """How clouds are prepared."""

    points: Points = Field(1024, description="points that the network is shown of each cloud")
    draw: Draw = Field("random", description="which of them: random (seeded), first, or farthest from one another")
    draw_seed: Seed = Field(0, description="of drawing points, and of sampling meshes")


def prepare_for_clouds(found: PretrainedNetwork, settings: CloudSettings, progress: Progress) -> PretrainedNetwork:
    """Let a network be shown clouds as the settings say."""
    preprocess = CloudPreprocess(settings.points, settings.draw, settings.draw_seed)
    drawn = f"{preprocess.points} points each, drawn {_DRAWN[preprocess.draw]}"
    progress.say(f"clouds: {drawn}, centred and scaled to the unit sphere")
    return replace(found, preprocess=preprocess)


def clouds_figure(model: "AdaptedModel", turns: Turns, paths: Sequence[Path]) -> Figure | None:
    """Clouds as they come, and their canonical forms; None where none can be read."""
    from equicli.tasks.points import figure

    png = figure.figure(model, paths, turns)
    return None if png is None else Figure(figure.FILE, figure.TITLE, png)


def averaged(values: Tensor, elements: Rotations, score: str) -> dict[str, Any]:
    """The mean of a score over the rotations of the group alone, and over those of each scenario.

    The untouched pose, and of SO(3) turns about z, are told for themselves.

    Args:
        values: (n, |R|), float64.
    """
    of_group = values[:, list(elements.scenarios[elements.name])]
    found: dict[str, Any] = {
        f"avg_{score}": float(of_group.mean()),
        f"avg_{score}_ci": clustered(of_group.numpy()),
        f"worst_{score}": float(of_group.mean(dim=0).min()),
    }
    for group, turns in elements.scenarios.items():
        turned = values[:, list(turns)]
        found[f"{SCENARIOS[group]}_{score}"] = float(turned.mean())
        found[f"{SCENARIOS[group]}_{score}_ci"] = clustered(turned.numpy())
    return found


def class_mean(hits: Tensor, target: Tensor) -> float:
    """The mean over the classes of the accuracy of each."""
    return float(torch.stack([hits[target == label].mean() for label in target.unique()]).mean())
