import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equicli.groups import PlanarGroup
from equicli.groups.action import matrix
from equicli.groups.labels import parse_label
from equicli.groups.planar import MAX_ORDER

SMALL = [PlanarGroup(n, reflections) for n in (1, 2, 3, 4, 8) for reflections in (False, True)]
small = pytest.mark.parametrize("group", SMALL, ids=lambda group: group.name)


@st.composite
def groups_with_three_elements(draw):
    group = PlanarGroup(draw(st.integers(1, 360)), draw(st.booleans()))
    element = st.integers(0, group.order - 1)
    return group, draw(element), draw(element), draw(element)


@given(groups_with_three_elements())
@settings(deadline=None)
def test_integers_obey_the_group_laws(case):
    group, a, b, c = case
    assert group.compose(a, b) in group.elements()
    assert group.inverse(a) in group.elements()
    assert group.compose(group.compose(a, b), c) == group.compose(a, group.compose(b, c))
    assert group.compose(0, a) == group.compose(a, 0) == a
    assert group.compose(a, group.inverse(a)) == group.compose(group.inverse(a), a) == 0


@small
def test_tensors_compose_and_invert_as_integers_do(group):
    elements = torch.arange(group.order)
    table = [[group.compose(g, h) for h in group.elements()] for g in group.elements()]
    assert group.compose(elements[:, None], elements[None]).tolist() == table
    assert group.inverse(elements).tolist() == [group.inverse(g) for g in group.elements()]


@small
def test_matrices_multiply_as_elements_compose(group):
    elements = torch.arange(group.order)
    products = matrix(group, elements)[:, None] @ matrix(group, elements)[None]
    composed = group.compose(elements[:, None], elements[None])
    torch.testing.assert_close(products, matrix(group, composed.flatten()).view_as(products))
    assert torch.equal(matrix(group, 0), torch.eye(2, dtype=torch.float64))


def test_matrices_turn_counter_clockwise_with_the_y_axis_up_and_mirror_left_and_right_first():
    right, up_left = torch.tensor([1.0, 0], dtype=torch.float64), torch.tensor([-1.0, 1], dtype=torch.float64)
    torch.testing.assert_close(matrix(PlanarGroup(8), 3) @ right, up_left / 2**0.5)
    assert (matrix(PlanarGroup(4, True), 5) @ right).tolist() == [0, -1]


@given(st.integers(1, 90), st.booleans(), st.integers(0, 3))
def test_the_matrices_of_quarter_turns_are_exact_in_every_group_that_has_them(n, reflections, quarter):
    group, quarters = PlanarGroup(4 * n, reflections), PlanarGroup(4, reflections)
    for mirrored in range(1 + reflections):
        assert group.rows(mirrored * 4 * n + quarter * n) == quarters.rows(mirrored * 4 + quarter)
        assert {abs(entry) for row in quarters.rows(quarter) for entry in row} == {0, 1}


@small
def test_every_element_times_the_whole_group_is_the_whole_group(group):
    for g in group.elements():
        assert sorted(group.compose(g, h) for h in group.elements()) == list(group.elements())


@small
def test_the_order_counts_the_elements_and_doubles_with_reflections(group):
    assert group.order == len(group.elements()) == group.n * (1 + group.reflections)


def test_a_rotation_after_a_mirroring_is_undone_by_itself_and_a_rotation_is_not():
    group = PlanarGroup(4, reflections=True)
    assert [group.inverse(g) for g in group.elements()] == [0, 3, 2, 1, 4, 5, 6, 7]


def test_mirroring_before_a_rotation_is_another_element_than_after_it():
    group = PlanarGroup(4, reflections=True)
    turn, mirror = group.find(90, False), group.find(0, True)
    assert group.label(group.compose(turn, mirror)) == "r90m"
    assert group.label(group.compose(mirror, turn)) == "r270m"


@given(groups_with_three_elements())
@settings(deadline=None)
def test_an_element_is_found_by_its_angle_and_handedness(case):
    group, g, *_ = case
    assert 0 <= group.angle(g) < 360
    assert group.find(group.angle(g), group.mirrored(g)) == g
    assert group.find(group.angle(g) - 360, group.mirrored(g)) == g


@pytest.mark.parametrize(
    ("group", "angle", "mirrored"),
    [
        (PlanarGroup(4), 45, False),
        (PlanarGroup(4), 90, True),
        (PlanarGroup(3), 90, False),
        (PlanarGroup(8), 44.9, False),
    ],
)
def test_what_a_group_does_not_hold_is_not_found(group, angle, mirrored):
    assert group.find(angle, mirrored) is None


@pytest.mark.parametrize(
    ("group", "labels"),
    [
        (PlanarGroup(1), ["r0"]),
        (PlanarGroup(2, True), ["r0", "r180", "r0m", "r180m"]),
        (PlanarGroup(4), ["r0", "r90", "r180", "r270"]),
        (
            PlanarGroup(8, True),
            [f"r{a}{m}" for m in ("", "m") for a in ("0", "45", "90", "135", "180", "225", "270", "315")],
        ),
        (PlanarGroup(16), [f"r{22.5 * k:g}" for k in range(16)]),
    ],
    ids=lambda value: value.name if isinstance(value, PlanarGroup) else "",
)
def test_labels_give_the_angle_and_mark_mirrorings(group, labels):
    assert [group.label(g) for g in group.elements()] == labels


@pytest.mark.parametrize("reflections", [False, True])
def test_the_groups_of_quarter_turns_are_exact_and_no_others(reflections):
    assert [n for n in range(1, 361) if PlanarGroup(n, reflections).exact] == [1, 2, 4]


def test_every_label_is_read_back_to_its_element():
    for n in range(1, MAX_ORDER + 1):
        group = PlanarGroup(n, reflections=True)
        for element in group.elements():
            assert group.find(*parse_label(group.label(element))) == element


@pytest.mark.parametrize("text", ["r", "90", "r-90", "r90mm", "rm", "r1e2", "r" + "9" * 400, "r٣"])
def test_what_is_no_label_is_not_read(text):
    assert parse_label(text) is None
