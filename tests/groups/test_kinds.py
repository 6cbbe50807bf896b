"""Masks, and that all kinds of data move together."""

import torch
from torch.nn.functional import max_pool2d

from equicli.groups.action import act, act_on_frame, inscribed_disc, views
from tests.groups.examples import (
    CONTINUOUS,
    EXACT,
    OFF_GRID,
    PLANAR,
    draw,
    each,
    every,
    noise,
    seeded,
    singles,
    smooth,
)

SHAPES = [(6, 6), (5, 5), (4, 7)]
any_shape = every(shape=SHAPES)
mask_dtype = every(dtype=[torch.bool, torch.uint8, torch.int64, torch.float16])


def labels(*shape, dtype=torch.int64):
    return torch.randint(2 if dtype == torch.bool else 5, shape, generator=seeded()).to(dtype)


def blobs(height, width):
    """Five classes in wide bands, int64 (1, height, width)."""
    return (smooth(height, width)[:, 0] * 5).long()


@each(EXACT)
@any_shape
@mask_dtype
def test_masks_of_any_dtype_obey_the_laws_bit_for_bit_at_quarter_turns(group, shape, dtype):
    mask = labels(2, *shape, dtype=dtype)
    assert torch.equal(act(group, 0, mask, "mask"), mask)
    for g in group.elements():
        there = act(group, g, mask, "mask")
        assert there.dtype == dtype
        assert torch.equal(act(group, group.inverse(g), there, "mask"), mask)
        for h in group.elements():
            twice = act(group, g, act(group, h, mask, "mask"), "mask")
            assert torch.equal(twice, act(group, group.compose(g, h), mask, "mask"))


@each([*OFF_GRID, *CONTINUOUS])
@every(side=[64, 65])
def test_off_the_grid_masks_obey_the_laws_but_for_two_pixels_along_the_borders_of_classes(group, side):
    mask, disc = blobs(side, side).expand(20, -1, -1), inscribed_disc(side)
    g, h = draw(group, 20, 1), draw(group, 20, 2)
    there = act(group, h, mask, "mask")
    for twice, once in [
        (act(group, g, there, "mask"), act(group, group.compose(g, h), mask, "mask")),
        (act(group, group.inverse(h), there, "mask"), mask),
    ]:
        highest, lowest = (max_pool2d(x.float(), 5, stride=1, padding=2) for x in (once, -once))
        inner = (highest == -lowest) & disc
        assert inner.float().mean() > 0.4 * disc.float().mean()
        assert torch.equal(twice[inner], once[inner])


@each([*OFF_GRID, *CONTINUOUS])
@mask_dtype
@any_shape
def test_a_turned_mask_has_no_new_value(group, dtype, shape):
    mask = labels(1, 1, *shape, dtype=dtype) + torch.ones((), dtype=dtype)
    for g in singles(group):
        for padding in ("edge", "reflect", "zeros"):
            turned = act(group, g, mask, "mask", padding=padding)
            assert turned.dtype == dtype
            allowed = mask.unique().tolist() + [0] * (padding == "zeros")
            assert set(turned.unique().tolist()) <= set(allowed)


def test_large_labels_survive_a_turn():
    mask = torch.full((1, 4, 4), 2**53 + 1)
    assert (act(OFF_GRID[0], 1, mask, "mask") == mask).all()


@each(PLANAR)
@every(batch=[0, 1, 9])
def test_one_element_for_each_mask_acts_as_each_element_alone(group, batch):
    masks, elements = labels(batch, 6, 6), draw(group, batch)
    turned = act(group, elements, masks, "mask")
    for element, mask, expected in zip(elements, masks, turned, strict=True):
        assert torch.equal(act(group, element, mask, "mask"), expected)


@each(EXACT)
def test_the_views_of_a_turned_image_are_the_views_of_the_image_permuted(group):
    image = noise(2, 3, 6, 6)
    before = views(group, image)
    for h in group.elements():
        after = views(group, act(group, h, image))
        for g in group.elements():
            assert torch.equal(after[:, group.compose(h, g)], before[:, g])


@each(PLANAR)
@every(frame=[(41, 41), (40, 40), (40, 57)])
def test_a_keypoint_follows_what_is_drawn_under_it(group, frame):
    place = torch.tensor([[24.0, 17.0]])  # x, y
    y, x = (torch.arange(side) + 0.5 for side in frame)
    image = torch.exp(-((x - 24) ** 2 + (y[:, None] - 17) ** 2) / 8).double()
    for g in singles(group):
        turned = act(group, g, image)
        assert turned.shape == act_on_frame(group, g, frame)
        y, x = (torch.arange(side) + 0.5 for side in turned.shape)
        weights = turned / turned.sum()
        centre = torch.stack([(weights.sum(0) * x).sum(), (weights.sum(1) * y).sum()])
        expected = act(group, g, place.double(), "keypoints", frame)[0]
        torch.testing.assert_close(centre, expected, atol=0.02, rtol=0)


@each(PLANAR)
@every(frame=[(41, 41), (40, 40), (40, 57)])
def test_a_box_and_an_outline_go_with_the_mask_that_they_outline(group, frame):
    mask = torch.zeros(frame, dtype=torch.bool)
    mask[14:20, 16:28] = True
    box = torch.tensor([16.0, 14, 28, 20])
    corners = torch.tensor([[16.0, 14], [28, 14], [28, 20], [16, 20]])
    for g in singles(group):
        rows, columns = act(group, g, mask, "mask", padding="zeros").nonzero(as_tuple=True)
        around = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        turned = act(group, g, box, "boxes", frame)
        outline = act(group, g, corners, "keypoints", frame)
        torch.testing.assert_close(turned, torch.cat([outline.amin(0), outline.amax(0)]))
        if group in EXACT:
            assert torch.equal(turned, around)
        torch.testing.assert_close(turned, around, atol=1.0, rtol=0)
