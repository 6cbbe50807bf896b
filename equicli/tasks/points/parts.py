"""The task: a part for each point of a cloud, such as the legs and the seat of a chair."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from equicli.data.clouds.decode import CloudDecoder
from equicli.data.clouds.folders import open_clouds
from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Dataset, Sample
from equicli.errors import EquicliError
from equicli.groups import PlanarGroup, Turns
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import Signature, split_batch
from equicli.progress import Progress
from equicli.settings import TaskSettings
from equicli.tasks.points.clouds import CloudSettings, averaged, clouds_figure, prepare_for_clouds
from equicli.tasks.task import Figure, Records, Task


class PartSettings(TaskSettings, CloudSettings):
    """How clouds are prepared."""

    kind: Literal["point-parts"] = "point-parts"


class PointParts(Task):
    """A part for each point. Outputs are logits (points, k) of every point of the file, targets their parts, (points,).

    What the network says of the points that it is shown is taken for the points nearest to them. Labels stand in the
    files: the last of four or more columns of text, `label` or `pid` of .npz, `pid` of h5.
    """

    name = "point-parts"
    also_called = ("part-segmentation",)
    Settings = PartSettings
    signature = Signature("points", "per-point")
    score = "iou"
    title = "mIoU"
    words = "mean intersection over union of the parts"
    columns = (("z", "z_iou"), ("point acc", "avg_point_acc"))
    shown = columns
    tag = "other"
    things = "clouds"

    def stored(self) -> dict[str, Any]:
        return {}  # the preprocessing has them by then

    def open(self, root: Path) -> Dataset:
        return open_clouds(root, self.split_names).with_targets(lambda sample: None)

    def targets(self, samples: Sequence[Sample], data: Dataset, labels: Mapping[str, int]) -> list[Any] | None:
        decoder = CloudDecoder()
        found = [decoder.read_labels(sample.path) for sample in samples]
        if all(of is None for of in found):
            return None
        unlabelled = [sample.path for sample, of in zip(samples, found, strict=True) if of is None]
        missing = [path for path in unlabelled if _is_readable(path, decoder)]  # others are told where clouds are read
        if missing:
            raise EquicliError(
                f"{missing[0]}: its points have no labels, as in {len(missing)} of {len(samples)} clouds."
            )
        return found

    def prepare(self, found: PretrainedNetwork, data: Dataset, progress: Progress) -> PretrainedNetwork:
        return prepare_for_clouds(found, self.settings, progress)

    def targets_of(self, output: Any) -> list[Any]:
        return [logits.argmax(dim=1).cpu() for logits in split_batch(output)]

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Tensor]:
        """`iou`: of each cloud the mean over the parts that it has, or is said to have; `point_acc`: of its points."""
        pairs = list(zip(self.targets_of(output), targets, strict=True))
        for found, right in pairs:
            if found.shape != right.shape:
                raise EquicliError(f"{len(right)} labels do not fit the {len(found)} points of a cloud.")
        return {
            "iou": torch.tensor([_iou(found, right) for found, right in pairs]),
            "point_acc": torch.tensor([float((found == right).double().mean()) for found, right in pairs]),
        }

    def changes(self, output: Any, reference: Any) -> tuple[Tensor, float]:
        pairs = list(zip(split_batch(output), split_batch(reference), strict=True))
        changed = [bool((a.argmax(dim=1) != b.argmax(dim=1)).any()) for a, b in pairs]
        return torch.tensor(changed), max(float((a.float() - b.float()).abs().max()) for a, b in pairs)

    def figure(
        self, model: Any, turns: Turns, right: Mapping[Path, Any], lost: Sequence[Path], max_pixels: int
    ) -> Figure | None:
        return clouds_figure(model, turns, list(right))

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        measured = super().measure(records, elements)
        if isinstance(elements, PlanarGroup):
            return measured
        points = averaged(records["point_acc"].double(), elements, "point_acc")
        return {**measured, **averaged(records["iou"].double(), elements, "iou"), **points}


def _is_readable(path: Path, decoder: CloudDecoder) -> bool:
    try:
        decoder.read(path)
    except UnreadableImageError:
        return False
    return True


def _iou(found: Tensor, right: Tensor) -> float:
    parts = torch.cat([found, right]).unique()
    shares = [((found == p) & (right == p)).sum() / ((found == p) | (right == p)).sum() for p in parts]
    return float(torch.stack(shares).double().mean())
