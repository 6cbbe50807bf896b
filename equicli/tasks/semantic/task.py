"""The task: a class for every pixel, and how mean intersection over union is made of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from equicli.data.decode import PLAIN
from equicli.data.folders import Dataset, Sample
from equicli.errors import EquicliError
from equicli.groups import Turns
from equicli.groups.elements import Frame
from equicli.prediction.network import PretrainedNetwork
from equicli.prediction.published_files import architecture_in
from equicli.prediction.signature import Signature, try_network
from equicli.progress import Progress
from equicli.settings import LocalPath, TaskSettings
from equicli.tasks.annotations.annotation import Annotation, count_outlines
from equicli.tasks.annotations.coco import find_coco, read_coco
from equicli.tasks.annotations.mask_files import ClassFile, find_masks, read_class_files, read_mask_files
from equicli.tasks.annotations.objects import Objects, decode
from equicli.tasks.annotations.outputs import bind_outputs, check_known
from equicli.tasks.fitting import check_fits
from equicli.tasks.resampling import by_turns, drawn_weights
from equicli.tasks.semantic.confusion import Matrix, confusion
from equicli.tasks.task import Binding, Records, Task

# Files of masks that are looked into, whether they go with the network.
LOOKED_AT = 30


class SemanticSettings(TaskSettings):
    """What numbers in files of masks are, and how classes and outputs are matched."""

    kind: Literal["semantic"] = "semantic"
    class_map: LocalPath | None = Field(None, description="output of each class: a JSON, YAML or text file")
    numbers: Literal["classes", "objects"] = Field(
        "classes", description="what files of masks number; objects: each is of the class `category`"
    )
    category: str = Field("object", description="what the objects are that files of masks number")
    offset: int = Field(0, description="added to the numbers in files of masks: -1 where class 0 is written as 1")
    void: int | None = Field(255, description="the number in files of masks of pixels that are not counted")


class Semantic(Task):
    """The class of every pixel. Networks are torchvision's, transformers', or keep to their contracts: images
    (b, 3, h, w) in; a score for each class and pixel out, (b, k, h', w'), perhaps as `out` or `logits` of a mapping.

    What is returned has `classes`, (b, h, w) or a list of (h, w), and `information` (b,), by which a gate chooses; see
    `readers`.
    """

    name = "semantic"
    also_called = ("segmentation", "semantic-segmentation", "image-segmentation")
    Settings = SemanticSettings
    signature = Signature("image", {"classes": "mask", "information": "invariant"}, reads="classes_and_information")
    score, title, words = "miou", "mIoU", "mean intersection over union of the classes that are there"
    columns = (("avg pixel accuracy", "avg_pixel_acc"),)
    baselines = ("vanilla", "oracle")
    labels_from = "annotations"
    tag = "image-segmentation"

    def stored(self) -> dict[str, Any]:
        kept = super().stored()
        return {key: value for key, value in kept.items() if key != "class_map"}

    @classmethod
    def is_for(cls, model: str) -> bool:
        source, _, name = model.partition(":")
        if source == "torchvision":
            # Here, so that checking any other configuration imports no library of networks.
            from equicli.prediction.torchvision_source import SEGMENTERS, kind_of

            return kind_of(name) == SEGMENTERS
        return architecture_in(model).endswith("ForSemanticSegmentation")

    # Data

    def open(self, root: Path) -> Dataset:
        data, settings = super().open(root), self.settings
        if files := find_coco(data):
            data = read_coco(data, files)
            drawn, without = count_outlines(data.samples)
            if without:
                raise EquicliError(
                    f"{root}: {without} of {drawn + without} objects have no outline, so that the classes of their "
                    "pixels are not known. Draw or remove them."
                )
            return data
        if masks := find_masks(data):
            if settings.numbers == "objects":
                return read_mask_files(data, masks, settings.category)
            return read_class_files(data, masks, settings.offset, settings.void)
        return data

    def targets(self, samples: Sequence[Sample], data: Dataset, labels: Mapping[str, int]) -> list[Any] | None:
        annotations = super().targets(samples, data, labels)
        if annotations is None or (data.classes and not labels):
            return None
        check_known(data, labels)
        return [_Target(sample, labels) for sample in samples]

    # The network

    def prepare(self, found: PretrainedNetwork, data: Dataset, progress: Progress) -> PretrainedNetwork:
        """Show whole pictures: every pixel is asked for."""
        own = found.preprocess
        if own.size is None or own.squash:
            return found
        progress.say(f"preprocessing: the shorter edge is resized to {own.resize} pixels, and nothing is cropped")
        return replace(found, preprocess=replace(own, size=None))

    def bind(
        self, found: PretrainedNetwork, data: Dataset, example: Any, show: Callable[[Sample], Any], progress: Progress
    ) -> Binding:
        check_fits(found.network, self.name, example)
        try_network(found.network, self.signature, example)
        scores = try_network(found.network, replace(self.signature, reads=""), example)
        outputs, names = _count_outputs(scores), found.class_names or ()
        target: Annotation | ClassFile | None = next((s.target for s in data.samples if s.target is not None), None)
        if target is None:
            progress.say("labels: none; what the network says of the upright picture is taken for right")
            return Binding({}, class_names=names)
        if isinstance(target, ClassFile):
            _check_numbers(data, outputs)
            progress.say("labels: numbers in the files of masks are outputs")
            return Binding({name: output for output, (name, *_) in enumerate(names)}, class_names=names)
        labels, how = bind_outputs(found, target.categories, outputs, self.settings.class_map)
        progress.say(f"labels: {len(labels)} classes are outputs {how}, and 0 where none is")
        return Binding(labels, class_names=names)

    # Evaluation

    def targets_of(self, output: Any) -> list[Any]:
        return list(output["classes"])

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Any]:
        """`confusion` has the entries of each picture's confusion matrix; `miou` is the figure of each picture alone,
        by which pictures are compared."""
        found = []
        for said, target in zip(output["classes"], targets, strict=True):
            right = target.classes((said.shape[-2], said.shape[-1])) if isinstance(target, _Target) else target
            found.append(confusion(said.cpu(), right.cpu()))
        alone = [float(Matrix([one]).overlaps().nanmean().nan_to_num(1)) for one in found]
        return {"miou": torch.tensor(alone, dtype=torch.float64), "confusion": found}

    def changes(self, output: Any, reference: Any) -> tuple[Tensor, float]:
        """Another prediction is one of which any pixel is another; the largest change is the share of those."""
        pairs = zip(output["classes"], reference["classes"], strict=True)
        apart = torch.tensor([float((a != b).double().mean()) for a, b in pairs])
        return apart > 0, float(apart.max())

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        turns = [Matrix(turn) for turn in zip(*records["confusion"], strict=True)]
        weights = drawn_weights(len(records["confusion"]))
        values = torch.cat([turn.overlaps().nanmean(dim=1) for turn in turns])
        drawn = torch.stack([turn.overlaps(weights).nanmean(dim=1) for turn in turns], dim=1)
        right = torch.cat([turn.accuracy() for turn in turns])
        measured = by_turns("miou", values.nan_to_num(0), drawn, elements, len(weights[0]))
        for entry, share in zip(measured["per_element"], right.tolist(), strict=True):
            entry["pixel_acc"] = share
        return {**measured, "pixel_acc": float(right[0]), "avg_pixel_acc": float(right.mean())}

    draws = True

    def draw(self, axes: Any, output: Any) -> None:
        """Each class but 0 as a veil of its own colour."""
        (said,) = output["classes"]
        veil = said.double().cpu()
        shown, extent = veil.masked_fill(veil == 0, torch.nan).numpy() % 20, (0, veil.shape[1], veil.shape[0], 0)
        axes.imshow(shown, cmap="tab20", vmin=0, vmax=20, alpha=0.5, extent=extent)

    def warnings(self, records: Records, elements: Turns, labels: Mapping[str, int]) -> list[str]:
        entries = torch.cat([turns[0] for turns in records["confusion"]])
        right, said = (entries[:, column].unique().tolist() for column in (0, 1))
        names = {output: name for name, output in labels.items()}
        if len(right) == 1:
            return [
                f"every pixel that counts is of one class, {names.get(right[0], right[0])}, so that mIoU tells little. "
                "Is a class not counted (--set task.void=null, or task.numbers=objects)?"
            ]
        if len(said) != 1:
            return []
        named = names.get(said[0], str(said[0]))
        return [
            f"the network says the same class, {named}, of every pixel of untouched pictures. Is it trained? Do its "
            "outputs stand for these classes (--class-map)?"
        ]

    def per_class(self, records: Records, labels: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        turns = [Matrix(turn) for turn in zip(*records["confusion"], strict=True)]
        overlaps = torch.cat([turn.overlaps() for turn in turns])
        names = {output: name for name, output in labels.items()}
        return {
            names.get(label, str(label)): {"iou": float(column[0]), "avg_iou": float(column.mean())}
            for label, column in zip(turns[0].classes, overlaps.T, strict=True)
        }


def _check_numbers(data: Dataset, outputs: int | None) -> None:
    """Refuse files of masks with numbers that are no outputs, as far as some of them show."""
    if outputs is None:
        return
    samples = [sample for sample in data.samples if sample.target is not None]
    for sample in samples[:: max(1, len(samples) // LOOKED_AT)]:
        frame = PLAIN.frame(sample.path)
        highest = -1 if frame is None else int(sample.target.classes(frame).max())
        if highest >= outputs:
            raise EquicliError(
                f"{sample.target.file}: has the class {highest}, and the network's are 0 to {outputs - 1}. Where "
                "numbers begin at 1, --set task.offset=-1; where they are of objects, task.numbers=objects; the number "
                "that is not counted is task.void."
            )


def _count_outputs(scores: Any) -> int | None:
    """How many classes a network knows, the background among them; None of one that says no scores."""
    if isinstance(scores, Mapping):
        scores = next((scores[name] for name in ("out", "logits") if name in scores), None)
    return max(scores.shape[1], 2) if isinstance(scores, Tensor) and scores.ndim == 4 else None


class _Target:
    """The classes of one picture's pixels, read when they are asked for: kept, they would fill the memory."""

    def __init__(self, sample: Sample, labels: Mapping[str, int]) -> None:
        self._sample, self._labels = sample, labels

    def classes(self, frame: Frame) -> Tensor:
        """int64 (h, w), VOID where nothing is known.

        Raises:
            EquicliError: what is written has another size than the picture.
        """
        target: Annotation | ClassFile = self._sample.target
        if isinstance(target, ClassFile):
            return target.classes(frame)
        return _painted(target.objects(frame, self._labels), frame)


def _painted(objects: Objects, frame: Frame) -> Tensor:
    """Objects' classes at their pixels, the smaller on top; 0 where there is none."""
    classes = torch.zeros(frame, dtype=torch.int64)
    masks = decode(objects.masks or (), frame)
    for i in (-objects.areas).argsort(kind="stable"):
        classes[masks[i]] = int(objects.labels[i])
    return classes
