import pytest
import torch

from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act, views
from tests.groups.examples import (
    CONTINUOUS,
    EXACT,
    OFF_GRID,
    SPACE,
    any_dtype,
    draw,
    each,
    every,
    identity,
    noise,
    singles,
    square,
)

exact = each(EXACT)
any_shape = every(shape=[(2, 3, 6, 6), (1, 3, 5, 5), (2, 1, 4, 7), (0, 3, 4, 4)])


@any_dtype
def test_ninety_degrees_is_rot90_and_keeps_the_dtype(dtype):
    image = noise(2, 3, 5, 8, dtype=dtype)
    turned = act(PlanarGroup(4), 1, image)
    assert turned.dtype == dtype
    assert torch.equal(turned, torch.rot90(image, 1, (-2, -1)))


def test_a_turn_by_ninety_degrees_is_counter_clockwise_as_displayed():
    image = torch.tensor([[[[1, 2], [3, 4]]]])
    assert act(PlanarGroup(4), 1, image).tolist() == [[[[2, 4], [1, 3]]]]


@every(k=range(4))
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
@every(batch=[0, 1, 17])
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


@each(CONTINUOUS)
@square
@every(batch=[0, 1, 9])
def test_one_matrix_for_each_image_acts_as_each_matrix_alone(group, side, batch):
    images, elements = noise(batch, 3, side, side), draw(group, batch)
    turned = act(group, elements, images)
    assert turned.shape == images.shape
    for image, element, expected in zip(images, elements, turned, strict=True):
        assert torch.equal(act(group, element, image), expected)


@each([*EXACT, *OFF_GRID, *CONTINUOUS])
@every(kind=["image", "mask"])
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


def test_an_unknown_padding_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'mirror' is none of edge, reflect, zeros"):
        act(PlanarGroup(4), 1, noise(1, 1, 4, 4), padding="mirror")


def test_views_take_the_padding_that_is_asked_for():
    group, image = PlanarGroup(8), noise(2, 3, 6, 6)
    assert torch.equal(views(group, image, padding="zeros")[:, 1], act(group, 7, image, padding="zeros"))


@each(CONTINUOUS)
def test_a_continuous_group_has_no_list_of_views(group):
    with pytest.raises(ValueError, match=f"{group.name} has infinitely many elements"):
        views(group, noise(1, 3, 4, 4))


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
@every(kind=["image", "mask", "keypoints", "boxes"])
def test_groups_of_space_do_not_act_on_images_and_say_so(group, kind):
    with pytest.raises(ValueError, match=f"{group.name} acts on points"):
        act(group, identity(group), noise(2, 4), kind, (4, 4))


@pytest.mark.slow
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
