"""What detectors answer, by torchvision's contract."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from equicli.errors import EquicliError
from equicli.tasks.annotations.objects import Objects, encode

PARTS = {"boxes": "boxes", "labels": "invariant", "scores": "invariant", "masks": "mask"}


def check_answer(output: Any) -> None:
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


def objects_in(output: Mapping[str, Tensor]) -> Objects:
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
