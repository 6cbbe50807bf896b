"""What a task is. Training, evaluation, comparison and reports know tasks only by this."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from equicli.data.folders import Dataset, Sample, open_folder
from equicli.data.layouts import SplitNames
from equicli.errors import EquicliError, said_of
from equicli.groups import FiniteGroup, PlanarGroup, Turns
from equicli.prediction.inputs import Inputs
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.prediction.plain import plain
from equicli.prediction.signature import CLASSIFIER, Signature, split_batch, try_network
from equicli.progress import Progress
from equicli.settings import TaskSettings
from equicli.tasks.intervals import clustered, wilson

if TYPE_CHECKING:
    from equicli.adapted import AdaptedModel


@dataclass(frozen=True)
class Figure:
    """A picture beside report.md: its file's name, one of `runs.FIGURES`, what it shows, and the PNG."""

    file: str
    title: str
    png: bytes


# By name for each sample and turn: a tensor (n, |R|, …); or, of what tensors cannot hold, n lists with |R| values each.
Records = Mapping[str, Any]


@dataclass(frozen=True)
class Binding:
    """How a network and a dataset go together.

    labels: the output that stands for each class name; empty where there are none.
    head_needed: whether a last layer is to be fitted to the data first.
    class_names: for every output the names that it goes by, of data that may come later; empty where nothing says.
    """

    labels: Mapping[str, int]
    head_needed: bool = False
    class_names: tuple[tuple[str, ...], ...] = ()


