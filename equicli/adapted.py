"""AdaptedModel: a canonicalizer in front of a frozen prediction network. What is evaluated is what is shipped."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from equicli.canonicalization.canonicalizer import Canonicalizer, Pose
from equicli.groups.action import act


class AdaptedModel(nn.Module):
    """Takes what the prediction network takes and returns what it returns, at the canonical form of the input.

    x ↦ network(ĝ⁻¹·x) with ĝ = canonicalizer(x).element, so that an invariant output is the same for every g·x.
    The prediction network is frozen: its parameters want no gradient and it stays in eval mode, also under `train()`.
    """

    def __init__(self, canonicalizer: Canonicalizer, prediction_network: nn.Module, padding: str = "edge") -> None:
        """
        Args:
            padding: what images that are turned off the grid show from outside (see `groups.action.act`).
        """
        super().__init__()
        self.canonicalizer = canonicalizer
        self.prediction_network = prediction_network.requires_grad_(False)
        self.padding = padding
        self.eval()

    def train(self, mode: bool = True) -> "AdaptedModel":
        super().train(mode)
        self.prediction_network.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AdaptedModel":
        # `.half()` and the like change the prediction network; the canonicalizer only follows to its device.
        self.prediction_network._apply(fn, recurse)
        self.canonicalizer._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x: Tensor) -> Any:
        """Predict from square images x (b, c, h, w), normalized as the prediction network expects."""
        return self.predict(x)[0]

    def canonicalize(self, x: Tensor) -> Tensor:
        """Return the canonical form ĝ⁻¹·x of each image, (b, c, h, w): the same for x and for every g·x."""
        return self._undo(self._find_pose(x), x)

    def predict(self, x: Tensor) -> tuple[Any, Pose]:
        """Return the prediction network's output at the canonical form, and the pose that was found."""
        pose = self._find_pose(x)
        return self.prediction_network(self._undo(pose, x)), pose

    def _find_pose(self, x: Tensor) -> Pose:
        # In float32 whatever the prediction network runs in, because near ties decide poses.
        with torch.autocast(x.device.type, enabled=False):
            return self.canonicalizer(x.float())

    def _undo(self, pose: Pose, x: Tensor) -> Tensor:
        group = self.canonicalizer.group
        return act(group, group.inverse(pose.element), x, padding=self.padding)
