"""What is said where a number would mislead."""

import torch

from equicli.comparison.warnings import changing_classes, warnings_of
from tests.evaluation.test_metrics import evaluation

CLASSES = {"six": 0, "seven": 1, "nine": 2}


def turned(predictions, n=600):
    """An evaluation whose labels are 0, 1, 2, … and whose predictions at 0° and 180° are a function of them."""
    targets = torch.arange(n) % 3
    columns = [targets, targets, torch.tensor(predictions)[targets], targets]
    return evaluation(n=n, targets=targets, predictions=torch.stack(columns, dim=1))


def test_classes_that_a_turn_makes_each_other_are_named() -> None:
    (line,) = changing_classes(turned([2, 1, 0]), CLASSES)
    assert "six turned by r180 looks like nine" in line and "seven" not in line


def test_a_class_that_is_only_taken_for_another_is_an_error_and_no_change_of_label() -> None:
    assert changing_classes(turned([2, 1, 2]), CLASSES) == []
    assert changing_classes(turned([0, 1, 2]), CLASSES) == []


def test_classes_are_named_by_their_outputs() -> None:
    """Outputs are not in the order of the folders."""
    (line,) = changing_classes(turned([2, 1, 0]), {"nine": 2, "seven": 1, "six": 0})
    assert "nine" in line and "six" in line and "seven" not in line


def row(acc, avg_acc):
    return {"system": "oracle", "mean": {"acc": acc, "avg_acc": avg_acc}}


def test_few_images_and_interpolation_are_told() -> None:
    few, interpolation = warnings_of(turned([0, 1, 2], n=99), CLASSES, [row(0.9, 0.8)])
    assert few.startswith("99 test images are few")
    assert "even the oracle 10.0 points" in interpolation
    assert warnings_of(turned([0, 1, 2]), CLASSES, [row(0.9, 0.9)]) == []
