"""What is said where a number would mislead."""

import pytest
import torch

from equicli.comparison.warnings import warnings_of
from tests.evaluation.handmade import CLASSIFICATION, PointTask, recorded

CLASSES = {"six": 0, "seven": 1, "nine": 2}


def told(evaluation, labels=CLASSES, rows=(), task=CLASSIFICATION):
    return warnings_of(evaluation, task, labels, rows)


def turned(at_180, n=600, **changes):
    """An evaluation whose labels are 0, 1, 2, … and whose predictions at 180° are a function of them, else right."""
    one, targets = recorded(n=n, **changes), torch.arange(n) % 3
    columns = [targets, targets, torch.tensor(at_180)[targets], targets]
    one.records["adapted"]["prediction"] = torch.stack(columns, dim=1)
    one.records["adapted"]["target"] = targets[:, None].expand(-1, 4)
    return one


def row(acc, avg_acc, system="oracle", seeds=1, trainable=0):
    return {
        "system": system,
        "seeds": list(range(seeds)),
        "mean": {"acc": acc, "avg_acc": avg_acc, "trainable_parameters": trainable},
    }


def test_classes_that_a_turn_makes_each_other_are_named() -> None:
    (line,) = told(turned([2, 1, 0]))
    assert "six turned by r180 looks like nine" in line


def test_without_labels_nothing_is_said_of_classes() -> None:
    assert told(turned([2, 1, 0], agreement=True)) == []


def test_a_task_without_classes_says_nothing_of_them() -> None:
    assert told(turned([2, 1, 0]), task=PointTask()) == []


def test_few_images_and_interpolation_are_told() -> None:
    few, interpolation = told(turned([0, 1, 2], n=99), rows=[row(0.9, 0.8)])
    assert few.startswith("99 test images are few")
    assert "even the oracle 10.0 points" in interpolation and "not with Acc" in interpolation
    assert told(turned([0, 1, 2]), rows=[row(0.9, 0.9)]) == []


def test_interpolation_is_told_of_any_tasks_score() -> None:
    oracle = {"system": "oracle", "seeds": [0], "mean": {"hit": 0.9, "avg_hit": 0.85, "trainable_parameters": 0}}
    (line,) = told(turned([0, 1, 2]), rows=[oracle], task=PointTask())
    assert "5.0 points" in line and "not with Hits" in line


def test_that_one_training_tells_little_is_said() -> None:
    trained = [row(0.9, 0.9), row(0.8, 0.8, "equiadapt", trainable=7)]
    (line,) = told(turned([0, 1, 2]), rows=trained)
    assert line.startswith("one seed") and "--seeds 3" in line
    assert told(turned([0, 1, 2]), rows=[row(0.8, 0.8, "equiadapt", seeds=3, trainable=7)]) == []


def test_a_cost_that_was_measured_beside_other_work_is_told() -> None:
    quiet, busy = ({**row(0.9, 0.9, name), "title": name} for name in ("energy", "frame"))
    quiet["mean"] |= {"relative_cost_low": 1.0, "relative_cost_high": 1.1}
    busy["mean"] |= {"relative_cost_low": 1.0, "relative_cost_high": 1.6}
    (line,) = told(turned([0, 1, 2]), rows=[quiet, busy])
    assert line == "the machine was busy: of frame go by the operations, not by the cost"


@pytest.mark.parametrize(("group", "shared"), [("c4", 4), ("c3", 1), ("d2", 2)])
def test_turns_that_the_group_lacks_are_told(group: str, shared: int) -> None:
    (line,) = told(recorded("c8", group, n=600), labels={})
    assert line == f"images are turned by C8, of which {group.upper()} has {shared}; the oracle undoes all"
