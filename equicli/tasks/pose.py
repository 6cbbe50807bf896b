"""Poses alone, without a prediction network: a picture is right where it is shown upright."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equicli.prediction.no_network import NONE
from equicli.prediction.signature import Signature
from equicli.tasks.task import Task

_SAME = 0.02  # of normalized pixels of a tiny picture


class PoseTask(Task):
    """What the network says is the picture that it was shown, made tiny; right is that of the upright one."""

    name = "pose"
    signature = Signature(outputs="invariant")
    score, title, words = "upright", "Upright", "share of pictures that are turned upright"
    has_network, baselines = False, ()
    labels_from = "the pictures themselves"

    @classmethod
    def is_for(cls, model: str) -> bool:
        return model == NONE

    def answers(self, output: Any, names: Sequence[str]) -> list[dict[str, Any]]:
        return [{} for _ in output]

    def record(self, output: Any, targets: Sequence[Any]) -> dict[str, Tensor]:
        return {"upright": (output - torch.stack(list(targets)).to(output)).abs().amax(dim=1) < _SAME}
