"""Classes that a turn makes each other's."""

import torch
from torch import Tensor

from equicli.tasks.classification.confusion import changing_classes
from equicli.tasks.classification.task import Classification
from tests.evaluation.handmade import C4

CLASSES = {"six": 0, "seven": 1, "nine": 2}
TARGETS = torch.arange(600) % 3


def turned(at_180: list[int], at_0: list[int] | None = None) -> Tensor:
    """Predictions (n, 4) that at 0° and 180° are a function of the label, and else right."""
    columns = [torch.tensor(at_0 or [0, 1, 2])[TARGETS], TARGETS, torch.tensor(at_180)[TARGETS], TARGETS]
    return torch.stack(columns, dim=1)


def test_classes_that_a_turn_makes_each_other_are_named() -> None:
    (line,) = changing_classes(turned([2, 1, 0]), TARGETS, C4, CLASSES)
    assert "six turned by r180 looks like nine" in line and "seven" not in line


def test_a_class_that_is_only_taken_for_another_is_an_error_and_no_change_of_label() -> None:
    assert changing_classes(turned([2, 1, 2]), TARGETS, C4, CLASSES) == []
    assert changing_classes(turned([0, 1, 2]), TARGETS, C4, CLASSES) == []


def test_outputs_that_are_named_wrongly_are_no_change_of_label() -> None:
    """Untouched images are taken for each other's class, too."""
    assert changing_classes(turned([0, 1, 2], at_0=[2, 1, 0]), TARGETS, C4, CLASSES) == []


def test_classes_are_named_by_their_outputs() -> None:
    """Outputs are not in the order of the folders."""
    (line,) = changing_classes(turned([2, 1, 0]), TARGETS, C4, {"nine": 2, "seven": 1, "six": 0})
    assert "nine" in line and "six" in line and "seven" not in line


def test_the_task_warns_of_them() -> None:
    records = {"prediction": turned([2, 1, 0]), "target": TARGETS[:, None].expand(-1, 4)}
    (line,) = Classification().warnings(records, C4, CLASSES)
    assert line.startswith("labels change under rotation: ")
