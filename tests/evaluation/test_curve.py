"""The curve of accuracy against time, counted by hand."""

import pytest
import torch

from equicli.evaluation.curve import PLAIN, Ways, curve_of
from equicli.policy import ONE, Gate, Mean

SURE = torch.tensor([[0.3], [0.5], [0.6], [0.7], [0.8], [0.85], [0.9], [0.95], [0.97], [0.99]])


def ways(policy=ONE, gate=PLAIN):
    """Of ten pictures the five least sure are wrong; asked again, the two least sure of them are right."""
    right = torch.arange(10)[:, None]
    scores = {"one": right > 4, "gated": (right > 4) | (right < 2), "mean": right > 3}
    scores |= {"energy": right > 5, "symmetrized": right > 6}
    return Ways(policy, gate, 4, {name: values.double() for name, values in scores.items()}, SURE.double())


def by_passes(made):
    return {point["passes"]: point["avg_acc"] for point in made["points"] if point["way"] == "gate"}


def test_a_gate_gains_what_the_least_sure_pictures_gain():
    made = curve_of(ways(), "acc", 0.1)
    gained = by_passes(made)
    assert gained == pytest.approx({1.1: 0.6, 1.2: 0.7, 1.5: 0.7, 2.0: 0.7})
    thresholds = [point["threshold"] for point in made["points"] if point["passes"] in (1.1, 1.2)]
    assert 0.3 < thresholds[0] < 0.5 < thresholds[1] < 0.6


def test_time_is_that_of_the_passes_and_of_the_canonicalizer_where_there_is_one():
    points = {point["way"]: point for point in curve_of(ways(), "acc", 0.1)["points"] if point["way"] != "gate"}
    assert {way: point["passes"] for way, point in points.items()} == {
        "one": 1, "mean": 4, "energy": 4, "symmetrized": 4,
    }  # fmt: skip
    assert [points[way]["time"] for way in ("one", "mean", "energy", "symmetrized")] == pytest.approx([1.1, 4.1, 4, 4])
    assert [points[way]["avg_acc"] for way in ("one", "mean", "energy", "symmetrized")] == [0.5, 0.6, 0.4, 0.3]


@pytest.mark.parametrize(("policy", "way"), [(ONE, "one"), (Mean(), "mean"), (Gate(0.65, 3), "gate")])
def test_the_point_of_the_models_own_policy_is_marked(policy, way):
    gate = policy if isinstance(policy, Gate) else PLAIN
    own = [point for point in curve_of(ways(policy, gate), "acc", 0.1)["points"] if point["own"]]
    assert [point["way"] for point in own] == [way]
    if way == "gate":
        assert (own[0]["threshold"], own[0]["passes"]) == (0.65, pytest.approx(1 + 2 * 3 / 10))
        assert list(by_passes({"points": own}).values()) == pytest.approx([0.7])
