"""From records to the document that others build on."""

import dataclasses
import json

import pytest
import torch

from equicli.canonicalization.prior import Prior
from equicli.evaluation.metrics import metrics_document
from equicli.evaluation.systems import SYSTEMS
from equicli.tasks.intervals import paired_difference
from tests.evaluation.handmade import CLASSIFICATION, recorded

COST = {"added_parameters": 1234, "relative_time": 0.03}
PROVENANCE = {"model": "m", "revision": None, "sha256": "0", "command": "equicli evaluate", "seed": 0, "versions": {}}


def document(found, **options):
    fixed = {"rotate": "input", "split": "test", "cost": COST, "unreadable": 0, "provenance": PROVENANCE}
    return metrics_document(found, CLASSIFICATION, **{"prior": Prior(), **fixed, **options})


def test_a_document_has_every_key_that_others_build_on_and_is_json():
    made = json.loads(json.dumps(document(recorded(elements="d4", group="c8"))))
    assert made["schema"] == 1
    assert (made["task"], made["score"]) == ("classification", {"name": "acc", "title": "Acc", "words": "accuracy"})
    assert (made["group"], made["rotations"], made["elements"], made["rotate"], made["n"]) == (
        "c8",
        4,
        "d4",
        "input",
        10,
    )
    system = {"acc", "acc_ci", "avg_acc", "avg_acc_ci", "worst_acc", "per_element", "passes"}
    equivariance = {"invariance_residual", "max_logit_delta", "ties", "identity_rate", "pose_accuracy"}
    equivariance |= {"quarter_turns", "off_grid", "pose_consistency", "pose_consistency_off_grid", "poses"}
    for name in SYSTEMS:
        assert made[name].keys() >= system | (equivariance if name == "adapted" else set())
        assert len(made[name]["per_element"]) == 8
        assert made[name]["per_element"][0].keys() >= {"element", "angle", "mirror", "acc", "correct"}
    assert [made[name]["passes"] for name in SYSTEMS] == [1, 1, 8, 1]
    assert made["prior"] == ["r0"]
    assert made["cost"] == COST
    assert made["provenance"] == PROVENANCE


@pytest.mark.parametrize(("elements", "n"), [("c1", 1), ("c4", 10), ("c8", 7), ("d4", 3)])
def test_accuracies_are_fractions_of_integer_counts(elements, n):
    found = recorded(elements=elements, n=n)
    made = document(found)
    for name in SYSTEMS:
        system, hits = made[name], found.records[name]["acc"]
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


def test_what_turned_images_lose_is_the_network_upright_less_the_adapted_model_at_every_turn():
    found = recorded(n=40)
    adapted = document(found)["adapted"]
    upright, hits = (found.records[name]["acc"].double() for name in ("oracle", "adapted"))
    upright = upright[:, 0]
    assert adapted["below_upright"] == pytest.approx(float(upright.mean() - hits.mean()))
    expected = paired_difference(upright[None].numpy(), hits.mean(dim=1)[None].numpy())[1]
    assert adapted["below_upright_ci"] == list(expected)
    assert document(dataclasses.replace(found, agreement=True))["adapted"]["below_upright"] is None


def test_elements_are_written_with_label_angle_and_mirroring():
    entries = document(recorded(elements="d2"))["vanilla"]["per_element"]
    written = [(entry["element"], entry["angle"], entry["mirror"]) for entry in entries]
    assert written == [("r0", 0, False), ("r180", 180, False), ("r0m", 0, True), ("r180m", 180, True)]


def test_the_invariance_residual_counts_images_and_not_turns():
    changed = torch.tensor([[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]).bool()
    delta = torch.tensor([0.0, 0.25, 0.5, 0.125])
    adapted = document(recorded(n=4, changed=changed, max_delta=delta))["adapted"]
    assert adapted["invariance_residual"] == 0.5
    assert adapted["max_logit_delta"] == 0.5
    assert adapted["quarter_turns"] == {"invariance_residual": 0.5, "max_logit_delta": 0.5}
    assert adapted["off_grid"] is None


def test_quarter_turns_and_turns_off_the_grid_are_told_apart():
    changed = torch.zeros(4, 8, dtype=torch.bool)
    changed[0, 3] = changed[1, 2] = changed[1, 1] = changed[2, 7] = True
    consistent = torch.ones(4, 8, dtype=torch.bool)
    consistent[0, 1] = consistent[0, 3] = consistent[1, 4] = False
    delta = torch.tensor([0, 0.5, 0.25, 1, 0.125, 0, 0, 0])
    found = recorded("c8", "c8", 4, changed=changed, consistent=consistent, max_delta=delta)
    adapted = document(found)["adapted"]
    assert (adapted["invariance_residual"], adapted["max_logit_delta"]) == (3 / 4, 1)
    assert adapted["quarter_turns"] == {"invariance_residual": 1 / 4, "max_logit_delta": 0.25}
    assert adapted["off_grid"] == {"invariance_residual": 3 / 4, "max_logit_delta": 1}
    assert adapted["pose_consistency"] == 25 / 28  # of 4 images and 7 turns
    assert adapted["pose_consistency_off_grid"] == 14 / 16


def test_mirrorings_are_on_the_grid():
    changed = torch.zeros(1, 16, dtype=torch.bool)
    changed[0, 8] = True
    adapted = document(recorded("d8", "d8", 1, changed=changed))["adapted"]
    assert adapted["quarter_turns"]["invariance_residual"] == 1
    assert adapted["off_grid"]["invariance_residual"] == 0


def test_where_no_turn_is_shared_there_is_no_consistency():
    adapted = document(recorded("c3", "c4", shared=(0,)))["adapted"]
    assert adapted["pose_consistency"] is None and adapted["pose_consistency_off_grid"] is None


def test_a_single_element_leaves_nothing_to_vary():
    adapted = document(recorded("c1", "c4"))["adapted"]
    assert (adapted["invariance_residual"], adapted["max_logit_delta"], adapted["off_grid"]) == (0, 0, None)


def test_the_identity_rate_looks_at_untouched_images_only():
    expected = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]]).bool()
    adapted = document(recorded(n=4, expected=expected))["adapted"]
    assert adapted["identity_rate"] == 0.75
    assert adapted["pose_accuracy"] == 11 / 16  # pairs of image and element


