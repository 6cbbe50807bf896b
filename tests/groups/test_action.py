import pytest
import torch

from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, views

EXACT = [parse_group(name) for name in ("c1", "c2", "c4", "d1", "d2", "d4")]
exact = pytest.mark.parametrize("group", EXACT, ids=lambda group: group.name)
any_dtype = pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.bfloat16])
any_shape = pytest.mark.parametrize("shape", [(2, 3, 6, 6), (1, 3, 5, 5), (2, 1, 4, 7), (0, 3, 4, 4)], ids=str)
square = pytest.mark.parametrize("side", [6, 5])


def noise(*shape, dtype=torch.float32):
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.uint8)
    return values if dtype == torch.uint8 else (values.float() / 255).to(dtype)


def smooth(side):
    """An image of long waves, (1, 1, side, side), in [0, 1]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    return (0.5 + 0.3 * torch.sin(2 * x + y) + 0.2 * torch.cos(3 * y - x))[None, None]


def inscribed_disc(side):
    steps = torch.arange(side) - (side - 1) / 2
    return steps[:, None] ** 2 + steps**2 <= (side / 2 - 1) ** 2


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


@pytest.mark.parametrize("group", [*EXACT, *map(parse_group, ("c3", "c8", "d8"))], ids=lambda group: group.name)
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


@pytest.mark.parametrize("name", ["c3", "d3", "c8", "d8"])
@pytest.mark.parametrize("side", [32, 33])
def test_acting_twice_off_the_grid_is_close_to_acting_once_inside_the_inscribed_disc(name, side):
    group, image, disc = parse_group(name), smooth(side), inscribed_disc(side)
    for g in group.elements():
        for h in group.elements():
            twice = act(group, g, act(group, h, image))[..., disc]
            torch.testing.assert_close(twice, act(group, group.compose(g, h), image)[..., disc], atol=0.01, rtol=0)


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
