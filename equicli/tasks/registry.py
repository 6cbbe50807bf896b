"""Every task, by the name that `--task` takes. A new one is one file and one line here."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from equicli.errors import EquicliError, shown
from equicli.settings import TaskSettings, fault
from equicli.tasks.classification.task import Classification
from equicli.tasks.instances.prompted import Prompted
from equicli.tasks.instances.task import Instances
from equicli.tasks.points.parts import PointParts
from equicli.tasks.points.task import PointClassification
from equicli.tasks.pose import PoseTask
from equicli.tasks.semantic.task import Semantic
from equicli.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "instances": Instances,
    "prompted": Prompted,
    "semantic": Semantic,
    "points": PointClassification,
    "point-parts": PointParts,
    "pose": PoseTask,
}


def task_of(model: str | None) -> str:
    """The task that a network's name says; the first where it says none."""
    return next((name for name, task in TASKS.items() if model and task.is_for(model)), next(iter(TASKS)))


def make_task(settings: TaskSettings) -> Task:
    """Return the task that a configuration asks for."""
    return TASKS[settings.kind](settings)


def find_task(name: str, stored: Mapping[str, Any]) -> Task:
    """Return the task that an artifact was made for.

    Args:
        stored: what `Task.stored` gave.

    Raises:
        EquicliError: there is none of this name, or it has no such settings.
    """
    if name not in TASKS:
        raise EquicliError(f"task '{shown(name)}': this equicli has {', '.join(TASKS)}; update equicli.")
    try:
        settings = TASKS[name].Settings.model_validate({"kind": name, **stored})
    except ValidationError as error:
        first = error.errors()[0]
        place = f"task_settings.{shown(first['loc'][0])}"
        raise EquicliError(f"damaged configuration at {place}: {fault(first)}.") from None
    return TASKS[name](settings)
