"""Angles between the multiples of 90°: images are interpolated, once and no more than it takes."""

import pytest
import torch

from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, inscribed_disc, matrix
from tests.groups.examples import (
    CONTINUOUS,
    OFF_GRID,
    QUARTERS,
    any_dtype,
    draw,
    each,
    every,
    identity,
    noise,
    singles,
    smooth,
    square,
)

SQUARES = (32, 33)


@pytest.mark.parametrize("name", ["c3", "c8", "d8", "c12", "d3"])
@square
@any_dtype
def test_quarter_turns_within_larger_groups_are_exact(name, side, dtype):
    group, quarters, image = parse_group(name), PlanarGroup(4, True), noise(2, 3, side, side, dtype=dtype)
    common = [(g, quarters.find(group.angle(g), group.mirrored(g))) for g in group.elements()]
    common = [(g, quarter) for g, quarter in common if quarter is not None]
    assert len(common) == {"c3": 1, "d3": 2, "c8": 4, "d8": 8, "c12": 4}[name]
    for g, quarter in common:
        assert torch.equal(act(group, g, image), act(quarters, quarter, image))
        if dtype.is_floating_point:
            each = act(group, torch.full((2,), g), image)
            assert torch.equal(each, act(quarters, quarter, image))


@pytest.mark.parametrize(
    ("name", "element", "row", "column"),
    [
        ("c8", 1, 8 - 4, 8 + 4),  # up and to the right of the centre
        ("c8", 3, 8 - 4, 8 - 4),
        ("c3", 1, 8 - 5, 8 - 3),
        ("c3", 2, 8 + 5, 8 - 3),
        ("d8", 8 + 1, 8 + 4, 8 - 4),  # mirrored to the left of the centre, turned from there
    ],
)
def test_a_point_right_of_the_centre_moves_counter_clockwise(name, element, row, column):
    image = torch.zeros(1, 1, 17, 17)
    image[0, 0, 8, 14] = 1
    assert divmod(int(act(parse_group(name), element, image).argmax()), 17) == (row, column)


@each([*OFF_GRID, *CONTINUOUS])
@every(side=SQUARES)
def test_acting_twice_off_the_grid_is_close_to_acting_once_inside_the_inscribed_disc(group, side):
    g, h = draw(group, 40, 1), draw(group, 40, 2)
    images, disc = smooth(side).expand(40, -1, -1, -1), inscribed_disc(side)
    twice = act(group, g, act(group, h, images))[..., disc]
    torch.testing.assert_close(twice, act(group, group.compose(g, h), images)[..., disc], atol=0.01, rtol=0)
    back = act(group, group.inverse(h), act(group, h, images))[..., disc]
    torch.testing.assert_close(back, images[..., disc], atol=0.01, rtol=0)


def test_forty_five_degrees_twice_are_close_to_ninety_and_not_to_minus_ninety():
    image, disc, group = smooth(32), inscribed_disc(32), PlanarGroup(8)
    twice = act(group, 1, act(group, 1, image))[..., disc]
    torch.testing.assert_close(twice, torch.rot90(image, 1, (-2, -1))[..., disc], atol=0.01, rtol=0)
    assert (twice - torch.rot90(image, -1, (-2, -1))[..., disc]).abs().max() > 0.1


@every(dtype=[torch.float16, torch.bfloat16])
def test_an_off_grid_turn_of_a_half_precision_image_is_exact_to_that_precision(dtype):
    image = noise(1, 3, 32, 32, dtype=dtype)
    turned = act(PlanarGroup(8), 1, image)
    assert turned.dtype == dtype
    expected = act(PlanarGroup(8), 1, image.float())
    torch.testing.assert_close(turned.float(), expected, atol=torch.finfo(dtype).eps, rtol=0)


def test_a_constant_image_stays_constant_at_any_angle():
    image = torch.full((1, 3, 9, 9), 0.7)
    for g in range(8):
        torch.testing.assert_close(act(PlanarGroup(8), g, image), image)


@each([*OFF_GRID, *CONTINUOUS])
@every(shape=[(6, 6), (5, 5), (4, 7), (9, 6)])
@any_dtype
def test_acting_after_a_quarter_turn_or_a_mirroring_is_acting_once_bit_for_bit(group, shape, dtype):
    image = noise(1, 3, *shape, dtype=dtype)
    for g in singles(group):
        for q in QUARTERS.elements():
            step = matrix(QUARTERS, q)
            if group in OFF_GRID:
                step = group.find(QUARTERS.angle(q), QUARTERS.mirrored(q))
            elif not group.reflections and QUARTERS.mirrored(q):
                step = None
            if step is not None:
                twice = act(group, g, act(QUARTERS, q, image))
                assert torch.equal(twice, act(group, group.compose(g, step), image))


