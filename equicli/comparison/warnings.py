"""What would mislead a reader of the table."""

from collections.abc import Mapping, Sequence
from typing import Any

from equicli.evaluation.cost import WIDE
from equicli.evaluation.evaluate import Evaluation
from equicli.tasks.task import Task

FEW_IMAGES = 500
LOST_POINTS = 0.01  # of accuracy, that the oracle loses to interpolation


def warnings_of(
    alone: Evaluation, task: Task, labels: Mapping[str, int], rows: Sequence[Mapping[str, Any]]
) -> list[str]:
    """One line on each; `alone` is the evaluation of the network alone, `labels` the output of each class."""
    lines = []
    n, score, shared = alone.n, task.score, _shared(alone)
    if n < FEW_IMAGES:
        lines.append(f"{n} test images are few: accuracies are uncertain by up to ±{98 / n**0.5:.1f} points")
    if shared < alone.elements.order:
        group, elements = alone.group.name.upper(), alone.elements.name.upper()
        lines.append(f"images are turned by {elements}, of which {group} has {shared}; the oracle undoes all")
    if not alone.agreement:
        lines += task.warnings(alone.records["adapted"], alone.elements, labels)
    if any(len(row["seeds"]) == 1 and row["mean"]["trainable_parameters"] for row in rows):
        lines.append("one seed: how much results vary from training to training is not known; --seeds 3 tells")
    disturbed = [row["title"] for row in rows if _disturbed(row["mean"])]
    if disturbed:
        lines.append(f"the machine was busy: of {', '.join(disturbed)} go by the operations, not by the cost")
    oracle = next((row["mean"] for row in rows if row["system"] == "oracle"), None)
    if oracle is not None and oracle[score] - oracle[f"avg_{score}"] > LOST_POINTS:
        lost = 100 * (oracle[score] - oracle[f"avg_{score}"])
        lines.append(
            f"turning off the grid costs even the oracle {lost:.1f} points: compare with it, not with {task.title}"
        )
    return lines


def _disturbed(mean: Mapping[str, float | None]) -> bool:
    low, high = mean.get("relative_cost_low"), mean.get("relative_cost_high")
    return low is not None and high is not None and high > WIDE * low


def _shared(evaluation: Evaluation) -> int:
    """How many of the turns the adapted group has, too."""
    elements, group = evaluation.elements, evaluation.group
    return sum(group.find(elements.angle(g), elements.mirrored(g)) is not None for g in elements.elements())
