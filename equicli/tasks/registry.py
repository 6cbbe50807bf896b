"""Every task, by the name that `--task` takes. A new one is one file and one line here."""

from equicli.errors import EquicliError, shown
from equicli.tasks.classification.task import Classification
from equicli.tasks.task import Task

TASKS: dict[str, Task] = {
    "classification": Classification(),
}


def find_task(name: str) -> Task:
    """Return the task that an artifact was made for.

    Raises:
        EquicliError: there is none of this name.
    """
    if name not in TASKS:
        raise EquicliError(f"task '{shown(name)}': this equicli has {', '.join(TASKS)}; update equicli.")
    return TASKS[name]
