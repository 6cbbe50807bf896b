"""Which tasks there are, and who knows them."""

import re
from pathlib import Path

import pytest

import equicli
from equicli.tasks.registry import TASKS

PACKAGE = Path(equicli.__file__).parent
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "tasks" not in path.parents]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_other_rooms_know_tasks_by_the_registry_alone(path: Path) -> None:
    named = set(re.findall(r"equicli\.tasks(?:\.| import )(\w+)", path.read_text(encoding="utf-8")))
    assert named <= {"task", "registry", "intervals", "calibration"}  # none of which is a task


def test_a_task_is_registered_by_the_name_that_its_settings_have() -> None:
    for name, task in TASKS.items():
        assert task.name == name == task.Settings(kind=name).kind