def test_with_a_distribution_the_identity_rate_is_the_share_found_upright():
    prior = Prior(("r0", "r90"), (0.5, 0.5))
    upright = torch.tensor([True, False, False, False])
    made = document(recorded(n=4, poses=torch.tensor([0, 1, 1, 2]), identity=upright), prior=prior)
    assert made["adapted"]["identity_rate"] == 1 / 4
    assert made["prior"] == {"r0": 0.5, "r90": 0.5}
    assert made["adapted"]["pose_accuracy"] is None


def test_the_poses_of_untouched_images_are_shares_by_label():
    made = document(recorded("c4", "d2", n=4, poses=torch.tensor([0, 1, 1, 2])))
    assert made["adapted"]["poses"] == {"r0": 0.25, "r180": 0.5, "r0m": 0.25, "r180m": 0}


def test_a_continuous_group_has_no_shares_of_poses():
    made = document(recorded("c8", "so2"), prior=Prior(("r90",)))
    assert made["adapted"]["poses"] is None and made["adapted"]["identity_rate"] == 1
    assert made["prior"] == ["r90"]


def test_where_no_pose_is_found_nothing_is_said_of_poses():
    made = document(dataclasses.replace(recorded(), found=None))["adapted"]
    assert made["ties"] == 0 and made["invariance_residual"] == 0
    for name in ("identity_rate", "identity_rate_by_shape", "pose_accuracy", "pose_consistency", "poses"):
        assert made[name] is None, name


def test_the_identity_rate_is_told_by_shape_only_where_there_are_several():
    frames = ((8, 12), (12, 8), (8, 8), (8, 9))
    expected = torch.tensor([[1], [0], [1], [0]]).bool().expand(-1, 4)
    told = document(recorded(n=4, frames=frames, expected=expected))["adapted"]["identity_rate_by_shape"]
    assert told == {
        "landscape": {"n": 2, "identity_rate": 0.5},
        "portrait": {"n": 1, "identity_rate": 0},
        "square": {"n": 1, "identity_rate": 1},
    }
    for frame in ((8, 12), (8, 8)):
        assert document(recorded(n=4, frames=(frame,) * 4))["adapted"]["identity_rate_by_shape"] is None


def test_systems_that_a_task_does_not_name_are_left_out():
    whole = recorded()
    few = dataclasses.replace(whole, records={name: whole.records[name] for name in ("adapted", "oracle")})
    made = document(few)
    assert made.keys() & set(SYSTEMS) == {"adapted", "oracle"}
    assert made["adapted"] == document(whole)["adapted"]


@pytest.mark.parametrize("passes", [1, 2.5])
def test_passes_are_those_of_each_system(passes):
    made = document(recorded(passes=dict.fromkeys(SYSTEMS, passes)))
    assert [made[name]["passes"] for name in SYSTEMS] == [passes] * 4


def test_ties_are_counted():
    ties = torch.tensor([True, False, True])
    assert document(recorded(n=3, ties=ties))["adapted"]["ties"] == 2


@pytest.mark.parametrize(("agreement", "word"), [(True, "agreement"), (False, "folders")])
def test_the_document_says_what_counted_as_right(agreement, word):
    assert document(recorded(agreement=agreement))["labels"] == word


def test_the_calibration_of_poses_holds_their_probability_against_how_often_they_are_right():
    right = torch.arange(10)[:, None].expand(-1, 4) < 6
    found = recorded(expected=right, confidence=torch.full((10, 4), 0.8), temperature=1.5)
    told = document(found)["adapted"]
    assert told["pose_ece"] == pytest.approx(0.2) and told["pose_temperature"] == 1.5
    assert document(found, prior=Prior(("r0", "r180")))["adapted"]["pose_ece"] is None


def test_off_the_grid_the_calibration_of_poses_is_that_of_turns_by_90_degrees():
    turns = torch.arange(8).expand(10, 8)
    told = document(recorded(elements="c8", group="c8", expected=turns % 2 == 0, confidence=(turns + 1.0) / 9))
    gaps = [1 - (turn + 1) / 9 for turn in (0, 2, 4, 6)]
    assert told["adapted"]["pose_ece"] == pytest.approx(sum(gaps) / 4)