class Task:
    """What a network is asked for: what it takes and returns, and when an answer is right.

    A new task is one file with a subclass, and its line in `registry.py`. `record` is all that one has to write where
    the network takes images, and where the data is a folder of images without labels. One with labels of its own
    overrides `open`, too: `super().open(root).with_targets(label)`, where `label` gives what is right for a sample, in
    pixels of the picture as `open_image` shows it (x to the right and y down from its upper left corner; the centre of
    the first pixel is (0.5, 0.5)).

    name: what `--task` takes and artifacts store.
    also_called: what people look for it under.
    Settings: what a user can set, `--set task.KEY=VALUE`; `self.settings` has it, see also `stored`.
    signature: what the prediction network takes and returns; see `prediction.signature`.
    has_loss: whether `loss` can train a canonicalizer or a network on targets; only of outputs that have no place in
        the picture, such as logits, as training crops and mirrors images.
    has_pose_costs: whether `pose_costs` can train a canonicalizer on targets in its place.
    score: the record by which samples are compared one by one, a share in [0, 1] of which more is better, and a key of
        `metrics.json`. What is reported is its mean over the test set: where it is bool, counts and Wilson intervals
        are told, too, else it is bootstrapped. A task whose metric is none of a sample but of the whole set, such as
        average precision, has a `measure` of its own, of all that it records.
    title, words: what tables and captions call it. columns: title and key of further metrics in comparisons; shown: of
        those that an evaluation's table has, too.
    things: what the samples are, for people.
    baselines: systems that make sense beside the adapted one, of `evaluation.systems`.
    has_network: whether there is a prediction network that figures can be told of.
    labels_from: where targets are from, a value of `metrics.json`.
    tag: the Hub's name for the task, for model cards.
    """

    name: ClassVar[str]
    also_called: ClassVar[tuple[str, ...]] = ()
    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    signature: ClassVar[Signature] = CLASSIFIER
    score: ClassVar[str] = "acc"
    title: ClassVar[str] = "Acc"
    words: ClassVar[str] = ""  # the title
    columns: ClassVar[tuple[tuple[str, str], ...]] = ()
    shown: ClassVar[tuple[tuple[str, str], ...]] = ()
    things: ClassVar[str] = "images"
    has_loss: ClassVar[bool] = False
    has_pose_costs: ClassVar[bool] = False
    baselines: ClassVar[tuple[str, ...]] = ("vanilla", "oracle")
    has_network: ClassVar[bool] = True
    labels_from: ClassVar[str] = "given"
    tag: ClassVar[str] = "image-feature-extraction"

    def __init__(self, settings: TaskSettings | None = None) -> None:
        """
        Args:
            settings: of `Settings`; None takes the defaults.
        """
        self.settings: Any = settings if settings is not None else self.Settings(kind=self.name)

    def stored(self) -> dict[str, Any]:
        """Settings that evaluation needs again, as plain values; artifacts keep them."""
        return self.settings.model_dump(mode="json", exclude=set(TaskSettings.model_fields))  # type: ignore[no-any-return]

    @classmethod
    def is_for(cls, model: str) -> bool:
        """Whether the name of a network says without doubt that this task is asked of it, where nobody says which."""
        return False

    def said(self, text: str) -> str:
        """A text about images, said of what the samples are."""
        return said_of(self.things, text)

    # Data

    @property
    def split_names(self) -> SplitNames:
        """The folders that the user names as parts."""
        return SplitNames(self.settings.train_split, self.settings.val_split, self.settings.test_split)

    def with_splits(self, names: Mapping[str, str | None]) -> "Task":
        """The same task with folders named as parts: `train_split`, `val_split` and `test_split`."""
        return type(self)(self.settings.model_copy(update=dict(names)))

    def open(self, root: Path) -> Dataset:
        """Read a dataset folder: its samples with their targets, and its splits. Here images without labels.

        Raises:
            UsageError: there is no such folder. EquicliError: it does not hold what the task needs; names the file.
        """
        return open_folder(root, self.split_names).with_targets(lambda sample: None)

    def targets(self, samples: Sequence[Sample], data: Dataset, labels: Mapping[str, int]) -> list[Any] | None:
        """What is right for each sample, in the frame of its picture; None where nothing says.

        Args:
            labels: those that a network is bound to the data by; see `Binding`.

        Raises:
            EquicliError: the data has classes that the network does not know, or some samples have no target.
        """
        missing = [sample for sample in samples if sample.target is None]
        if missing and len(missing) < len(samples):
            raise EquicliError(
                f"{missing[0].path}: has no label, as {len(missing)} of {len(samples)} images; label or remove them."
            )
        return None if len(missing) == len(samples) else [sample.target for sample in samples]

    # The network

    def prepare(self, found: PretrainedNetwork, data: Dataset, progress: Progress) -> PretrainedNetwork:
        """Make a network for the task of the one that was loaded."""
        return found

    def bind(
        self, found: PretrainedNetwork, data: Dataset, example: Any, show: Callable[[Sample], Any], progress: Progress
    ) -> Binding:
        """Check that a network goes with the data, by what it says of an example.

        Args:
            example: one input (1, 3, h, w) as the network takes it.
            show: the same of any sample; raises UnreadableImageError.

        Raises:
            EquicliError: it fails on the example, or returns something else than the task's outputs.
        """
        output = try_network(found.network, self.signature, example)
        try:
            split_batch(output)
        except TypeError:
            raise EquicliError(
                f"--model: returns {type(output).__name__}, which is no answer to the task {self.name}."
            ) from None
        if self.has_network and self.targets(data.samples[:1], data, {}) is None:
            progress.say("labels: none; a prediction is compared with the network's own of the upright picture")
        return Binding({})

    def rebind(
        self, data: Dataset, labels: Mapping[str, int], class_names: Sequence[Sequence[str]]
    ) -> Mapping[str, int]:
        """The labels of data that the network was not bound to; those that it has where they are these or none fit.

        Args:
            labels, class_names: see `Binding`.
        """
        return labels

    def fit_head(
        self,
        found: PretrainedNetwork,
        data: Dataset,
        train: tuple[Tensor, list[Any]],
        validation: tuple[Tensor, list[Any]],
        progress: Progress,
    ) -> tuple[Binding, NetworkSpec]:
        """Fit a last layer on features (n, d) and targets, put it into the network; see `Binding.head_needed`."""
        raise NotImplementedError

    def loss(self, output: Any, targets: Sequence[Any]) -> Tensor:
        """The task's own loss of a batch, a scalar; see `has_loss`."""
        raise NotImplementedError

    def pose_costs(self, network: nn.Module, inputs: Any, group: FiniteGroup, targets: Sequence[Any]) -> Tensor:
        """What the frozen network's own loss is of some pictures in every pose, float32 (b, |G|); see `has_pose_costs`.

        Args:
            inputs: `Pictures`. targets: what is right for each, in its frame.
        """
        raise NotImplementedError

    def answers(self, output: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        """What `predict` writes of a batch's outputs: for each sample values that JSON has, by the names of columns.

        Args:
            output: what the network returned, in the frame of the picture; see `record`.
            names: of the classes, output by output; empty where nothing says.
        """
        return [{"output": plain(row, self.signature.outputs)} for row in split_batch(output)]

    # Evaluation

    def prompted(self, inputs: Inputs, targets: Sequence[Any] | None) -> Inputs:
        """Samples with what a network that answers prompts is asked about them. Here they are as they are.

        Args:
            targets: what is right for each, in its frame; None where nothing says.
        """
        return inputs

    def targets_of(self, output: Any) -> list[Any]:
        """Take what the network says of upright pictures for right, where no target is known: one a sample."""
        return split_batch(output)

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Any]:
        """What is kept of a batch's outputs beside their targets: tensors (b, …) by name, `score` (b,) among them; or a
        list with a value of any kind for each sample.

        Args:
            output: what the network returned, carried back to the frame of the untouched picture: a tensor (b, …), or
                parts of such; a list with one entry a sample of a network that takes lists, and where samples differ
                in shape.
        """
        raise NotImplementedError

    def changes(self, output: Any, reference: Any) -> tuple[Tensor, float]:
        """How an output differs from that of the untouched picture, in the same frame.

        Returns:
            Whether each sample's prediction is another one, bool (b,), and the largest change of a number, where there
            are as many of them.
        """
        deltas = [_difference(a, b) for a, b in zip(split_batch(output), split_batch(reference), strict=True)]
        comparable = [delta for delta in deltas if math.isfinite(delta)]  # others are no JSON
        return torch.tensor([delta > SAME for delta in deltas]), max(comparable, default=0.0)

    def measure(self, records: Records, elements: Turns) -> dict[str, Any]:
        """The metrics of one system: of untouched pictures, and averaged over all turns, with 95 % intervals."""
        values = records[self.score].double()
        n = len(values)
        counts = values.sum(dim=0)
        exact = not records[self.score].is_floating_point()

        def interval(g: int) -> tuple[float, float]:
            return wilson(int(counts[g]), n) if exact else clustered(values[:, g : g + 1].numpy())

        name = self.score
        return {
            name: float(values[:, 0].mean()),
            f"avg_{name}": float(values.mean()),
            f"worst_{name}": float(values.mean(dim=0).min()),
            f"{name}_ci": interval(0),
            f"avg_{name}_ci": clustered(values.numpy()),
            "per_element": [
                {
                    "element": elements.label(g),
                    "angle": elements.angle(g),
                    "mirror": elements.mirrored(g),
                    name: float(values[:, g].mean()),
                    f"{name}_ci": interval(g),
                    **({"correct": int(counts[g])} if exact else {}),
                }
                for g in elements.elements()
            ],
        }

    def per_class(self, records: Records, labels: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Metrics of single classes by name, where the task tells any."""
        return {}

    def facts(self, measured: Mapping[str, Any], agreement: bool) -> list[tuple[str, str]]:
        """What is also told below the table of one system's metrics, name and value."""
        return []

    def groups_of(self, records: Records, labels: Mapping[str, int]) -> dict[str, Tensor]:
        """Samples that are also told on their own, such as those of one class: bool (n,) by name."""
        return {}

    draws: ClassVar[bool] = False

    def draw(self, axes: Any, output: Any) -> None:
        """Draw what the network says of one picture into it, where `draws` says that this can be done.

        Args:
            axes: of matplotlib, with the picture, whose w x h pixels span [0, w] x [0, h].
            output: of a batch of one, in the frame of the picture.
        """

    def figure(
        self, model: "AdaptedModel", turns: Turns, right: Mapping[Path, Any], lost: Sequence[Path], max_pixels: int
    ) -> Figure | None:
        """What an evaluation is shown by, where it can be. Here what `draw` draws into pictures that lose most; where
        none does, into the first.

        Args:
            turns: by which samples were turned. right: of all that were evaluated what is right, None where nothing
                says. lost: of those that lose most. max_pixels: larger pictures are not read.
        """
        if not (self.draws and right and isinstance(turns, PlanarGroup)):
            return None
        from equicli.tasks import overlays

        shown = list(lost[: overlays.PICTURES]) or list(right)[:1]
        png = overlays.figure(model, self, turns, {path: right[path] for path in shown}, max_pixels)
        return Figure(overlays.FILE, overlays.TITLE, png)

    def near_chance(self, records: Records) -> bool:
        """Whether the vanilla network's records are hardly better than guesses, where a task can tell."""
        return False

    def warnings(self, records: Records, elements: Turns, labels: Mapping[str, int]) -> list[str]:
        """One line on each thing in the vanilla network's records that would mislead a reader."""
        return []


# Two numbers of an output this far apart are the same prediction: coordinates of pixels are rounded when they turn.
SAME = 1e-3


def _difference(a: Any, b: Any) -> float:
    """The largest difference of two outputs of one sample; infinite where they are not of one shape."""
    if isinstance(a, Mapping):
        return _difference(list(a.values()), list(b.values())) if list(a) == list(b) else math.inf
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return math.inf
        return max((_difference(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    if a.shape != b.shape:
        return math.inf
    return 0.0 if torch.equal(a, b) else float((a.double() - b.double()).abs().max())
