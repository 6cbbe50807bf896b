"""The task: what detectors take and return, what is to be found, and how average precision is made of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from equicli.data.folders import Dataset, Sample
from equicli.data.preprocess import AS_THEY_ARE
from equicli.errors import UsageError
from equicli.groups import FiniteGroup, Turns
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.published_files import architecture_in
from equicli.prediction.signature import Signature, try_network
from equicli.progress import Progress
from equicli.settings import LocalPath, Share, TaskSettings
from equicli.tasks.annotations.annotation import Annotation, count_outlines, read_objects
from equicli.tasks.annotations.coco import find_coco, read_coco
from equicli.tasks.annotations.mask_files import find_masks, read_mask_files
from equicli.tasks.annotations.objects import decode
from equicli.tasks.annotations.outputs import bind_outputs, check_known
from equicli.tasks.annotations.yolo import find_yolo, read_yolo
from equicli.tasks.fitting import check_fits
from equicli.tasks.instances.answers import PARTS, check_answer, objects_in
from equicli.tasks.instances.figures import alone, mean, numbers, pools_of, told
from equicli.tasks.instances.labels import count_outputs, first_label
from equicli.tasks.instances.losses import pose_costs
from equicli.tasks.instances.precision import match, resampled
from equicli.tasks.resampling import by_turns
from equicli.tasks.task import Binding, Records, Task

# Kinds of overlap, and what is recorded of each: `Matches`.
BOXES, MASKS = "boxes", "masks"
# Below this AP nothing of a network's answers can be told.
HARDLY = 0.01


class InstancesSettings(TaskSettings):
    """How classes and outputs are matched, and what is taken for right where nothing is annotated."""

    kind: Literal["instances"] = "instances"
    class_map: LocalPath | None = Field(None, description="output of each class: a JSON, YAML or text file")
    category: str = Field("object", description="what the objects are that files of masks number")
    sure: Share = Field(
        0.5, description="score from which detections in upright pictures are taken for right, where none are annotated"
    )


class Instances(Task):
    """Boxes, classes and, where the network draws them, masks of objects in pictures of any sizes.

    Networks are torchvision's detectors, or keep to their contract: a list of images in [0, 1], (3, h, w) each, in; for
    each a mapping with `boxes` (n, 4) in pixels, `labels` (n,), `scores` (n,), and perhaps `masks` (n, 1, h, w), out.
    """

    name = "instances"
    also_called: ClassVar[tuple[str, ...]] = ("detection", "object-detection", "segmentation", "instance-segmentation")
    Settings: ClassVar[type[TaskSettings]] = InstancesSettings
    signature = Signature("image", PARTS, lists=True)
    score, title = "map", "AP"
    words = "COCO's average precision, of masks where there are any, else of boxes,"
    baselines = ("vanilla", "oracle")
    labels_from = "annotations"
    has_pose_costs = True
    tag = "object-detection"

    def stored(self) -> dict[str, Any]:
        return {"category": self.settings.category, "sure": self.settings.sure}

    @classmethod
    def is_for(cls, model: str) -> bool:
        source, _, name = model.partition(":")
        if source != "torchvision":
            return architecture_in(model).endswith("ForObjectDetection")
        # Here, so that checking any other configuration imports no library of networks.
        from equicli.prediction.torchvision_source import DETECTORS, kind_of

        return kind_of(name) == DETECTORS

    # Data

    def open(self, root: Path) -> Dataset:
        data = self._annotated(super().open(root))
        drawn, without = count_outlines(data.samples)
        if not (drawn and without):
            return data
        only = f"{without} of {drawn + without} objects have no outline: only boxes are evaluated"
        return replace(data, remarks=(*data.remarks, only))

    def _annotated(self, data: Dataset) -> Dataset:
        if files := find_coco(data):
            return read_coco(data, files)
        if masks := find_masks(data):
            return read_mask_files(data, masks, self.settings.category)
        if texts := find_yolo(data):
            return read_yolo(data, texts)
        return data

    def targets(self, samples: Sequence[Sample], data: Dataset, labels: Mapping[str, int]) -> list[Any] | None:
        annotations = super().targets(samples, data, labels)
        if annotations is None or not labels:
            return None
        check_known(data, labels)
        found = read_objects(samples, labels)
        _, without = count_outlines(data.samples)
        if not without:
            return found
        # AP of masks over some of the pictures would pass for one over all.
        return [None if one is None else replace(one, masks=None) for one in found]

    # The network

    def prepare(self, found: PretrainedNetwork, data: Dataset, progress: Progress) -> PretrainedNetwork:
        """Show detectors of the user's own pictures as torchvision's take them: as they are, in [0, 1]."""
        if found.preprocess.resizes:
            raise UsageError("--image-size: crops pictures, and detectors resize them themselves; leave it out.")
        if found.spec.library != "python":
            return found
        return PretrainedNetwork(
            found.network, found.spec, AS_THEY_ARE, found.class_names, found.provenance, found.remarks
        )

    def bind(
        self, found: PretrainedNetwork, data: Dataset, example: Any, show: Callable[[Sample], Any], progress: Progress
    ) -> Binding:
        check_fits(found.network, self.name, example)
        check_answer(try_network(found.network, self.signature, example))
        names = found.class_names or ()
        target: Annotation | None = next((s.target for s in data.samples if s.target is not None), None)
        if target is None:
            progress.say(
                f"labels: none; what the network finds in the upright picture, {self.settings.sure:.0%} sure or more, "
                "is taken for right"
            )
            return Binding({}, class_names=names)
        outputs = count_outputs(found.network)
        first = first_label(found.network)
        labels, how = bind_outputs(found, target.categories, outputs, self.settings.class_map, first)
        progress.say(f"labels: {len(labels)} classes are outputs {how}")
        return Binding(labels, class_names=names)

    def pose_costs(self, network: nn.Module, inputs: Any, group: FiniteGroup, targets: Sequence[Any]) -> Tensor:
        return pose_costs(network, inputs, group, targets)

    def answers(self, output: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """Boxes, scores and masks as they are, and the name of each class."""
        rows = super().answers(output, names)
        for row in rows:
            said = row["output"]
            said["labels"] = [names[k] if k < len(names) else str(k) for k in said["labels"]]
        return rows

    # Evaluation

    def targets_of(self, output: Any) -> list[Any]:
        sure = [objects_in(one) for one in output]
        return [one.take(np.flatnonzero(one.scores >= self.settings.sure)) for one in sure]

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Any]:
        """`boxes` and `masks` (where there are any) have the `Matches` of each picture; `map` is the AP of each picture
        alone, by which pictures are compared: 1 of one without objects where nothing is found."""
        found = [objects_in(one) for one in output]
        matches = {BOXES: [match(a, b, masks=False) for a, b in zip(found, targets, strict=True)]}
        if all(a.masks is not None and b.masks is not None for a, b in zip(found, targets, strict=True)):
            matches[MASKS] = [match(a, b, masks=True) for a, b in zip(found, targets, strict=True)]
        own = [alone(one) for one in matches.get(MASKS, matches[BOXES])]
        return {"map": torch.tensor(own, dtype=torch.float64), **matches}

    def changes(self, output: Any, reference: Any) -> tuple[Tensor, float]:
        """Another prediction is other objects: those of which the network is `sure` are matched by overlap."""
        changed, delta = super().changes(output, reference)
        for i in changed.nonzero()[:, 0].tolist():
            a, b = self.targets_of([output[i]])[0], self.targets_of([reference[i]])[0]
            matched = match(a, b, masks=False)
            changed[i] = not (len(a) == len(b) == int(matched.right[:, 0, 0].sum()))
        return changed, delta

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        kind = MASKS if MASKS in records else BOXES
        pools = {of: pools_of(records[of]) for of in (BOXES, MASKS) if of in records}
        turns = {of: list(map(numbers, each)) for of, each in pools.items()}
        values = torch.tensor([turn["map"] for turn in turns[kind]], dtype=torch.float64)
        return {
            **by_turns("map", values, resampled(pools[kind]), elements, len(records[kind])),
            "of": kind,
            **{
                of: {
                    **{key: each[0][key] for key in each[0]},
                    **{f"avg_{key}": mean([turn[key] for turn in each]) for key in each[0]},
                    "worst_map": min(turn["map"] or 0.0 for turn in each),
                    "per_element": [turn["map"] for turn in each],
                }
                for of, each in turns.items()
            },
        }

    def per_class(self, records: Records, labels: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        turns = pools_of(records.get(MASKS, records[BOXES]))
        means = torch.stack([pool.precision(sizes=1)[0].mean(dim=(1, 2)) for pool in turns], dim=1)
        table = dict(zip(turns[0].classes, means.tolist(), strict=True))
        return {
            name: {"map": table[output][0], "avg_map": mean(table[output])}
            for name, output in labels.items()
            if output in table
        }

    def facts(self, measured: Mapping[str, Any], agreement: bool) -> list[tuple[str, str]]:
        return [
            (f"AP of {kind}", f"{told(measured[kind])} (adapted, mean over the turns, in %)")
            for kind in (BOXES, MASKS)
            if kind in measured
        ]

    def groups_of(self, records: Records, labels: Mapping[str, int]) -> dict[str, Tensor]:
        pictures = records[BOXES]
        has = {
            name: torch.tensor([bool(p[0].counts[p[0].classes == output].any()) for p in pictures])
            for name, output in labels.items()
        }
        return {name: rows for name, rows in has.items() if rows.any()}

    draws = True

    def draw(self, axes: Any, output: Any) -> None:
        """Objects of which the network is `sure`: boxes, and masks as veils."""
        (found,) = self.targets_of(output)
        for (left, top, right, bottom), label in zip(found.boxes, found.labels, strict=True):
            colour = f"C{label % 10}"
            axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=1)
        if found.masks:
            frame = (int(found.masks[0]["size"][0]), int(found.masks[0]["size"][1]))
            veil = decode(found.masks, frame).any(dim=0).numpy()
            axes.imshow(
                np.where(veil, 1.0, np.nan), cmap="autumn", vmin=0, vmax=1, alpha=0.4, extent=(0, frame[1], frame[0], 0)
            )

    def near_chance(self, records: Records) -> bool:
        return float(pools_of(records[BOXES])[0].mean().nan_to_num(0)) < HARDLY

    def warnings(self, records: Records, elements: Turns, labels: Mapping[str, int]) -> list[str]:
        if not self.near_chance(records):
            return []
        if not sum(int(p[0].counts.sum()) for p in records[BOXES]):
            return ["no object is annotated in these pictures, so that AP says nothing"]
        known = set(labels.values())
        labelled = np.concatenate([p[0].labels for p in records[BOXES]])
        foreign = int((~np.isin(labelled, list(known))).sum())
        of = f"{foreign:,} of its {len(labelled):,} detections are of no class of the folder"
        return [
            "the network finds hardly anything that is annotated in untouched pictures: "
            f"{of if len(labelled) else 'it finds nothing at all'}. Do its outputs stand for these classes "
            "(--class-map)? Is it trained?"
        ]
