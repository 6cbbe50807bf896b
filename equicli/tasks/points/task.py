"""The task: point clouds in folders, how many points a network takes, and accuracy as the literature states it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from equicli.data.clouds.folders import open_clouds
from equicli.data.clouds.preprocess import CloudPreprocess, Draw, Points, Scale, Seed
from equicli.data.folders import Dataset
from equicli.errors import UsageError
from equicli.groups import PlanarGroup, Rotations, Turns
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import Signature
from equicli.progress import Progress
from equicli.tasks.classification.order import better_order
from equicli.tasks.classification.task import Classification, ClassificationSettings, tell_chance_of
from equicli.tasks.intervals import clustered
from equicli.tasks.task import Records

# What the scenarios of the literature call the turns of test clouds.
SCENARIOS = {"so2z": "z", "so3": "so3"}


class PointSettings(ClassificationSettings):
    """How clouds are prepared, and folders and outputs are matched."""

    kind: Literal["points"] = "points"  # type: ignore[assignment]
    points: Points = Field(1024, description="points that the network is shown of each cloud")
    draw: Draw = Field("random", description="which of them: random (seeded), first, or farthest from one another")
    scale: Scale = Field("sphere", description="sphere: centred, the farthest point at a distance of 1; none")
    draw_seed: Seed = Field(0, description="of drawing points, and of sampling meshes")


class PointClassification(Classification):
    """One class for each point cloud. Outputs are logits (b, k), targets the index of the right one.

    Test clouds come turned as in the literature: about z, and by all rotations, each cloud by others (see
    `groups.rotations`). The averaged accuracy is that over all rotations of the group.
    """

    name = "points"
    Settings = PointSettings
    signature = Signature("points", "logits")
    columns = (("z", "z_acc"), ("class mean", "avg_class_acc"))
    shown = columns
    baselines = ("vanilla", "oracle")
    tag = "other"
    things = "clouds"

    def stored(self) -> dict[str, Any]:
        return {}  # the preprocessing has them by then

    def open(self, root: Path) -> Dataset:
        return open_clouds(root, self.split_names)

    def prepare(self, found: PretrainedNetwork, data: Dataset, progress: Progress) -> PretrainedNetwork:
        settings: PointSettings = self.settings
        if settings.prompts is not None:
            raise UsageError("--prompts: are for networks of pictures and texts; leave it out.")
        preprocess = CloudPreprocess(settings.points, settings.draw, settings.scale, settings.draw_seed)
        progress.say(
            f"clouds: {preprocess.points} points each, drawn {_DRAWN[preprocess.draw]}"
            + (", centred and scaled to the unit sphere" if preprocess.scale == "sphere" else ", as they are")
        )
        return replace(found, preprocess=preprocess)

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        if isinstance(elements, PlanarGroup):
            return super().measure(records, elements)
        counted = [0, *elements.scenarios[elements.name]]
        of_group = {name: values[:, counted] for name, values in records.items()}
        hits, target = records["acc"].double(), records["target"][:, 0]
        averaged = hits[:, counted[1:]]
        return {
            **super().measure(records, elements),
            # Over the rotations of the group alone: the untouched pose, and turns about z, are told for themselves.
            "avg_acc": float(averaged.mean()),
            "avg_acc_ci": clustered(averaged.numpy()),
            "worst_acc": float(averaged.mean(dim=0).min()),
            "avg_top5_acc": float(of_group["top5"][:, 1:].double().mean()),
            "class_acc": _class_mean(hits[:, :1], target),
            "avg_class_acc": _class_mean(averaged, target),
            **_scenarios(hits, target, elements),
        }

    def warnings(self, records: Records, elements: Turns, labels: Mapping[str, int]) -> list[str]:
        return better_order(records, labels) or tell_chance_of(records)


_DRAWN = {
    "random": "at random",
    "first": "from the first on",
    "farthest": "each the farthest from those before",
}


def _scenarios(hits: Tensor, target: Tensor, elements: Rotations) -> dict[str, Any]:
    """Accuracy by what test clouds are turned by, whatever the network was trained with."""
    found: dict[str, Any] = {}
    for group, turns in elements.scenarios.items():
        values, name = hits[:, list(turns)], SCENARIOS[group]
        found[f"{name}_acc"] = float(values.mean())
        found[f"{name}_acc_ci"] = clustered(values.numpy())
        found[f"{name}_class_acc"] = _class_mean(values, target)
    return found


def _class_mean(hits: Tensor, target: Tensor) -> float:
    """The mean over the classes of the accuracy of each."""
    return float(torch.stack([hits[target == label].mean() for label in target.unique()]).mean())
