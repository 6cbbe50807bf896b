"""Canvases: what is seen of a turned image, and that nothing is lost on one that grows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, act_on_frame
from tests.groups.examples import CONTINUOUS, EXACT, OFF_GRID, PLANAR, QUARTERS, draw, each, every, noise, singles

SHAPES = [(5, 5), (6, 6), (4, 7), (9, 6), (1, 8)]
any_shape = every(shape=SHAPES)
frames = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(st.integers(0, 359), st.booleans(), frames)
@settings(deadline=None)
def test_a_grown_canvas_holds_every_corner_and_is_the_smallest_about_the_same_centre(angle, mirrored, frame):
    group = parse_group("d360")
    g = group.find(angle, mirrored)
    height, width = frame
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64)
    grown, same = act_on_frame(group, g, frame, "grow"), act_on_frame(group, g, frame)
    turned = act(group, g, corners, "keypoints", frame, canvas=grown)
    assert turned.min() >= -1e-3
    for side, own, reach in zip(grown, same, turned.amax(0).flip(0).tolist(), strict=True):
        assert (side - own) % 2 == 0
        assert reach - 1e-3 <= side < reach + 1 + 1e-3  # one more pixel on both sides at most
    if angle % 90 == 0:
        assert grown == same == (frame if angle % 180 == 0 else frame[::-1])


@each(PLANAR)
@any_shape
def test_the_pixels_have_the_frame_that_is_told(group, shape):
    for g in singles(group):
        assert act(group, g, noise(2, *shape)).shape[-2:] == act_on_frame(group, g, shape)
        grown = act_on_frame(group, g, shape, "grow")
        assert act(group, g, noise(2, *shape), canvas=grown).shape == (2, *grown)


@each(PLANAR)
@any_shape
@every(padding=["edge", "reflect", "zeros"])
@every(kind=["image", "mask"])
def test_a_canvas_shows_the_same_pixels_and_more_or_fewer_around(group, shape, padding, kind):
    image = noise(2, 3, *shape, dtype=torch.float64)
    for g in singles(group):
        natural = act(group, g, image, kind, padding=padding)
        height, width = natural.shape[-2:]
        assert torch.equal(act(group, g, image, kind, padding=padding, canvas=(height, width)), natural)
        larger = act(group, g, image, kind, padding=padding, canvas=(height + 4, width + 2))
        torch.testing.assert_close(larger[..., 2:-2, 1:-1], natural)
        smaller = act(group, g, image, kind, padding=padding, canvas=(height % 2, width % 2 + 2))
        middle = natural[..., height // 2 : height // 2 + height % 2, :]
        if width > 3:
            torch.testing.assert_close(smaller, middle[..., width // 2 - 1 : (width + 1) // 2 + 1])


@every(padding=["edge", "reflect", "zeros"])
def test_where_nothing_is_interpolated_padding_is_what_interpolation_would_show(padding):
    image, group = noise(2, 3, 4, 7, dtype=torch.float64), parse_group("so2")
    exact = act(group, group.find(0, False), image, padding=padding, canvas=(12, 25))
    nearly = act(group, group.find(1e-9, False), image, padding=padding, canvas=(12, 25))
    torch.testing.assert_close(exact, nearly, atol=1e-6, rtol=0)
    labels = (image > 0.5).int()
    assert torch.equal(
        act(PlanarGroup(4), 0, labels, "mask", padding=padding, canvas=(12, 25))[..., 4:-4, 9:-9], labels
    )


def test_between_odd_and_even_sides_pixels_move_by_half_and_keypoints_with_them():
    image = torch.tensor([[[0.0, 2, 4, 6]]])
    moved = act(PlanarGroup(4), 0, image, canvas=(1, 3))
    torch.testing.assert_close(moved, torch.tensor([[[1.0, 3, 5]]]))
    torch.testing.assert_close(act(PlanarGroup(4), torch.tensor([0]), image, canvas=(1, 3)), moved)
    assert act(PlanarGroup(4), 0, torch.tensor([2.0, 0.5]), "keypoints", (1, 4), canvas=(1, 3)).tolist() == [1.5, 0.5]


@each(PLANAR)
@any_shape
@every(batch=[0, 1, 5])
def test_on_a_canvas_one_element_for_each_value_acts_as_each_element_alone(group, shape, batch):
    canvas, elements = (8, 5), draw(group, batch)
    points = torch.rand(batch, 3, 2, dtype=torch.float64) * 5
    images, masks = noise(batch, 3, *shape), noise(batch, *shape) > 0.5
    boxes = torch.cat([points, points + 1], dim=-1)
    for value, kind in [(images, "image"), (masks, "mask"), (points, "keypoints"), (boxes, "boxes")]:
        frame = shape if kind in ("keypoints", "boxes") else None
        turned = act(group, elements, value, kind, frame, canvas=canvas)
        assert turned.dtype == value.dtype and len(turned) == batch
        for element, one, expected in zip(elements, value, turned, strict=True):
            assert torch.equal(act(group, element, one, kind, frame, canvas=canvas), expected)


@each([*OFF_GRID, *CONTINUOUS])
@any_shape
def test_a_quarter_turn_first_is_one_element_on_a_grown_canvas_too(group, shape):
    image = noise(2, *shape)
    for g in singles(group):
        for q in range(4):
            step = group.find(90 * q, False)
            if step is not None:
                gq = group.compose(g, step)
                before = act(QUARTERS, q, image)
                grown = act_on_frame(group, g, before.shape[-2:], "grow")
                assert grown == act_on_frame(group, gq, shape, "grow")
                assert torch.equal(act(group, g, before, canvas=grown), act(group, gq, image, canvas=grown))


@each(EXACT)
def test_at_quarter_turns_nothing_grows(group):
    for shape in SHAPES:
        for g in group.elements():
            assert act_on_frame(group, g, shape, "grow") == act_on_frame(group, g, shape)


def test_a_batch_grows_where_all_grow_alike():
    group = parse_group("c8")
    assert act_on_frame(group, torch.tensor([1, 5]), (4, 4), "grow") == act_on_frame(group, 1, (4, 4), "grow") == (6, 6)
    with pytest.raises(ValueError, match="4x4 pixels would grow to different sizes"):
        act_on_frame(group, torch.tensor([0, 1]), (4, 4), "grow")
