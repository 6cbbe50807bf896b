"""Baselines without anything to learn."""

import pytest
import torch
from torch import nn

from equicli.canonicalization.registry import REGISTRY
from equicli.groups import parse_group
from tests.canonicalization.examples import adapt, create, find, noise
from tests.laws import assert_equivariant


@pytest.mark.parametrize("group", ["c4", "c8"])
def test_the_frame_of_an_image_turns_with_it(group: str) -> None:
    assert_equivariant(create("frame", group), parse_group("c4"), noise(8, 33))


@pytest.mark.parametrize("quarter", range(4))
def test_an_image_that_is_brighter_at_the_top_is_upright(quarter: int) -> None:
    slope = torch.linspace(1, 0, 32)[:, None].expand(32, 32)
    image = torch.rot90(slope, quarter, (-2, -1))[None, None].expand(1, 3, 32, 32)
    assert find(create("frame", "c4"), image).element.tolist() == [quarter]


def test_what_finds_no_poses_leaves_images_as_they_are() -> None:
    canonicalizer, x = create("none", "c4"), noise(3, 16)
    model = adapt(canonicalizer, nn.Identity())
    assert model.find_pose(model.tensors(x)) is None and model.canonicalize(x) is x
    assert not canonicalizer.finds_poses and not list(canonicalizer.parameters())


def test_the_frame_is_for_rotations_only() -> None:
    assert REGISTRY["frame"].takes(parse_group("c8"))
    assert not REGISTRY["frame"].takes(parse_group("d4"))
    assert not REGISTRY["frame"].takes(parse_group("so2"))
