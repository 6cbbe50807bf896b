"""How far two elements are apart, and how elements are written and read."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equicli.groups import PlanarGroup, parse_group
from equicli.groups.elements import cosine, distance
from equicli.groups.labels import read_label, write_label
from tests.groups.examples import CONTINUOUS, OFF_GRID, PLANAR, SPACE, draw, each, singles

every_group = each([*PLANAR, *SPACE])


@every_group
def test_nothing_is_apart_from_itself_and_the_distance_is_the_same_both_ways_and_after_any_element(group):
    g, h, k = (draw(group, 20, seed) for seed in range(3))
    torch.testing.assert_close(distance(group, g, g), torch.zeros(20, dtype=torch.float64), atol=1e-6, rtol=0)
    apart = distance(group, g, h)
    assert ((apart >= 0) & ((apart <= 180) | apart.isinf())).all()
    torch.testing.assert_close(distance(group, h, g), apart, atol=1e-6, rtol=0)
    left, right = group.compose(k, g), group.compose(k, h)
    torch.testing.assert_close(distance(group, left, right), apart, atol=1e-6, rtol=0)


@given(st.floats(0, 180), st.floats(-400, 400), st.sampled_from(["so2", "o2", "so3", "so2z"]))
def test_in_the_plane_and_about_z_it_is_the_difference_of_the_angles(angle, other, name):
    group = parse_group(name)
    apart = distance(group, group.find(other + angle, False), group.find(other, False))
    assert apart.item() == pytest.approx(angle, abs=1e-6)


@pytest.mark.parametrize("angle", [0, 1e-7, 1e-3, 60, 90, 179.999, 180 - 1e-7, 180])
def test_small_and_large_angles_about_any_axis_are_precise(angle):
    group = parse_group("so3")
    base = group.sample(10, torch.Generator().manual_seed(0))
    turn = group.compose(group.compose(base, group.find(angle, False)), group.inverse(base))
    assert distance(group, turn, torch.eye(3)).sub(angle).abs().max() < 1e-9
    torch.testing.assert_close(cosine(turn, torch.eye(3)), torch.full((10,), math.cos(math.radians(angle))).double())


@pytest.mark.parametrize("name", ["d1", "d4", "d3", "o2"])
def test_between_an_image_and_its_mirror_image_there_is_no_rotation(name):
    group = parse_group(name)
    plain, mirrored = group.find(0, False), group.find(0, True)
    assert distance(group, plain, mirrored).item() == distance(group, mirrored, plain).item() == math.inf
    assert distance(group, mirrored, mirrored).item() == 0


def test_elements_of_a_batch_are_compared_with_one_or_one_by_one_or_all_with_all():
    group = PlanarGroup(4, reflections=True)
    elements = torch.tensor([0, 1, 4])
    assert distance(group, elements, 3).tolist() == [90, 180, math.inf]
    assert distance(group, elements, elements.roll(1)).tolist() == [math.inf, 90, math.inf]
    assert distance(group, elements[:, None], elements).shape == (3, 3)
    so2 = parse_group("so2")
    turns = so2.sample(3)
    assert distance(so2, turns[:, None], turns).shape == (3, 3)


@each([*PLANAR, parse_group("so2z")])
def test_every_label_is_read_back_to_its_element(group):
    for element in singles(group):
        found = read_label(group, write_label(group, element))
        assert distance(group, found, element) < 1e-3


@each([*OFF_GRID, *CONTINUOUS])
def test_a_label_that_a_group_has_no_element_for_is_not_read(group):
    assert read_label(group, "90") is None
    if group.find(0, True) is None:
        assert read_label(group, "r0m") is None


def test_labels_tell_whole_and_broken_angles_and_mirrorings():
    group = parse_group("o2")
    labels = [write_label(group, group.find(angle, m)) for angle, m in [(-1e-9, False), (270, True), (22.5, False)]]
    assert labels == ["r0", "r270m", "r22.5"]
    assert write_label(parse_group("so3"), parse_group("so3").find(40, False)) == "r40"
    with pytest.raises(ValueError, match="only rotations about the z axis have labels, not all of so3"):
        write_label(parse_group("so3"), draw(parse_group("so3"), 1)[0])
