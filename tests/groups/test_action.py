import pytest
import torch

from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, inscribed_disc, matrix, views
from tests.groups.examples import (
    CONTINUOUS,
    EXACT,
    OFF_GRID,
    QUARTERS,
    SPACE,
    any_dtype,
    draw,
    each,
    identity,
    noise,
    singles,
    smooth,
    square,
)

exact = each(EXACT)
any_shape = pytest.mark.parametrize("shape", [(2, 3, 6, 6), (1, 3, 5, 5), (2, 1, 4, 7), (0, 3, 4, 4)], ids=str)
SQUARES = (32, 33)


@any_dtype
def test_ninety_degrees_is_rot90_and_keeps_the_dtype(dtype):
    image = noise(2, 3, 5, 8, dtype=dtype)
    turned = act(PlanarGroup(4), 1, image)
    assert turned.dtype == dtype
    assert torch.equal(turned, torch.rot90(image, 1, (-2, -1)))


def test_a_turn_by_ninety_degrees_is_counter_clockwise_as_displayed():
    image = torch.tensor([[[[1, 2], [3, 4]]]])
    assert act(PlanarGroup(4), 1, image).tolist() == [[[[2, 4], [1, 3]]]]


@pytest.mark.parametrize("k", range(4))
def test_a_mirrored_element_mirrors_left_right_first_and_rotates_then(k):
    image = noise(1, 3, 4, 6)
    assert torch.equal(act(PlanarGroup(4, True), 4 + k, image), torch.rot90(image.flip(-1), k, (-2, -1)))


@exact
@any_dtype
@any_shape
def test_acting_by_h_and_then_by_g_is_acting_by_gh_bit_for_bit(group, dtype, shape):
    image = noise(*shape, dtype=dtype)
    for g in group.elements():
        for h in group.elements():
            assert torch.equal(act(group, g, act(group, h, image)), act(group, group.compose(g, h), image))


@exact
@any_shape
def test_the_identity_changes_nothing_and_an_inverse_undoes_its_element(group, shape):
    image = noise(*shape)
    assert torch.equal(act(group, 0, image), image)
    for g in group.elements():
        assert torch.equal(act(group, group.inverse(g), act(group, g, image)), image)


@each([*EXACT, *OFF_GRID])
@square
@pytest.mark.parametrize("batch", [0, 1, 17])
def test_one_element_for_each_image_acts_as_each_element_alone(group, side, batch):
    images = noise(batch, 3, side, side)
    elements = torch.arange(batch) * 5 % group.order
    turned = act(group, elements, images)
    assert turned.shape == images.shape
    for index, element in enumerate(elements.tolist()):
        assert torch.equal(turned[index], act(group, element, images[index : index + 1])[0])


@exact
@square
@any_dtype
def test_one_element_for_each_image_is_exact_in_every_dtype(group, side, dtype):
    images = noise(1, 3, side, side, dtype=dtype).expand(group.order, -1, -1, -1)
    elements = torch.arange(group.order)
    turned = act(group, elements, images)
    assert turned.dtype == dtype
    assert torch.equal(act(group, group.inverse(elements), turned), images)


@pytest.mark.parametrize("group", [parse_group(name) for name in ("c1", "c2", "d1", "d2")], ids=lambda g: g.name)
def test_half_turns_and_mirrorings_take_a_batch_that_is_not_square(group):
    images = noise(group.order, 3, 4, 7)
    turned = act(group, torch.arange(group.order), images)
    for g in group.elements():
        assert torch.equal(turned[g], act(group, g, images)[g])


@pytest.mark.parametrize("name", ["c4", "d4", "c8", "d8"])
def test_a_batch_that_is_not_square_cannot_be_turned_one_by_one(name):
    with pytest.raises(ValueError, match=f"7x4 pixels cannot be turned one by one by {name}.*square"):
        act(parse_group(name), torch.tensor([0, 1]), noise(2, 3, 4, 7))


@pytest.mark.parametrize("name", ["c1", "c4", "d4", "c3", "d8"])
@square
def test_view_g_is_the_image_acted_on_by_the_inverse_of_g(name, side):
    group, images = parse_group(name), noise(2, 3, side, side)
    stacked = views(group, images)
    assert stacked.shape == (2, group.order, 3, side, side)
    for g in group.elements():
        assert torch.equal(stacked[:, g], act(group, group.inverse(g), images))


@pytest.mark.parametrize("name", ["c4", "d4", "c8"])
def test_views_of_a_batch_that_is_not_square_are_refused_with_the_reason(name):
    with pytest.raises(ValueError, match="square"):
        views(parse_group(name), noise(2, 3, 4, 7))


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
@pytest.mark.parametrize("side", SQUARES)
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
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
@square
@any_dtype
def test_acting_after_a_quarter_turn_or_a_mirroring_is_acting_once_bit_for_bit(group, side, dtype):
    image = noise(1, 3, side, side, dtype=dtype)
    for g in draw(group, 4):
        for q in QUARTERS.elements():
            step = matrix(QUARTERS, q)
            if group in OFF_GRID:
                step = group.find(QUARTERS.angle(q), QUARTERS.mirrored(q))
            elif not group.reflections and QUARTERS.mirrored(q):
                step = None
            if step is not None:
                twice = act(group, g, act(QUARTERS, q, image))
                assert torch.equal(twice, act(group, group.compose(g, torch.as_tensor(step)), image))


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
@pytest.mark.parametrize("shape", [(5, 5), (4, 7)], ids=str)
def test_an_off_grid_element_acts_as_its_matrix_does(name, shape):
    group, image = parse_group(name), noise(2, 3, *shape)
    for g in group.elements():
        if shape == (5, 5) or QUARTERS.find(group.angle(g), group.mirrored(g)) not in (1, 3, 5, 7):
            assert torch.equal(act(group, g, image), act(parse_group("o2"), matrix(group, g), image))


