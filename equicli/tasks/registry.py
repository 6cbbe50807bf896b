"""Every task, by the name that `--task` takes. A new one is one file or folder, and one line here."""

from dataclasses import dataclass

from equicli.settings import TaskSettings
from equicli.tasks import classification


@dataclass(frozen=True)
class Task:
    """Settings: what a user can set, `--set task.KEY=VALUE`."""

    name: str
    Settings: type[TaskSettings]


TASKS: dict[str, Task] = {
    classification.NAME: Task(classification.NAME, classification.ClassificationSettings),
}
