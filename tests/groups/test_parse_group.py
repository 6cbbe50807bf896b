import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equicli import groups
from equicli.errors import UsageError
from equicli.groups import MatrixGroup, PlanarGroup, is_finite, parse_group, parse_planar_group
from equicli.groups.action import act, matrix


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("c1", PlanarGroup(1)),
        ("C4", PlanarGroup(4)),
        ("d4", PlanarGroup(4, reflections=True)),
        (" c8 ", PlanarGroup(8)),
        ("c360", PlanarGroup(360)),
        ("so2", MatrixGroup("so2", 2)),
        ("O2", MatrixGroup("o2", 2, reflections=True)),
        ("so3", MatrixGroup("so3", 3)),
        ("SO2z", MatrixGroup("so2z", 3, about_z=True)),
    ],
)
def test_a_name_gives_its_group(name, group):
    assert parse_group(name) == group


@given(st.integers(1, 360), st.booleans())
def test_the_name_of_a_group_parses_to_that_group(n, reflections):
    group = PlanarGroup(n, reflections)
    assert parse_group(group.name) == group


@pytest.mark.parametrize("name", ["c1", "d4", "so2", "o2", "so3", "so2z"])
def test_every_group_has_its_name_a_dimension_and_an_order_if_it_is_finite(name):
    group = parse_group(name)
    assert group.name == name
    assert group.dimension == (3 if name in ("so3", "so2z") else 2)
    assert (group.order is not None) == is_finite(group) == (name in ("c1", "d4"))


def test_groups_are_parsed_without_torch():
    script = (
        "import sys; from equicli.groups import parse_group\n"
        "assert parse_group('c8').rows(1) and parse_group('so3').dimension == 3\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_where_only_fixed_steps_will_do_other_groups_are_refused():
    assert parse_planar_group("d8") == PlanarGroup(8, reflections=True)
    with pytest.raises(UsageError, match=r"--group so2: cannot be used here\. Write c4"):
        parse_planar_group("so2")
    with pytest.raises(UsageError, match="--group c0: the number of rotations"):
        parse_planar_group("c0")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("c0", "from 1 to 360"),
        ("c361", "from 1 to 360"),
        ("d0", "from 1 to 360"),
        ("x", "not a group"),
        ("", "not a group"),
        ("c", "not a group"),
        ("4", "not a group"),
        ("c-4", "not a group"),
        ("c4d", "not a group"),
        ("c4.0", "not a group"),
        ("so4", "so3"),
        ("so", "so2z"),
    ],
)
def test_what_is_no_group_is_refused_in_one_line_that_names_it_and_a_group_to_write(name, words):
    with pytest.raises(UsageError) as error:
        parse_group(name)
    message = str(error.value)
    assert words in message
    assert message.startswith(f"--group {name}:")
    assert "c4" in message
    assert "\n" not in message


class Cube:
    """The 3 rotations of a cube about one of its diagonals: all that a group of one's own needs."""

    name, dimension, order, exact = "cube3", 3, 3, True

    def compose(self, g, h):
        return (g + h) % 3

    def inverse(self, g):
        return -g % 3

    def rows(self, element):
        return tuple(tuple(float((i - element) % 3 == j) for j in range(3)) for i in range(3))


def test_a_new_group_is_one_class_and_one_line_in_the_registry(monkeypatch):
    monkeypatch.setitem(groups.REGISTRY, "cube3 for a cube about its diagonal", {"cube3": Cube()}.get)
    with pytest.raises(UsageError, match="cube3 for a cube about its diagonal"):
        parse_group("x")
    group, points = parse_group("cube3"), torch.rand(3, 5, 3)
    assert act(group, 1, torch.tensor([1.0, 2, 3]), "points").tolist() == [3, 1, 2]
    for g in range(3):
        assert torch.linalg.det(matrix(group, g)) == 1
        back = act(group, torch.full((3,), group.inverse(g)), act(group, g, points, "points"), "points")
        assert torch.equal(back, points)