@each(CONTINUOUS)
def test_a_matrix_keeps_the_canvas_of_images_that_are_not_square_and_is_exact_at_half_turns(group):
    image = noise(2, 3, 4, 7)
    assert act(group, matrix(QUARTERS, 1), image).shape == image.shape
    assert torch.equal(act(group, identity(group), image), image)
    assert torch.equal(act(group, matrix(QUARTERS, 2), image), image.rot90(2, (-2, -1)))


@each(CONTINUOUS)
@pytest.mark.parametrize("shape", [(5, 5), (4, 7)], ids=str)
@pytest.mark.parametrize("batch", [0, 1, 9])
def test_one_matrix_for_each_image_acts_as_each_matrix_alone(group, shape, batch):
    images, elements = noise(batch, 3, *shape), draw(group, batch)
    turned = act(group, elements, images)
    assert turned.shape == images.shape
    for image, element, expected in zip(images, elements, turned, strict=True):
        assert torch.equal(act(group, element, image), expected)


@each([*EXACT, *OFF_GRID, *CONTINUOUS])
@pytest.mark.parametrize("kind", ["image", "mask"])
def test_images_come_in_one_memory_layout_however_they_were_turned(group, kind):
    image = noise(2, 3, 6, 6)
    for x in (image, image.rot90(1, (-2, -1)), image.contiguous(memory_format=torch.channels_last)):
        assert act(group, draw(group, 2), x, kind).is_contiguous()
        assert all(act(group, g, x, kind).is_contiguous() for g in singles(group))


@each([*EXACT, *OFF_GRID, *CONTINUOUS])
def test_a_batch_may_be_taken_apart_and_images_may_have_any_leading_axes(group):
    videos, elements = noise(3, 2, 4, 6, 6), draw(group, 3)
    turned = act(group, elements, videos)
    for element, video, expected in zip(elements, videos, turned, strict=True):
        assert torch.equal(act(group, element, video), expected)
        assert torch.equal(act(group, element, video[0, 0]), expected[0, 0])


@pytest.mark.parametrize("name", ["c8", "d3"])
def test_integers_are_interpolated_and_rounded(name):
    group, image = parse_group(name), noise(1, 3, 9, 9, dtype=torch.uint8)
    for g in group.elements():
        turned = act(group, g, image)
        assert turned.dtype == torch.uint8
        assert torch.equal(turned, act(group, g, image.double()).round().to(torch.uint8))


@pytest.mark.parametrize("side", SQUARES)
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


def test_an_unknown_padding_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'mirror' is none of edge, reflect, zeros"):
        act(PlanarGroup(4), 1, noise(1, 1, 4, 4), padding="mirror")


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


def test_views_take_the_padding_that_is_asked_for():
    group, image = PlanarGroup(8), noise(2, 3, 6, 6)
    assert torch.equal(views(group, image, padding="zeros")[:, 1], act(group, 7, image, padding="zeros"))


@each(CONTINUOUS)
def test_a_continuous_group_has_no_list_of_views(group):
    with pytest.raises(ValueError, match=f"{group.name} has infinitely many elements"):
        views(group, noise(1, 3, 4, 4))


@pytest.mark.parametrize("padding", ["edge", "zeros"])
def test_gradients_reach_the_matrix(padding):
    image = smooth(16).double()
    angle = torch.tensor([0.3, 1.9, -2.0, 3.0], dtype=torch.float64, requires_grad=True)

    def turned(angle):
        cos, sin = angle.cos(), angle.sin()
        elements = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
        return act(parse_group("so2"), elements, image.expand(4, -1, -1, -1), padding=padding)[..., 5:10, 5:10]

    assert torch.autograd.gradcheck(turned, (angle,), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "element", "words"),
    [
        ("c4", 4, "c4 has no element 4, only 0 to 3"),
        ("d4", -1, "d4 has no element -1, only 0 to 7"),
        ("c4", torch.zeros(3, dtype=torch.int64), "3 elements of c4 cannot act on a batch of 2"),
        ("so2", torch.eye(2).expand(3, 2, 2), "3 elements of so2 cannot act on a batch of 2"),
        ("so2", 1, "an element of so2 is a matrix"),
        ("o2", torch.eye(3), r"an element of o2 is a matrix \(2, 2\) or a batch \(b, 2, 2\), not \(3, 3\)"),
    ],
)
def test_what_is_no_element_for_this_batch_is_refused(name, element, words):
    with pytest.raises(ValueError, match=words):
        act(parse_group(name), element, noise(2, 3, 4, 4))


@each(SPACE)
@pytest.mark.parametrize("kind", ["image", "mask", "keypoints", "boxes"])
def test_groups_of_space_do_not_act_on_images_and_say_so(group, kind):
    with pytest.raises(ValueError, match=f"{group.name} acts on points"):
        act(group, identity(group), noise(2, 4), kind, (4, 4))


@pytest.mark.parametrize("group", ["d3", "o2"])
def test_actions_can_be_exported_with_any_batch_size(group):
    class Turn(torch.nn.Module):
        def forward(self, x, element):
            g = parse_group(group)
            out = act(g, element, x), act(g, g.inverse(element), x > 0.5, "mask")
            return out if group == "o2" else (*out, views(g, x))

    def example(batch):
        return noise(batch, 3, 7, 7), draw(parse_group(group), batch)

    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(Turn(), example(3), dynamic_shapes={"x": batch, "element": batch}).module()
    for result, expected in zip(program(*example(5)), Turn()(*example(5)), strict=True):
        assert torch.equal(result, expected)
