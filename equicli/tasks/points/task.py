"""The task: one class for each point cloud."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from equicli.data.clouds.folders import open_clouds
from equicli.data.folders import Dataset
from equicli.errors import UsageError
from equicli.groups import PlanarGroup, Turns
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import Signature
from equicli.progress import Progress
from equicli.tasks.classification.order import better_order
from equicli.tasks.classification.task import Classification, ClassificationSettings, tell_chance_of
from equicli.tasks.points.clouds import (
    SCENARIOS,
    CloudSettings,
    averaged,
    class_mean,
    clouds_figure,
    prepare_for_clouds,
)
from equicli.tasks.task import Figure, Records


class PointSettings(ClassificationSettings, CloudSettings):
    """How clouds are prepared, and folders and outputs are matched."""

    kind: Literal["points"] = "points"  # type: ignore[assignment]


class PointClassification(Classification):
    """One class for each point cloud. Outputs are logits (b, k), targets the index of the right one.

    Test clouds come turned as in the literature: about z, and by all rotations, each cloud by others (see
    `groups.rotations`). The averaged accuracy is that over all rotations of the group.
    """

    name = "points"
    also_called = ("clouds", "point-clouds")
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
        if self.settings.prompts is not None:
            raise UsageError("--prompts: are for networks of pictures and texts; leave it out.")
        return prepare_for_clouds(found, self.settings, progress)

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        measured = super().measure(records, elements)
        if isinstance(elements, PlanarGroup):
            return measured
        hits, target = records["acc"].double(), records["target"][:, 0]
        by_class = {
            f"{SCENARIOS[group]}_class_acc": class_mean(hits[:, list(turns)], target)
            for group, turns in elements.scenarios.items()
        }
        own = list(elements.scenarios[elements.name])
        return {
            **measured,
            **averaged(hits, elements, "acc"),
            "avg_top5_acc": float(records["top5"][:, own].double().mean()),
            "class_acc": class_mean(hits[:, :1], target),
            "avg_class_acc": by_class[f"{SCENARIOS[elements.name]}_class_acc"],
            **by_class,
        }

    def figure(
        self, model: Any, turns: Turns, right: Mapping[Path, Any], lost: Sequence[Path], max_pixels: int
    ) -> Figure | None:
        return clouds_figure(model, turns, list(right))

    def warnings(self, records: Records, elements: Turns, labels: Mapping[str, int]) -> list[str]:
        return better_order(records, labels) or tell_chance_of(records, "--set task.points=, task.draw=")
