"""The pictures on which an adapted model loses most."""

from collections.abc import Sequence
from typing import Any

from equicli.evaluation.evaluate import Evaluation
from equicli.tasks.task import Task

MOST = 10


def lost_most(evaluation: Evaluation, task: Task, names: Sequence[str]) -> list[dict[str, Any]]:
    """Those that the network alone, upright, is better at than the adapted model on average over all turns.

    Args:
        names: of all samples.

    Returns:
        By what is lost, `file`, and of both the score of this picture alone.
    """
    if "vanilla" not in evaluation.records or not evaluation.indices:
        return []
    alone, adapted = (evaluation.records[name][task.score].double() for name in ("vanilla", "adapted"))
    lost = alone[:, 0] - adapted.mean(dim=1)
    worst = [i for i in lost.argsort(descending=True, stable=True)[:MOST].tolist() if lost[i] > 0]
    return [
        {
            "file": names[evaluation.indices[i]],
            "vanilla": float(alone[i, 0]),
            "adapted": float(adapted[i].mean()),
        }
        for i in worst
    ]
