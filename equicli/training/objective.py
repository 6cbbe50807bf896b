"""What a training step minimizes: the weighted sum of prior, contrast, artifact and task loss, told one by one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.canonicalization.losses import artifact_loss, contrast_loss, straight_through, target_loss
from equicli.canonicalization.prior import Prior
from equicli.data.normalization import Normalization
from equicli.devices import arithmetic
from equicli.groups import Group, is_finite
from equicli.groups.action import Element, act
from equicli.groups.transport import Kinds
from equicli.policy import Policy
from equicli.prediction.clouds import Clouds, inputs_from_tensors
from equicli.prediction.inputs import Inputs, Tensors, Views
from equicli.prediction.signature import Ask
from equicli.settings import TrainingSettings


@dataclass(frozen=True)
class TaskLoss:
    """The task's own loss of what the adapted model says of an image.

    ask: asks the prediction network, through which gradients pass.
    normalization: of the network's inputs. kinds: of these. outputs: the kinds of what it returns.
    loss: from the adapted model's output and the targets of a batch to a scalar.
    """

    ask: Ask
    normalization: Normalization
    policy: Policy
    loss: Callable[[Any, Sequence[Any]], Tensor]
    outputs: Kinds = "logits"

    kinds: Kinds = "image"

    def inputs(self, x: Tensor, padding: str) -> Inputs:
        return inputs_from_tensors(x, self.normalization, self.kinds, padding)

    def predict(self, group: Group, pose: Pose | None, x: Tensor, padding: str) -> Any:
        """What the adapted model returns, in a form through which gradients reach the scores."""
        views = _StraightThrough(self.inputs(x, padding), group, self.ask, self.outputs, pose)
        return self.policy.answer(views, pose)


@dataclass(frozen=True)
class _StraightThrough(Views):
    """Views of tensors through which gradients reach the scores of a pose, where it is what is asked about."""

    pose: Pose | None

    def at(self, element: Element | None) -> Any:
        if self.pose is None or element is not self.pose.element:
            return super().at(element)
        assert isinstance(self.inputs, Tensors | Clouds)
        shown = straight_through(self.group, self.pose, self.inputs.value, getattr(self.inputs, "padding", "edge"))
        return self.inputs.back(self.group, element, self.ask(shown), self.outputs)


@dataclass(frozen=True)
class Objective:
    """The losses of a batch. Those whose weight is 0 are not computed.

    weights: by the names `prior`, `contrast`, `artifact`, `task`.
    task: None where images are what the canonicalizer looks at, and the prediction network is not asked.
    by_picture: whether each image has poses of its own that are right for it.
    costs: whether the frozen network's own loss of each image is known in every pose: the task's loss is its mean over
        p(g | x), of which nothing but p has a gradient.
    """

    prior: Prior
    weights: dict[str, float]
    padding: str
    task: TaskLoss | None
    by_picture: bool = False
    costs: bool = False

    @classmethod
    def of(
        cls,
        settings: TrainingSettings,
        prior: Prior,
        padding: str,
        task: TaskLoss | None,
        by_picture: bool = False,
        costs: bool = False,
    ) -> "Objective":
        weights = {
            "prior": settings.prior_weight,
            "contrast": settings.contrast_weight,
            "artifact": settings.artifact_weight,
            "task": settings.task_weight,
        }
        weights = {name: weight for name, weight in weights.items() if weight > 0}
        return cls(prior, weights, padding, task, by_picture, costs)

    @property
    def small(self) -> bool:
        """Whether images are small views, not inputs of the prediction network."""
        return self.task is None

    def normalization(self, canonicalizer: Canonicalizer) -> Normalization:
        """What images are normalized by before they are handed over."""
        return canonicalizer.view.normalization if self.task is None else self.task.normalization

    @property
    def judged_by_identity_rate(self) -> bool:
        """Whether that chooses the best epoch; where the task counts or no pose is right for all, the loss."""
        return "prior" in self.weights and "task" not in self.weights and not (self.prior.shares or self.by_picture)

    def only(self, *names: str) -> "Objective":
        """The same without the other losses."""
        return replace(self, weights={name: weight for name, weight in self.weights.items() if name in names})

    def losses(
        self,
        canonicalizer: Canonicalizer,
        x: Tensor,
        targets: Sequence[Any],
        generator: torch.Generator | None = None,
        precision: str = "fp32",
        poses: Tensor | None = None,
    ) -> tuple[Pose | None, dict[str, Tensor]]:
        """The poses of a batch, and each of its losses.

        Args:
            x: small views, or where there is a task inputs of the prediction network, (b, 3, h, w); normalized.
            targets: what is right for each; only the task loss looks at them.
            generator: draws the element that the artifact loss turns by.
            precision: of the networks; the losses are computed in float32.
            poses: how right each pose is for each, or what it costs, (b, |G|); None where nothing is known.
        """
        group = canonicalizer.group
        pose = self._find(canonicalizer, x, precision)
        losses = {}
        if "prior" in self.weights:
            assert pose is not None
            losses["prior"] = self.prior_loss(group, pose, poses if self.by_picture else None)
        if "contrast" in self.weights:
            assert pose is not None and pose.vectors is not None
            losses["contrast"] = contrast_loss(pose.vectors)
        if "artifact" in self.weights:
            h = draw_off_grid(group, generator)
            turned = self._find(canonicalizer, act(group, h, x, padding=self.padding), precision)
            assert pose is not None and turned is not None
            losses["artifact"] = artifact_loss(group, pose, turned, h)
        if "task" in self.weights and self.costs:
            assert pose is not None and pose.scores is not None and poses is not None
            losses["task"] = (pose.scores.softmax(dim=1) * poses).sum(dim=1).mean()
        elif "task" in self.weights:
            assert self.task is not None
            with arithmetic(x.device, precision):
                output = self.task.predict(group, pose, x, self.padding)
            losses["task"] = self.task.loss(output, targets)
        return pose, losses

    def prior_loss(self, group: Group, pose: Pose, poses: Tensor | None) -> Tensor:
        """What poses of untouched images cost; `poses` as in `losses`."""
        if poses is None:
            return self.prior.loss(group, pose)
        assert pose.scores is not None
        return target_loss(pose.scores, poses)

    def _find(self, canonicalizer: Canonicalizer, x: Tensor, precision: str) -> Pose | None:
        if not canonicalizer.finds_poses:
            return None
        with arithmetic(x.device, precision):
            if self.task is None:
                return canonicalizer(x)
            return canonicalizer.find(self.task.inputs(x, self.padding), self.task.ask)

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        return sum((self.weights[name] * loss for name, loss in losses.items()), start=torch.zeros(()))


def draw_off_grid(group: Group, generator: torch.Generator | None) -> Element:
    """Draw an element that interpolates: not a multiple of 90°."""
    if not is_finite(group):
        angle = 360 * torch.rand((), generator=generator).item()
        element = group.find(angle, False)
        assert element is not None
        return element
    off_grid = [g for g in range(group.order) if 0 not in group.rows(g)[0]]
    return off_grid[int(torch.randint(len(off_grid), (), generator=generator))]
