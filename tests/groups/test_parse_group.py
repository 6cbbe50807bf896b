import pytest
from hypothesis import given
from hypothesis import strategies as st

from equicli.errors import UsageError
from equicli.groups import PlanarGroup, parse_group


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("c1", PlanarGroup(1)),
        ("C4", PlanarGroup(4)),
        ("d4", PlanarGroup(4, reflections=True)),
        (" c8 ", PlanarGroup(8)),
        ("c360", PlanarGroup(360)),
    ],
)
def test_a_name_gives_its_group(name, group):
    assert parse_group(name) == group


@given(st.integers(1, 360), st.booleans())
def test_the_name_of_a_group_parses_to_that_group(n, reflections):
    group = PlanarGroup(n, reflections)
    assert parse_group(group.name) == group


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
