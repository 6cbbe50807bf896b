"""What a training step minimizes: the weighted sum of prior, contrast, artifact and task loss, told one by one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from equicli.adapted import Average, average_outputs, each_view
from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.canonicalization.losses import artifact_loss, contrast_loss, straight_through
from equicli.canonicalization.prior import Prior
from equicli.devices import arithmetic
from equicli.groups import Group, is_finite
from equicli.groups.action import Element, act
from equicli.settings import TrainingSettings


@dataclass(frozen=True)
class Task:
    """The task's own loss at the canonical form of an image.

    loss: from the prediction network's output and the right outputs, int64 (b,), to a scalar.
    """

    network: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    average: Average = "none"

    def predict(self, group: Group, pose: Pose, x: Tensor, padding: str) -> Tensor:
        """What the adapted model returns, in a form through which gradients reach the scores."""
        if self.average != "none":
            return average_outputs(pose.scores, map(self.network, each_view(group, x, padding)), self.average)
        chosen = x if is_finite(group) and pose.scores is None else straight_through(group, pose, x, padding)
        output: Tensor = self.network(chosen)
        return output


@dataclass(frozen=True)
class Objective:
    """The losses of a batch. Those whose weight is 0 are not computed.

    weights: by the names `prior`, `contrast`, `artifact`, `task`.
    """

    prior: Prior
    weights: dict[str, float]
    padding: str
    task: Task | None

    @classmethod
    def of(cls, settings: TrainingSettings, prior: Prior, padding: str, task: Task | None) -> "Objective":
        weights = {
            "prior": settings.prior_weight,
            "contrast": settings.contrast_weight,
            "artifact": settings.artifact_weight,
            "task": settings.task_weight,
        }
        return cls(prior, {name: weight for name, weight in weights.items() if weight > 0}, padding, task)

    @property
    def judged_by_identity_rate(self) -> bool:
        """Whether that chooses the best epoch; where the task counts or no pose is right for all, the loss."""
        return "prior" in self.weights and "task" not in self.weights and not self.prior.shares

    def only(self, *names: str) -> "Objective":
        """The same without the other losses."""
        return replace(self, weights={name: weight for name, weight in self.weights.items() if name in names})

    def losses(
        self,
        canonicalizer: Canonicalizer,
        x: Tensor,
        targets: Tensor,
        generator: torch.Generator | None = None,
        precision: str = "fp32",
    ) -> tuple[Pose, dict[str, Tensor]]:
        """The poses of a batch, and each of its losses.

        Args:
            x: images normalized for the prediction network, (b, 3, h, w).
            targets: int64 (b,), the right outputs; only the task loss looks at them.
            generator: draws the element that the artifact loss turns by.
            precision: of the networks; the losses are computed in float32.
        """
        group = canonicalizer.group
        with arithmetic(x.device, precision):
            pose = canonicalizer(x)
        losses = {}
        if "prior" in self.weights:
            losses["prior"] = self.prior.loss(group, pose)
        if "contrast" in self.weights:
            assert pose.vectors is not None
            losses["contrast"] = contrast_loss(pose.vectors)
        if "artifact" in self.weights:
            h = draw_off_grid(group, generator)
            with arithmetic(x.device, precision):
                turned = canonicalizer(act(group, h, x, padding=self.padding))
            losses["artifact"] = artifact_loss(group, pose, turned, h)
        if "task" in self.weights:
            assert self.task is not None
            with arithmetic(x.device, precision):
                output = self.task.predict(group, pose, x, self.padding)
            losses["task"] = self.task.loss(output.float(), targets)
        return pose, losses

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
