import json

import pytest
import torch

from equicli.evaluation.evaluate import SYSTEMS, Evaluation
from equicli.evaluation.metrics import metrics_document
from equicli.groups import parse_group

COST = {"added_parameters": 1234, "relative_time": 0.03}
PROVENANCE = {"model": "m", "revision": None, "sha256": "0", "command": "equicli evaluate", "seed": 0, "versions": {}}


def evaluation(elements="c4", group="c4", n=10, **changes):
    elements, group = parse_group(elements), parse_group(group)
    generator = torch.Generator().manual_seed(0)
    fields = {
        "correct": {name: torch.rand(n, elements.order, generator=generator) < 0.6 for name in SYSTEMS},
        "predictions": torch.zeros(n, elements.order, dtype=torch.int64),
        "poses": torch.zeros(n, elements.order, dtype=torch.int64),
        "ties": torch.zeros(n, dtype=torch.bool),
        "max_logit_delta": 0.0,
        "agreement": False,
    }
    return Evaluation(elements=elements, group=group, **{**fields, **changes})


def document(found, **options):
    options = {"rotate": "input", "split": "test", "cost": COST, "unreadable": 0, "provenance": PROVENANCE, **options}
    return metrics_document(found, **options)


def test_a_document_has_every_key_that_others_build_on_and_is_json():
    made = json.loads(json.dumps(document(evaluation(elements="d4", group="c8"))))
    assert made["schema"] == 1
    assert made["task"] == "classification"
    assert (made["group"], made["rotations"], made["elements"], made["rotate"], made["n"]) == (
        "c8",
        4,
        "d4",
        "input",
        10,
    )
    system = {"acc", "acc_ci", "avg_acc", "avg_acc_ci", "worst_acc", "per_element", "passes"}
    equivariance = {"invariance_residual", "max_logit_delta", "ties", "identity_rate", "pose_accuracy"}
    for name in SYSTEMS:
        assert made[name].keys() >= system | (equivariance if name == "adapted" else set())
        assert len(made[name]["per_element"]) == 8
        assert made[name]["per_element"][0].keys() >= {"element", "angle", "mirror", "acc", "correct"}
    assert [made[name]["passes"] for name in SYSTEMS] == [1, 1, 8, 1]
    assert made["cost"] == COST
    assert made["provenance"] == PROVENANCE


@pytest.mark.parametrize(("elements", "n"), [("c1", 1), ("c4", 10), ("c8", 7), ("d4", 3)])
def test_accuracies_are_fractions_of_integer_counts(elements, n):
    found = evaluation(elements=elements, n=n)
    made = document(found)
    for name in SYSTEMS:
        system, hits = made[name], found.correct[name]
        counts = [entry["correct"] for entry in system["per_element"]]
        assert all(type(count) is int for count in counts)
        assert counts == hits.sum(dim=0).tolist()
        assert [entry["acc"] for entry in system["per_element"]] == [count / n for count in counts]
        assert system["acc"] == counts[0] / n
        assert system["avg_acc"] == sum(counts) / (n * len(counts))
        assert system["worst_acc"] == min(counts) / n
        for value, interval in ((system["acc"], system["acc_ci"]), (system["avg_acc"], system["avg_acc_ci"])):
            low, high = interval
            assert 0 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1


def test_elements_are_written_with_label_angle_and_mirroring():
    entries = document(evaluation(elements="d2"))["vanilla"]["per_element"]
    written = [(entry["element"], entry["angle"], entry["mirror"]) for entry in entries]
    assert written == [("r0", 0, False), ("r180", 180, False), ("r0m", 0, True), ("r180m", 180, True)]


def test_the_invariance_residual_counts_images_and_not_turns():
    predictions = torch.tensor([[1, 1, 1, 1], [2, 2, 3, 2], [0, 1, 2, 3], [3, 3, 3, 3]])
    adapted = document(evaluation(n=4, predictions=predictions, max_logit_delta=0.5))["adapted"]
    assert adapted["invariance_residual"] == 0.5
    assert adapted["max_logit_delta"] == 0.5


def test_the_identity_rate_looks_at_untouched_images_only():
    poses = torch.tensor([[0, 1, 2, 3], [1, 0, 0, 0], [0, 0, 0, 0], [0, 3, 2, 1]])
    assert document(evaluation(n=4, poses=poses))["adapted"]["identity_rate"] == 0.75


def test_pose_accuracy_counts_pairs_of_image_and_element():
    poses = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0], [0, 1, 2, 0], [0, 3, 2, 1]])
    assert document(evaluation(n=4, poses=poses))["adapted"]["pose_accuracy"] == (4 + 0 + 3 + 2) / 16


@pytest.mark.parametrize(
    ("elements", "group", "poses"),
    [
        ("c4", "c8", [0, 2, 4, 6]),
        ("c8", "c4", [0, 9, 1, 9, 2, 9, 3, 9]),
        ("c4", "d4", [0, 1, 2, 3]),
        ("c3", "c4", [0, 9, 9]),
    ],
)
def test_poses_are_compared_as_elements_of_the_adapted_group_and_only_where_it_has_them(elements, group, poses):
    found = evaluation(elements=elements, group=group, n=2, poses=torch.tensor([poses, poses]))
    assert document(found)["adapted"]["pose_accuracy"] == 1


def test_ties_are_counted():
    ties = torch.tensor([True, False, True])
    assert document(evaluation(n=3, ties=ties))["adapted"]["ties"] == 2


@pytest.mark.parametrize(("agreement", "word"), [(True, "agreement"), (False, "folders")])
def test_the_document_says_what_counted_as_right(agreement, word):
    assert document(evaluation(agreement=agreement))["labels"] == word
