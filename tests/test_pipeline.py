"""What images are turned by when nobody says it, and what is refused before anything heavy is loaded."""

import pytest

from equicli.errors import UsageError
from equicli.pipeline import turns_for


@pytest.mark.parametrize(
    ("group", "turns"),
    [("c3", "c3"), ("c4", "c4"), ("c8", "c8"), ("d1", "d1"), ("d4", "d4"), ("so2", "c8"), ("o2", "c8")],
)
def test_images_are_turned_by_what_fits_the_adapted_group(group: str, turns: str) -> None:
    assert turns_for(group).name == turns


@pytest.mark.parametrize(
    ("group", "rotations", "elements", "turns"),
    [
        ("c8", 4, None, "c4"),
        ("c4", 8, None, "c8"),
        ("d4", None, "rotations", "c4"),
        ("d4", None, "group", "d4"),
        ("so2", None, "rotations", "c8"),
        ("so2", 5, None, "c5"),
    ],
)
def test_what_is_asked_for_wins(group: str, rotations: int | None, elements: str | None, turns: str) -> None:
    assert turns_for(group, rotations, elements).name == turns


@pytest.mark.parametrize(("rotations", "elements"), [(0, None), (361, None), (None, "group")])
def test_turns_that_cannot_be_are_refused(rotations: int | None, elements: str | None) -> None:
    with pytest.raises(UsageError, match="--rotations"):
        turns_for("so2", rotations, elements)
