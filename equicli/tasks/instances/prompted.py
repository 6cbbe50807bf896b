"""The task of networks that draw what prompts point at, such as SAM: how they are asked, and how well they draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from equicli.data.folders import Dataset, Sample
from equicli.errors import EquicliError, UsageError
from equicli.groups import Turns
from equicli.groups.elements import Frame
from equicli.prediction.inputs import Inputs, Pictures
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.promptable import INPUTS, takes_prompts
from equicli.prediction.published_files import architecture_in
from equicli.prediction.signature import Signature, try_network
from equicli.progress import Progress
from equicli.settings import LocalPath, TaskSettings
from equicli.tasks.annotations.objects import Objects, decode, overlaps
from equicli.tasks.annotations.outputs import bind_outputs
from equicli.tasks.instances.answers import PARTS, objects_in
from equicli.tasks.instances.task import MASKS, Instances
from equicli.tasks.task import Binding, Records, Task

# Where nothing is annotated: points to a side.
GRID = 4
_SAID = {"boxes": "the box of each annotated object", "points": "a point inside each annotated object"}
_GRID_SAID = f"{GRID}x{GRID} points of the upright picture, as nothing is annotated"


class PromptedSettings(TaskSettings):
    """Where prompts come from, and how classes are named."""

    kind: Literal["prompted"] = "prompted"
    prompts: Literal["boxes", "points"] = Field("boxes", description="of the annotated objects: boxes or points")
    class_map: LocalPath | None = Field(None, description="number of each class: a JSON, YAML or text file")
    category: str = Field("object", description="what the objects are that files of masks number")


class Prompted(Instances):
    """A mask for each object that a prompt points at. The prompts are made of what is annotated, so that the figures
    are of drawing, and not of finding: crowds are not pointed at.

    Networks take a list of mappings of `image` and prompts, and have `encode` and `decode`; see `promptable`.
    """

    name = "prompted"
    also_called = ("mask-generation", "sam")
    Settings = PromptedSettings
    signature = Signature(INPUTS, PARTS, lists=True)
    words = "COCO's average precision, of masks that were asked for by prompts,"
    columns = shown = (("avg mask IoU", "avg_mask_iou"),)
    has_pose_costs = False
    tag = "mask-generation"

    def stored(self) -> dict[str, Any]:
        return {"category": self.settings.category, "prompts": self.settings.prompts}

    @classmethod
    def is_for(cls, model: str) -> bool:
        return architecture_in(model) in ("SamModel", "Sam2Model", "Sam2VideoModel")

    def bind(
        self, found: PretrainedNetwork, data: Dataset, example: Any, show: Callable[[Sample], Any], progress: Progress
    ) -> Binding:
        network = found.network
        if not takes_prompts(network):
            raise EquicliError(f"--model: {type(network).__name__} answers no prompts; name SAM, or another --task.")
        height, width = example.shape[-2:]
        try_network(found.network, self.signature, example, {"boxes": torch.tensor([[0.0, 0.0, width, height]])})
        target: Any = next((s.target for s in data.samples if s.target is not None), None)
        if target is None:
            progress.say(f"labels: none; a mask is compared with that of the upright picture. Prompts: {_GRID_SAID}")
            return Binding({})
        labels, _ = bind_outputs(found, target.categories, None, self.settings.class_map)
        progress.say(
            f"prompts: {_SAID[self.settings.prompts]}, whose class its mask has; found in no picture by itself"
        )
        return Binding(labels)

    # Evaluation

    def prompted(self, inputs: Inputs, targets: Sequence[Any] | None) -> Inputs:
        """The pictures with a prompt for each object that is no crowd; with a grid of points where nothing says."""
        if not isinstance(inputs, Pictures):
            raise UsageError("--rotate input: prompts lie in pictures; --rotate file.")
        if targets is None:
            return inputs.asked([grid(frame) for frame in inputs.frames()])
        return inputs.asked([self._prompts(objects) for objects in targets])

    def _prompts(self, there: Objects) -> dict[str, Tensor]:
        meant = there.take(np.flatnonzero(~there.crowds))
        labels = torch.from_numpy(meant.labels)
        if self.settings.prompts == "boxes":
            return {"boxes": torch.from_numpy(meant.boxes).float(), "labels": labels}
        return {"points": inner_points(meant)[:, None], "labels": labels}

    def targets_of(self, output: Any) -> list[Any]:
        """Every mask, in the order of the prompts."""
        return [objects_in(one) for one in output]

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Any]:
        """Beside what `Instances` records: `mask_iou`, of each prompt the overlap of its mask with its object."""
        records = super().record(output, targets)
        drawn = [_own_overlaps(objects_in(one), there) for one, there in zip(output, targets, strict=True)]
        return {**records, **({"mask_iou": drawn} if MASKS in records else {})}

    def changes(self, output: Any, reference: Any) -> tuple[Tensor, float]:
        """Another prediction is one of which any pixel is another."""
        return Task.changes(self, output, reference)

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        measured = super().measure(records, elements)
        if "mask_iou" not in records:
            return measured
        turns = [np.concatenate(turn) for turn in zip(*records["mask_iou"], strict=True)]
        means = [float(turn.mean()) if len(turn) else 0.0 for turn in turns]
        for entry, mean in zip(measured["per_element"], means, strict=True):
            entry["mask_iou"] = mean
        return {**measured, "mask_iou": means[0], "avg_mask_iou": sum(means) / len(means), "worst_mask_iou": min(means)}

    def facts(self, measured: Mapping[str, Any], agreement: bool) -> list[tuple[str, str]]:
        facts = [("prompts", _GRID_SAID if agreement else _SAID[self.settings.prompts])]
        if "mask_iou" in measured:
            shares = [f"{100 * measured[key]:.2f}" for key in ("mask_iou", "avg_mask_iou", "worst_mask_iou")]
            facts.append(("mask IoU", f"{shares[0]} untouched, mean {shares[1]}, worst {shares[2]} (adapted, in %)"))
        return [*facts, *super().facts(measured, agreement)]

    def warnings(self, records: Records, elements: Turns, labels: Mapping[str, int]) -> list[str]:
        if not self.near_chance(records):
            return []
        return ["masks have hardly anything to do with the objects that prompts point at. Is the network trained?"]


def grid(frame: Frame) -> dict[str, Tensor]:
    """Points all over a picture, each a prompt of its own, at centres of pixels."""
    height, width = frame
    y, x = (((torch.arange(GRID) + 0.5) * (side / GRID)).floor() + 0.5 for side in (height, width))
    return {"points": torch.stack([x.repeat(GRID), y.repeat_interleave(GRID)], dim=1)[:, None]}


def inner_points(objects: Objects) -> Tensor:
    """Of each object the pixel that lies deepest in its mask, float32 (n, 2); without masks the middle of its box."""
    from scipy.ndimage import distance_transform_edt  # here: it takes half a second

    middles = torch.from_numpy((objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2).float()
    for i, mask in enumerate(objects.masks or ()):
        pixels = decode([mask], (int(mask["size"][0]), int(mask["size"][1])))[0].numpy()
        if pixels.any():
            depth = distance_transform_edt(np.pad(pixels, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
            middles[i] = torch.tensor([float(x) + 0.5, float(y) + 0.5])
    return middles


def _own_overlaps(found: Objects, there: Objects) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of each prompt's mask the overlap with the object that it points at, (n,)."""
    meant = there.take(np.flatnonzero(~there.crowds))
    return np.diagonal(overlaps(found, meant, masks=True)).copy() if found.masks and meant.masks else np.zeros(0)
