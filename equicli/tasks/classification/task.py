"""The task: data, labels and heads, when a prediction is right, and what is counted."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from equicli.data.folders import Dataset, Sample, open_folder
from equicli.errors import EquicliError, UsageError, shown
from equicli.groups import PlanarGroup, Turns
from equicli.prediction.classes import find_label, match_classes
from equicli.prediction.head import set_head
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.prediction.prompts import class_prompts
from equicli.prediction.signature import try_network
from equicli.prediction.zero_shot import TwoTowers
from equicli.progress import Progress
from equicli.settings import LocalPath, TaskSettings
from equicli.tasks.calibration import calibration_error
from equicli.tasks.classification.chance import PREPARED_BY, tell_chance
from equicli.tasks.classification.class_map import read_class_map
from equicli.tasks.classification.confusion import changing_classes
from equicli.tasks.classification.head import fit_head
from equicli.tasks.classification.labels import match_labels, names_of_empty, refuse_labels
from equicli.tasks.classification.order import Show, better_order, choose_order, count_right
from equicli.tasks.fitting import check_fits
from equicli.tasks.intervals import wilson
from equicli.tasks.task import Binding, Records, Task

TOP = 5


class ClassificationSettings(TaskSettings):
    """How folders and outputs are matched."""

    kind: Literal["classification"] = "classification"
    head: Literal["auto", "none", "new"] = Field(
        "auto", description="auto: fit a linear head where the classes do not match; new: in any case"
    )
    class_map: LocalPath | None = Field(None, description="output of each class folder: a JSON, YAML or text file")
    prompts: LocalPath | None = Field(None, description="of a zero-shot network's classes: a text or YAML file")


class Classification(Task):
    """One class for each image. Outputs are logits (b, k), targets the index of the right one."""

    name = "classification"
    also_called = ("image-classification", "images")
    Settings = ClassificationSettings
    has_loss = True
    columns: ClassVar[tuple[tuple[str, str], ...]] = (("avg top-5", "avg_top5_acc"), ("avg ECE", "avg_ece"))
    baselines: ClassVar[tuple[str, ...]] = ("vanilla", "symmetrized", "oracle")
    labels_from = "folders"
    words = "accuracy"
    tag = "image-classification"

    def stored(self) -> dict[str, Any]:
        return {}  # heads and prompts are in the network by then

    def open(self, root: Path) -> Dataset:
        return open_folder(root, self.split_names)

    def targets(self, samples: Sequence[Sample], data: Dataset, labels: Mapping[str, int]) -> list[Any] | None:
        if not data.classes or not labels:
            return None
        found = {name: find_label(name, labels) for name in data.classes}
        unknown = [name for name, output in found.items() if output is None]
        if unknown:
            raise EquicliError(
                f"class folder '{shown(unknown[0])}' ({len(unknown)} such) is none of the {len(labels)} classes that "
                "this model was adapted to. Rename folders, leave them out, or adapt to them."
            )
        outputs = list(found.values())
        return [outputs[sample.target] for sample in samples]

    def prepare(self, found: PretrainedNetwork, data: Dataset, progress: Progress) -> PretrainedNetwork:
        """Give a zero-shot network its classes."""
        settings: ClassificationSettings = self.settings
        if not isinstance(found.network, TwoTowers):
            if settings.prompts is not None:
                raise UsageError(f"--prompts: {found.provenance['model']} has classes of its own and takes no prompts.")
            return found
        prompts, origin = class_prompts(settings.prompts, data.classes, found.network.template)
        progress.say(f"zero-shot: {len(prompts)} classes by their prompts ({origin})")
        return replace(
            found,
            network=found.network.classify(list(prompts.values())),
            spec=replace(found.spec, head_outputs=len(prompts)),
            class_names=tuple((name,) for name in prompts),
            provenance={**found.provenance, "prompts": origin, "prompts_sha256": _sha256(prompts)},
        )

    def bind(self, found: PretrainedNetwork, data: Dataset, example: Any, show: Show, progress: Progress) -> Binding:
        settings: ClassificationSettings = self.settings
        try:
            outputs = self.count_outputs(found.network, example)
        except EquicliError:
            if self.signature.inputs == "image":
                check_fits(found.network, self.name, example)
            raise
        if _adds_up(try_network(found.network, self.signature, example)):
            progress.say(
                "the network returns probabilities, it seems, and no logits: its last softmax should be left out, as "
                "what is told of calibration, symmetrization and energy takes logits"
            )
        if settings.class_map is not None and (settings.head == "new" or not data.classes):
            why = "--head new fits outputs of its own" if data.classes else "this folder has no class folders"
            raise UsageError(f"--class-map {settings.class_map}: {why}; leave it out.")
        if not data.classes and settings.prompts is not None and found.class_names is not None:
            progress.say("labels: none in this folder; outputs are named by the prompts")
            return Binding({name: output for output, (name, *_) in enumerate(found.class_names)})
        if not data.classes:
            progress.say("labels: none in this folder; accuracy is agreement with the network's own upright prediction")
            return Binding({}, class_names=found.class_names or ())
        labels = None if settings.head == "new" else self._find_labels(found, data, outputs, show, progress)
        if labels is None:
            progress.say(f"labels: fitting a linear head on frozen features (--head {settings.head})")
            return Binding({}, head_needed=True)
        return Binding(labels, class_names=found.class_names or ())

    def _find_labels(
        self, found: PretrainedNetwork, data: Dataset, outputs: int, show: Show, progress: Progress
    ) -> dict[str, int] | None:
        """The output of each class folder, and tell how it was decided; None where a head is to be fitted."""
        settings: ClassificationSettings = self.settings
        if settings.class_map is not None:
            labels = read_class_map(settings.class_map, data.classes, outputs)
            progress.say(f"labels: outputs of {len(labels)} classes from {Path(settings.class_map).name}")
            return labels
        empty = [path.name for path in data.left_out.empty]
        matched = match_labels(found, outputs, data.classes, names_of_empty(data.classes, empty))
        if matched.outputs is None and matched.numbers is not None:
            (right,), n = count_right(found, (matched.numbers,), data.train, data.classes, show)
            if n and wilson(right, n)[0] > 1 / len(data.classes):
                progress.say(
                    "labels: folder names are taken for numbers of outputs, as "
                    f"{right} of {n} training images are right"
                )
                return matched.numbers
        if matched.outputs is None and settings.head == "none":
            raise refuse_labels(matched.reason)
        progress.say(matched.reason)
        if matched.outputs is None or matched.other is None:
            return matched.outputs
        labels, checked = choose_order(found, matched, data.train, data.classes, show)
        progress.say(f"labels: {checked}")
        return labels

    def rebind(
        self, data: Dataset, labels: Mapping[str, int], class_names: Sequence[Sequence[str]]
    ) -> Mapping[str, int]:
        if all(find_label(name, labels) is not None for name in data.classes):
            return labels
        outputs = match_classes(data.classes, class_names)
        return labels if outputs is None else dict(zip(data.classes, outputs, strict=True))

    def count_outputs(self, network: torch.nn.Module, example: Tensor) -> int:
        """Number of classes that a network predicts.

        Args:
            example: normalized images (b, 3, h, w).

        Raises:
            EquicliError: the network does not run on them or gives no logits (b, classes).
        """
        logits = try_network(network, self.signature, example)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise EquicliError(f"--model: not a classifier: it returns {found}, not logits (images, classes).")
        return int(logits.shape[1])

    def fit_head(
        self,
        found: PretrainedNetwork,
        data: Dataset,
        train: tuple[Tensor, list[Any]],
        validation: tuple[Tensor, list[Any]],
        progress: Progress,
    ) -> tuple[Binding, NetworkSpec]:
        classes, (features, targets) = data.classes, train
        absent = [name for index, name in enumerate(classes) if index not in set(targets)]
        if absent:
            raise EquicliError(
                f"class '{absent[0]}': none of its training images can be read, so no head can be fitted."
            )
        labels, validation_labels = torch.tensor(targets), torch.tensor(validation[1])
        weight, bias, accuracy = fit_head(features, labels, validation[0], validation_labels)
        set_head(found.network, weight, bias, found.spec.head)
        found.network.requires_grad_(False).eval()
        progress.say(f"fitted head: {accuracy:.1%} right on upright validation images")
        binding = Binding({name: index for index, name in enumerate(classes)})
        return binding, replace(found.spec, head_outputs=len(classes))

    def loss(self, output: Any, targets: Sequence[Any]) -> Tensor:
        """Cross-entropy."""
        return torch.nn.functional.cross_entropy(output.float(), torch.tensor(targets, device=output.device))

    def answers(self, output: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """The likeliest class and its probability."""
        _refuse_not_finite(output)
        scores, classes = output.float().softmax(dim=1).max(dim=1)
        labels = [names[k] if k < len(names) else str(k) for k in classes.tolist()]
        return [{"label": a, "score": round(b, 6)} for a, b in zip(labels, scores.tolist(), strict=True)]

    def targets_of(self, output: Any) -> list[Any]:
        predictions: list[Any] = output.argmax(dim=1).tolist()
        return predictions

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Tensor]:
        """`acc` and `top5` (bool) say whether the target was predicted, and among the TOP first; `confidence` is the
        probability of the prediction."""
        _refuse_not_finite(output)
        logits, right = output.float(), torch.tensor(targets, device=output.device)
        prediction = logits.argmax(dim=1)
        top = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
        found = {
            "acc": prediction == right,
            "top5": (top == right[:, None]).any(dim=1),
            "confidence": logits.softmax(dim=1).amax(dim=1),
            "prediction": prediction,
            "target": right,
        }
        return {name: value.cpu() for name, value in found.items()}

    def changes(self, output: Any, reference: Any) -> tuple[Tensor, float]:
        a, b = output.float(), reference.float()
        return (a.argmax(dim=1) != b.argmax(dim=1)).cpu(), float((a - b).abs().max())

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        correct, top, sure = (records[name] for name in ("acc", "top5", "confidence"))
        return {
            **super().measure(records, elements),
            "top5_acc": float(top[:, 0].double().mean()),
            "avg_top5_acc": float(top.double().mean()),
            "ece": calibration_error(sure[:, 0], correct[:, 0]),
            "avg_ece": calibration_error(sure.flatten(), correct.flatten()),
        }

    def groups_of(self, records: Records, labels: Mapping[str, int]) -> dict[str, Tensor]:
        groups = {name: records["target"][:, 0] == output for name, output in labels.items()}
        return {name: rows for name, rows in groups.items() if rows.any()}

    def warnings(self, records: Records, elements: Turns, labels: Mapping[str, int]) -> list[str]:
        target = records["target"][:, 0]
        told = better_order(records, labels) or tell_chance_of(records)
        if told or not isinstance(elements, PlanarGroup):
            return told
        return changing_classes(records["prediction"], target, elements, labels)

    def near_chance(self, records: Records) -> bool:
        return bool(tell_chance_of(records))


def tell_chance_of(records: Records, prepared_by: str = PREPARED_BY) -> list[str]:
    """A line where predictions are hardly better than guesses; see `tell_chance`."""
    target = records["target"][:, 0]
    prediction = records["prediction"][:, 0]
    classes = len(torch.cat([target, prediction]).unique())  # a network may answer with others than are there
    return tell_chance(int((prediction == target).sum()), len(target), classes, prepared_by)


def _refuse_not_finite(output: Tensor) -> None:
    if not output.isfinite().all():
        raise EquicliError("the prediction network's outputs are not finite; check --mean, --std and --precision.")


def _sha256(prompts: Mapping[str, Sequence[str]]) -> str:
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()


def _adds_up(outputs: Tensor) -> bool:
    """Whether outputs (b, k) look like probabilities."""
    return bool((outputs >= 0).all()) and bool(((outputs.float().sum(dim=1) - 1).abs() < 1e-3).all())
