"""What is said of an evaluation that would mislead."""

import dataclasses

import pytest
import torch

from equicli.canonicalization.prior import Prior
from equicli.evaluation.warnings import near_chance_of, warnings_of
from tests.evaluation.handmade import CLASSIFICATION, PointTask, recorded

QUIET = {"relative_time_range": [0.30, 0.31]}
CLASSES = {"six": 0, "seven": 1, "nine": 2}


def scored(n=200, **shares):
    """An evaluation of classes 0, 1, 2, … in which each system is right about the first images."""
    made, rows = recorded(n=n), torch.arange(n)
    targets = (rows % 3)[:, None].expand(-1, 4)
    for name, records in made.records.items():
        hits = (rows < round(shares.get(name, 0.9) * n))[:, None].expand(-1, 4)
        records |= {"acc": hits, "target": targets, "prediction": torch.where(hits, targets, (targets + 1) % 3)}
    return made


def told(evaluation, cost=QUIET, task=CLASSIFICATION, seen=None, **options):
    return warnings_of(evaluation, task, CLASSES, cost, Prior(), seen, **options)


def test_nothing_is_said_where_nothing_misleads():
    assert told(scored()) == []
    assert told(scored(symmetrized=0.91, adapted=0.9)) == []  # which may be chance


def test_a_network_at_chance_is_told_with_likely_reasons_and_what_to_do():
    (line,) = told(scored(vanilla=0.35))
    assert line.startswith("the network alone is right about 70 of 200 untouched images") and "(33.3 %)" in line
    for word in ("--checkpoint", "--mean", "--image-size", "class folders", "upright", "equicli inspect"):
        assert word in line
    assert told(scored(vanilla=0.45)) == []


def test_of_a_few_images_nobody_can_say_that_they_are_near_chance():
    few = scored(n=4, vanilla=0.5)
    one_of_four = dataclasses.replace(few, found=dataclasses.replace(few.found, identity=torch.arange(4) == 0))
    assert near_chance_of(one_of_four, CLASSIFICATION, Prior()) == []
    assert near_chance_of(scored(n=4, vanilla=0), CLASSIFICATION, Prior()) == ["network"]


def test_without_labels_a_network_agrees_with_itself_and_chance_says_nothing():
    assert told(dataclasses.replace(scored(vanilla=0.1), agreement=True)) == []


def test_symmetrization_that_is_better_than_the_adapted_model_is_told():
    (line,) = told(scored(vanilla=0.8, symmetrized=0.9, adapted=0.8))
    assert line.startswith("symmetrized is better than adapted, by 10.0 points [") and "4 passes" in line
    for remedy in ("--upright", "--passes 1.25", "--epochs", "--recipe systems/symmetrization"):
        assert remedy in line


def test_what_adapting_costs_untouched_images_is_told_where_it_is_much():
    (line,) = told(scored(vanilla=0.9, adapted=0.8, symmetrized=0.7))
    assert line.startswith("untouched images lose 10.0 points, as 0.0 % of them are found turned")
    assert told(scored(vanilla=0.9, adapted=0.87, symmetrized=0.7)) == []


def test_a_network_that_answers_with_classes_that_are_not_there_may_be_wrong_more_often_than_by_chance():
    made = scored(vanilla=0.35)
    records = dict(made.records["vanilla"])
    records["prediction"] = torch.where(records["acc"], records["prediction"], 100 + torch.arange(200)[:, None])
    assert told(dataclasses.replace(made, records={**made.records, "vanilla": records})) == []


def test_a_task_without_these_systems_or_classes_is_told_of_neither():
    made = scored(vanilla=0.1)
    hits = {name: {"hit": records["acc"]} for name, records in made.records.items() if name != "symmetrized"}
    assert told(dataclasses.replace(made, records=hits), task=PointTask()) == []


def test_a_disturbed_clock_is_told():
    (line,) = told(scored(), {"relative_time_range": [0.2, 0.4]})
    assert "between 0.2 and 0.4" in line


def test_images_that_training_saw_are_told_with_their_number():
    (line,) = told(scored(), seen=139)
    assert line.startswith("139 of 200 images were trained on, or chose the epoch")
    assert told(scored(), seen=0) == told(scored(), seen=None) == []


def test_what_does_hardly_better_than_guesses_is_named_and_what_to_do():
    made = scored()
    assert near_chance_of(made, CLASSIFICATION, Prior()) == []
    assert near_chance_of(scored(vanilla=0.35), CLASSIFICATION, Prior()) == ["network"]
    upright = torch.arange(200) % 4 == 0
    lost = dataclasses.replace(made, found=dataclasses.replace(made.found, identity=upright))
    assert near_chance_of(lost, CLASSIFICATION, Prior()) == ["canonicalizer"]
    (line,) = told(lost)
    assert "25.0 % of untouched images" in line and "near chance" in line and "--epochs" in line
    assert near_chance_of(dataclasses.replace(lost, found=None), CLASSIFICATION, Prior()) == []


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_pretrained_network_is_advised_where_there_is_none(pretrained):
    (line,) = told(scored(vanilla=0.9, adapted=0.7, symmetrized=0.1), pretrained=pretrained)
    assert ("a pretrained --canonicalizer-network" in line) != pretrained and line.endswith("may help")
