"""What is said where a number would mislead."""

import dataclasses

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


def test_outputs_that_are_named_wrongly_are_no_change_of_label() -> None:
    """Untouched images are taken for each other's class, too."""
    one = turned([0, 1, 2])
    swapped = torch.tensor([2, 1, 0])[one.targets][:, None].expand(-1, 4)
    assert changing_classes(dataclasses.replace(one, predictions=swapped), CLASSES)[0].count("r0 ") == 0


def test_classes_are_named_by_their_outputs() -> None:
    """Outputs are not in the order of the folders."""
    (line,) = changing_classes(turned([2, 1, 0]), {"nine": 2, "seven": 1, "six": 0})
    assert "nine" in line and "six" in line and "seven" not in line


def row(acc, avg_acc, system="oracle", seeds=1, trainable=0):
    return {
        "system": system,
        "seeds": list(range(seeds)),
        "mean": {"acc": acc, "avg_acc": avg_acc, "trainable_parameters": trainable},
    }


def test_few_images_and_interpolation_are_told() -> None:
    few, interpolation = warnings_of(turned([0, 1, 2], n=99), CLASSES, [row(0.9, 0.8)])
    assert few.startswith("99 test images are few")
    assert "even the oracle 10.0 points" in interpolation
    assert warnings_of(turned([0, 1, 2]), CLASSES, [row(0.9, 0.9)]) == []


def test_that_one_training_tells_little_is_said() -> None:
    trained = [row(0.9, 0.9), row(0.8, 0.8, "equiadapt", trainable=7)]
    (line,) = warnings_of(turned([0, 1, 2]), CLASSES, trained)
    assert line.startswith("one seed") and "--seeds 3" in line
    assert warnings_of(turned([0, 1, 2]), CLASSES, [row(0.8, 0.8, "equiadapt", seeds=3, trainable=7)]) == []


def test_turns_that_the_group_lacks_are_told() -> None:
    (line,) = warnings_of(evaluation("c8", "c4", n=600, shared=(0, 2, 4, 6)), {}, [])
    assert line == "images are turned by C8, of which C4 has 4; the oracle undoes all"
