"""What would mislead a reader of an evaluation."""

from collections.abc import Mapping
from typing import Any

from equicli.evaluation.cost import WIDE
from equicli.evaluation.evaluate import Evaluation
from equicli.tasks.intervals import paired_difference
from equicli.tasks.task import Task


def warnings_of(evaluation: Evaluation, task: Task, labels: Mapping[str, int], cost: Mapping[str, Any]) -> list[str]:
    """One line on each, with what to do.

    Args:
        labels: the output of each class. cost: see `cost.cost_of`.
    """
    records, lines = evaluation.records, []
    if "vanilla" in records and not evaluation.agreement:
        lines += task.warnings(records["vanilla"], evaluation.elements, labels)
    if "symmetrized" in records:
        averaged, adapted = (
            records[name][task.score].double().mean(dim=1)[None].numpy() for name in ("symmetrized", "adapted")
        )
        gap, (low, high) = paired_difference(averaged, adapted)
        if low > 0:
            lines.append(
                f"symmetrized is better than adapted, by {100 * gap:.1f} points [{100 * low:.1f}, {100 * high:.1f}]: "
                "more --epochs, more images or a pretrained --canonicalizer-network may help; or, at "
                f"{evaluation.passes['symmetrized']:g} passes an image, adapt with --recipe systems/symmetrization"
            )
    low, high = cost["relative_time_range"]
    if high > WIDE * low:
        lines.append(
            f"relative time was measured between {low:.2g} and {high:.2g}, as the machine is busy: go by the "
            "operations, or measure again when it is idle"
        )
    return lines
