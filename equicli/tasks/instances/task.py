"""The task: what detectors take and return, what is to be found, and how average precision is made of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from equicli.data.folders import Dataset, Sample
from equicli.data.preprocess import AS_THEY_ARE
from equicli.errors import EquicliError, UsageError
from equicli.groups import PlanarGroup
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.signature import Signature, try_network
from equicli.progress import Progress
from equicli.settings import LocalPath, Share, TaskSettings
from equicli.tasks.annotations.annotation import Annotation, read_objects
from equicli.tasks.annotations.coco import find_coco, read_coco
from equicli.tasks.annotations.mask_files import find_masks, read_mask_files
from equicli.tasks.annotations.objects import Objects, decode, encode
from equicli.tasks.annotations.yolo import find_yolo, read_yolo
from equicli.tasks.classification.class_map import read_class_map
from equicli.tasks.instances.labels import count_outputs, find_outputs
from equicli.tasks.instances.precision import SIZES, THRESHOLDS, Matches, Pool, match, resampled
from equicli.tasks.resampling import by_turns
from equicli.tasks.task import Binding, Records, Task

# Kinds of overlap, and what is recorded of each: `Matches`.
BOXES, MASKS = "boxes", "masks"
PARTS = {"boxes": "boxes", "labels": "invariant", "scores": "invariant", "masks": "mask"}
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
    Settings = InstancesSettings
    signature = Signature("image", PARTS, lists=True)
    score, title = "map", "AP"
    words = "COCO's average precision, of masks where there are any, else of boxes,"
    baselines = ("vanilla", "oracle")
    labels_from = "annotations"
    tag = "object-detection"

    def stored(self) -> dict[str, Any]:
        return {"category": self.settings.category, "sure": self.settings.sure}

    @classmethod
    def is_for(cls, model: str) -> bool:
        source, _, name = model.partition(":")
        if source != "torchvision":
            return False
        # Here, so that checking any other configuration imports no library of networks.
        from equicli.prediction.torchvision_source import DETECTORS, kind_of

        return kind_of(name) == DETECTORS

    # Data

    def open(self, root: Path) -> Dataset:
        data = super().open(root)
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
        unknown = [name for name in data.classes if name not in labels]
        if unknown:
            raise EquicliError(
                f"class '{unknown[0]}' ({len(unknown)} such) is none of the {len(labels)} classes that this model was "
                "adapted to. Leave them out, or adapt to them."
            )
        return read_objects(samples, labels)

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
        _check_answer(try_network(found.network, self.signature, example))
        names = found.class_names or ()
        target: Annotation | None = next((s.target for s in data.samples if s.target is not None), None)
        if target is None:
            progress.say(
                f"labels: none; what the network finds in the upright picture, {self.settings.sure:.0%} sure or more, "
                "is taken for right"
            )
            return Binding({}, class_names=names)
        outputs = count_outputs(found.network)
        if self.settings.class_map is not None:
            labels = read_class_map(self.settings.class_map, data.classes, outputs or 1 << 30)
            how = f"as {Path(self.settings.class_map).name} says"
        else:
            labels, how = find_outputs(found, target.categories, outputs)
        progress.say(f"labels: {len(labels)} classes are outputs {how}")
        return Binding(labels, class_names=names)

    # Evaluation

    def targets_of(self, output: Any) -> list[Any]:
        sure = [_objects(one) for one in output]
        return [one.take(np.flatnonzero(one.scores >= self.settings.sure)) for one in sure]

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Any]:
        """`boxes` and `masks` (where there are any) have the `Matches` of each picture; `map` is the AP of each picture
        alone, by which pictures are compared: 1 of one without objects where nothing is found."""
        found = [_objects(one) for one in output]
        matches = {BOXES: [match(a, b, masks=False) for a, b in zip(found, targets, strict=True)]}
        if all(a.masks is not None and b.masks is not None for a, b in zip(found, targets, strict=True)):
            matches[MASKS] = [match(a, b, masks=True) for a, b in zip(found, targets, strict=True)]
        alone = [_alone(one) for one in matches.get(MASKS, matches[BOXES])]
        return {"map": torch.tensor(alone, dtype=torch.float64), **matches}

    def changes(self, output: Any, reference: Any) -> tuple[Tensor, float]:
        """Another prediction is other objects: those of which the network is `sure` are matched by overlap."""
        changed, delta = super().changes(output, reference)
        for i in changed.nonzero()[:, 0].tolist():
            a, b = self.targets_of([output[i]])[0], self.targets_of([reference[i]])[0]
            alone = match(a, b, masks=False)
            changed[i] = not (len(a) == len(b) == int(alone.right[:, 0, 0].sum()))
        return changed, delta

    def measure(self, records: Records, elements: PlanarGroup) -> dict[str, Any]:
        kind = MASKS if MASKS in records else BOXES
        pools = {of: _pools(records[of]) for of in (BOXES, MASKS) if of in records}
        turns = {of: list(map(_numbers, each)) for of, each in pools.items()}
        values = torch.tensor([turn["map"] for turn in turns[kind]], dtype=torch.float64)
        return {
            **by_turns("map", values, resampled(pools[kind]), elements),
            "of": kind,
            **{
                of: {
                    **{key: each[0][key] for key in each[0]},
                    **{f"avg_{key}": _mean([turn[key] for turn in each]) for key in each[0]},
                    "worst_map": min(turn["map"] or 0.0 for turn in each),
                    "per_element": [turn["map"] for turn in each],
                }
                for of, each in turns.items()
            },
        }

    def per_class(self, records: Records, labels: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        turns = _pools(records.get(MASKS, records[BOXES]))
        means = torch.stack([pool.precision(sizes=1)[0].mean(dim=(1, 2)) for pool in turns], dim=1)
        table = dict(zip(turns[0].classes, means.tolist(), strict=True))
        return {
            name: {"map": table[output][0], "avg_map": _mean(table[output])}
            for name, output in labels.items()
            if output in table
        }

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
            axes.imshow(np.where(veil, 1.0, np.nan), cmap="autumn", vmin=0, vmax=1, alpha=0.4)

    def near_chance(self, records: Records) -> bool:
        return float(_pools(records[BOXES])[0].mean().nan_to_num(0)) < HARDLY

    def warnings(self, records: Records, elements: PlanarGroup, labels: Mapping[str, int]) -> list[str]:
        if not self.near_chance(records):
            return []
        known = set(labels.values())
        labelled = np.concatenate([p[0].labels for p in records[BOXES]])
        foreign = int((~np.isin(labelled, list(known))).sum())
        return [
            "the network finds hardly anything that is annotated in untouched pictures: "
            f"{foreign:,} of its {len(labelled):,} detections are of no class of the folder. Do its outputs stand for "
            "these classes (--class-map)? Is it trained?"
        ]


def _check_answer(output: Any) -> None:
    """Refuse what is no answer of a detector to one picture."""
    wanted = "a list with a mapping of boxes, labels and scores for each picture"
    if not isinstance(output, list) or len(output) != 1 or not isinstance(output[0], Mapping):
        raise EquicliError(f"--model: no detector of torchvision's contract: it returns {_said(output)}, not {wanted}.")
    missing = [name for name in ("boxes", "labels", "scores") if name not in output[0]]
    unknown = [name for name in output[0] if name not in PARTS]
    if missing or unknown:
        flaw = f"without {missing[0]}" if missing else f"with {unknown[0]}, which nothing is known of"
        raise EquicliError(f"--model: no detector of torchvision's contract: it returns mappings {flaw}.")


def _said(output: Any) -> str:
    return f"a {type(output).__name__} of {len(output)}" if isinstance(output, list | tuple) else type(output).__name__


def _objects(output: Mapping[str, Tensor]) -> Objects:
    """What a network says of one picture."""
    boxes, scores = (output[name].detach().double().cpu().numpy() for name in ("boxes", "scores"))
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise EquicliError(
            "the prediction network's boxes or scores are not finite; check --mean, --std and --precision."
        )
    masks = output.get("masks")
    drawn = None
    if masks is not None:
        drawn = encode((masks[:, 0] if masks.ndim == 4 else masks) > 0.5)
    labels = output["labels"].detach().cpu().numpy().astype(np.int64)
    sides = boxes[:, 2:] - boxes[:, :2]
    return Objects(boxes, labels, sides[:, 0] * sides[:, 1], scores, np.zeros(len(labels), dtype=bool), drawn)


def _alone(picture: Matches) -> float:
    """The AP of one picture; without objects 1 where nothing is found, else 0."""
    value = float(Pool([picture]).mean())
    return value if math.isfinite(value) else float(not len(picture.labels))


def _pools(pictures: Sequence[Sequence[Matches]]) -> list[Pool]:
    """The matches at each turn."""
    return [Pool(turn) for turn in zip(*pictures, strict=True)]


def _numbers(pictures: Pool) -> dict[str, float | None]:
    """COCO's numbers of a set of pictures; 0 of one without any object, None of sizes that none has."""
    table = pictures.precision()[0]
    by_class = table.mean(dim=-1)  # (classes, sizes)
    sizes = {f"map_{name}": _known(by_class[:, i].nanmean()) for i, name in enumerate(SIZES) if i}
    at = {f"map{round(100 * THRESHOLDS[i])}": _known(table[:, 0, i].nanmean()) for i in (0, 5)}
    return {"map": _known(by_class[:, 0].nanmean()) or 0.0, **at, **sizes}


def _known(value: Tensor) -> float | None:
    return float(value) if math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
