"""Distances between the poses that were found and the prior."""

import math

import pytest
import torch

from equicli.canonicalization.prior import Prior
from equicli.evaluation.alignment import align
from equicli.groups import PlanarGroup

C4, C8, D4 = PlanarGroup(4), PlanarGroup(8), PlanarGroup(4, reflections=True)


def test_poses_as_the_prior_says_are_at_no_distance() -> None:
    assert align(C4, torch.zeros(10, dtype=torch.int64), Prior()) == (0, 0, 0)
    shares = Prior(("r0", "r90"), (0.75, 0.25))
    assert align(C4, torch.tensor([0, 0, 0, 1]), shares) == (0, 0, 0)
    both = Prior(("r0", "r0m"))
    assert align(D4, torch.tensor([0, 4]), both).total_variation == 0


@pytest.mark.parametrize(("pose", "degrees"), [(1, 45), (4, 180), (7, 45), (6, 90)])
def test_all_in_one_wrong_pose_is_as_far_as_its_angle_the_short_way_round(pose: int, degrees: float) -> None:
    found = align(C8, torch.full((5,), pose), Prior())
    assert found.total_variation == 1
    assert found.wasserstein == pytest.approx(degrees)
    cosine = math.cos(math.radians(degrees))
    assert found.mmd == pytest.approx(math.sqrt(2 - 2 * math.exp(cosine - 1)))


def test_some_in_a_wrong_pose_count_by_their_share() -> None:
    found = align(C4, torch.tensor([0, 0, 0, 2]), Prior())
    assert found.total_variation == 0.25 and found.wasserstein == pytest.approx(45)


def test_uniform_poses_are_as_far_from_upright_as_the_mean_angle() -> None:
    assert align(C4, torch.arange(4), Prior()).wasserstein == pytest.approx((90 + 180 + 90) / 4)


def test_of_a_set_any_pose_is_right() -> None:
    found = align(D4, torch.zeros(5, dtype=torch.int64), Prior(("r0", "r0m")))
    assert found.total_variation == 0
    turned = align(C4, torch.tensor([0, 0, 0, 1]), Prior(("r0", "r180")))
    assert turned.total_variation == 0.25 and turned.wasserstein == pytest.approx(22.5)


def test_handedness_has_no_angle() -> None:
    found = align(D4, torch.tensor([0, 4]), Prior())
    assert found.total_variation == 0.5 and math.isnan(found.wasserstein) and math.isnan(found.mmd)