@each(CONTINUOUS)
@square
@any_dtype
def test_a_matrix_of_a_quarter_turn_or_a_mirroring_is_exact_on_square_images(group, side, dtype):
    images = noise(8, 3, side, side, dtype=dtype)
    steps = [q for q in QUARTERS.elements() if group.reflections or not QUARTERS.mirrored(q)]
    images = images[: len(steps)]
    turned = act(group, matrix(QUARTERS, torch.tensor(steps)).float(), images)
    assert torch.equal(turned, act(QUARTERS, torch.tensor(steps), images))


@pytest.mark.parametrize("name", ["c3", "c8", "d8"])
@every(shape=[(5, 5), (4, 7)])
def test_an_off_grid_element_acts_as_its_matrix_does(name, shape):
    group, image = parse_group(name), noise(2, 3, *shape)
    for g in group.elements():
        assert torch.equal(act(group, g, image), act(parse_group("o2"), matrix(group, g), image))


@each(CONTINUOUS)
def test_matrices_of_a_batch_keep_the_canvas_of_images_that_are_not_square_and_are_exact_at_half_turns(group):
    image = noise(2, 3, 4, 7)
    turned = act(group, matrix(QUARTERS, torch.tensor([1, 2])), image)
    assert turned.shape == image.shape
    assert torch.equal(turned[1], image[1].rot90(2, (-2, -1)))
    assert torch.equal(act(group, identity(group).expand(2, 2, 2), image), image)


@pytest.mark.parametrize("name", ["c8", "d3"])
def test_integers_are_interpolated_and_rounded(name):
    group, image = parse_group(name), noise(1, 3, 9, 9, dtype=torch.uint8)
    for g in group.elements():
        turned = act(group, g, image)
        assert turned.dtype == torch.uint8
        assert torch.equal(turned, act(group, g, image.double()).round().to(torch.uint8))


@every(side=SQUARES)
def test_padding_decides_what_is_seen_from_outside(side):
    image, group = smooth(side) + 1, PlanarGroup(8)
    turned = {padding: act(group, 1, image, padding=padding)[0, 0] for padding in ("edge", "reflect", "zeros")}
    disc = inscribed_disc(side)
    torch.testing.assert_close(turned["edge"][disc], turned["zeros"][disc])
    torch.testing.assert_close(turned["edge"][disc], turned["reflect"][disc])
    # What is turned into the corner comes from beyond the middle of the upper edge, by so many pixels:
    reach = (side - 1) / 2 * 2**0.5 - side / 2
    assert turned["zeros"][0, 0] == 0
    torch.testing.assert_close(turned["edge"][0, 0], image[0, 0, 0, side // 2], atol=0.05, rtol=0)
    torch.testing.assert_close(turned["reflect"][0, 0], image[0, 0, int(reach), side // 2], atol=0.05, rtol=0)
    assert (turned["edge"] - turned["reflect"]).abs().max() > 0.1


@pytest.mark.parametrize("size", [1, 2, 7, 8, (8, 13), (9, 6)], ids=str)
def test_inside_the_inscribed_disc_no_angle_reads_padding(size):
    disc = inscribed_disc(size)
    shape = (size, size) if isinstance(size, int) else size
    assert (disc.dtype, disc.shape) == (torch.bool, shape)
    for g in range(16):
        turned = act(PlanarGroup(16), g, torch.ones(1, 1, *shape, dtype=torch.float64), padding="zeros")[0, 0]
        if turned.shape == disc.shape:
            torch.testing.assert_close(turned[disc], torch.ones(int(disc.sum()), dtype=torch.float64))
    assert torch.equal(disc, disc.flip(0)) and torch.equal(disc, disc.flip(1))
    assert torch.equal(disc.T, inscribed_disc(shape[::-1]))


def test_the_inscribed_disc_of_a_large_image_leaves_out_the_corners_only():
    assert inscribed_disc(400).float().mean().item() == pytest.approx(torch.pi / 4, abs=0.01)


@every(padding=["edge", "zeros"])
def test_gradients_reach_the_matrix(padding):
    image = smooth(16).double()
    angle = torch.tensor([0.3, 1.9, -2.0, 3.0], dtype=torch.float64, requires_grad=True)

    def turned(angle):
        cos, sin = angle.cos(), angle.sin()
        elements = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
        return act(parse_group("so2"), elements, image.expand(4, -1, -1, -1), padding=padding)[..., 5:10, 5:10]

    assert torch.autograd.gradcheck(turned, (angle,), atol=1e-4)
