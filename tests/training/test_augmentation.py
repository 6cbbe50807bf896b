import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from equicli.training.augmentation import BLURRED, GREY, MAX_ZOOM, MIN_SIDE, degrade, stretch, vary

CROPS = ["zoom", "shift"]


@given(
    st.integers(1, 6),
    st.sampled_from([8, 15, 32]),
    st.integers(0, 1000),
    st.sampled_from(CROPS),
    st.booleans(),
    st.sampled_from([None, 0.3, 1.0, 1.5]),
)
@settings(deadline=None, max_examples=30)
def test_augmenting_keeps_shape_range_and_what_the_seed_decides(batch, side, seed, crop, mirror, aspect):
    aspects = None if aspect is None else torch.full((batch,), aspect)
    options = {"crop": crop, "mirror": mirror, "aspects": aspects}
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    augmented, mirrored = vary(images, torch.Generator().manual_seed(seed), **options)
    assert (mirrored.shape, mirrored.dtype) == ((batch,), torch.bool)
    assert (augmented.shape, augmented.dtype) == (images.shape, torch.float32)
    assert augmented.min() >= 0 and augmented.max() <= 1 + 1e-6
    assert torch.equal(augmented, vary(images, torch.Generator().manual_seed(seed), **options)[0])


@pytest.mark.parametrize("side", [8, 15, 32])
def test_shifting_moves_whole_pixels_by_up_to_an_eighth_in_every_direction(side):
    images = torch.randint(0, 256, (60, 3, side, side), dtype=torch.uint8)
    shifted = vary(images, torch.Generator().manual_seed(0), crop="shift", mirror=False, aspects=None)[0]
    most = round(side / 8)
    steps = range(-most, most + 1)
    inner = slice(most, side - most)  # what no shift moves out of sight

    def moved_by(image, source):
        return [
            (down, right)
            for down in steps
            for right in steps
            if torch.allclose(
                image[:, inner, inner],
                source[:, most + down : side - most + down, most + right : side - most + right],
                atol=1e-4,
            )
        ]

    found = [moved_by(*pair) for pair in zip(shifted, images.float() / 255, strict=True)]
    assert all(len(moves) == 1 for moves in found)
    for moves in zip(*(moves[0] for moves in found), strict=True):
        assert set(moves) == set(steps)


@pytest.mark.parametrize("aspect", [None, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("mirror", [True, False])
def test_augmenting_mirrors_some_images_if_asked_and_keeps_all_upright(crop, mirror, aspect):
    down = torch.arange(0, 240, 8, dtype=torch.uint8)[:, None].expand(30, 30)
    image = torch.stack([down, down.T, down]).expand(64, -1, -1, -1)
    aspects = None if aspect is None else torch.full((64,), aspect)
    augmented, mirrored = vary(image, torch.Generator().manual_seed(0), crop=crop, mirror=mirror, aspects=aspects)
    augmented = augmented[:, :, 4:-4, 4:-4]  # beyond the border shifting shows the image's reflection
    down, along = augmented[:, 0].diff(dim=1), augmented[:, 1].diff(dim=2)
    assert (down >= -1e-6).all() and (down.sum(dim=1) > 0.05).all()
    rising, falling = ((sign * along >= -1e-6).all(dim=(1, 2)) for sign in (1, -1))
    assert (rising | falling).all()
    assert torch.equal(mirrored, ~rising)
    assert (16 < rising.sum() < 48) if mirror else rising.all()


def shares(aspect, count=800, crop="zoom"):
    """How much of the width and height each augmented picture of this aspect shows, (count,) each."""
    ramp = torch.arange(0, 252, 4, dtype=torch.uint8).expand(63, 63)
    image = torch.stack([ramp, ramp.T, ramp]).expand(count, -1, -1, -1)
    aspects = None if aspect is None else torch.full((count,), aspect)
    shown = vary(image, torch.Generator().manual_seed(0), crop=crop, mirror=False, aspects=aspects)[0][
        :, :, 20:-20, 20:-20
    ]
    steps = [shown[:, 0].diff(dim=2), shown[:, 1].diff(dim=1)]  # by how many pixels the next one is further on
    return [step.mean(dim=(1, 2)) * 255 / 4 for step in steps]


def squashes(aspect, scale=1.0, count=4000):
    """The logarithm of how much narrower content is shown than it is, of pictures of this aspect."""
    generator = torch.Generator().manual_seed(1)
    wide, high = stretch(torch.full((2, count), scale), torch.full((count,), aspect), generator)
    return (aspect * wide / high).log()


@pytest.mark.parametrize("aspect", [1.0, 1.1, 4 / 3, 1.45, 3 / 4, 1 / 1.45])
def test_content_is_as_often_squashed_in_one_direction_as_in_the_other_whatever_the_aspect(aspect):
    found, below = squashes(aspect), torch.tensor([0.02, 0.2, 0.4])
    assert found.abs().max() <= abs(math.log(aspect)) + 1e-4
    torch.testing.assert_close(found.quantile(below), -found.quantile(1 - below), atol=0.04, rtol=0)
    assert found.mean().abs() < 0.03
    torch.testing.assert_close(found.std(), found.new_tensor(2 * abs(math.log(aspect)) / 12**0.5), atol=0.02, rtol=0)


@pytest.mark.parametrize("aspect", [2.0, 3.0, 8.0])
def test_of_long_pictures_a_share_of_each_side_is_shown_at_least_and_the_cue_is_weaker(aspect):
    for shape in (aspect, 1 / aspect):
        wide, high = stretch(torch.ones(2, 4000), torch.full((4000,), shape), torch.Generator().manual_seed(1))
        assert min(wide.min(), high.min()) >= MIN_SIDE
        assert squashes(shape).mean().abs() < 0.75 * math.log(aspect)
    torch.testing.assert_close(squashes(aspect).mean(), -squashes(1 / aspect).mean(), atol=0.1, rtol=0)


def test_augmented_pictures_show_what_stretching_says():
    for aspect in (0.8, 1.0, 1.25):
        wide, high = shares(aspect)
        assert (aspect * wide / high).log().mean().abs() < 0.04
        assert min(wide.min(), high.min()) >= MIN_SIDE - 0.01 and max(wide.max(), high.max()) <= 1.01
    wide, high = shares(1.25)
    inverted = wide / high < 1 / 1.25  # content that was wide is shown narrow
    assert 0.3 < inverted.float().mean() < 0.7


def test_squares_which_have_no_such_cue_keep_their_shape():
    wide, high = shares(1.0)
    torch.testing.assert_close(wide, high, atol=0.01, rtol=0)
    assert torch.equal(stretch(torch.full((2, 9), 0.7), torch.ones(9), torch.Generator()), torch.full((2, 9), 0.7))


@pytest.mark.parametrize(("crop", "aspect"), [("zoom", None), ("shift", None), ("shift", 2.0)])
def test_shapes_are_left_alone_where_no_aspect_is_told_or_pixels_are_only_shifted(crop, aspect):
    wide, high = shares(aspect, 200, crop)
    torch.testing.assert_close(wide, high, atol=0.01, rtol=0)
    if crop == "zoom":
        assert wide.min() > 1 - MAX_ZOOM - 0.01 and wide.min() < 1 - MAX_ZOOM + 0.05 < 0.95 < wide.max() <= 1.01


def degraded(images, seed=0):
    return degrade(images, torch.Generator().manual_seed(seed))


@given(st.integers(1, 5), st.sampled_from([8, 15, 32]), st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_degrading_keeps_shape_range_and_what_the_seed_decides(batch, side, seed):
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))
    found = degraded(images, seed)
    assert (found.shape, found.dtype) == (images.shape, torch.float32)
    assert found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, degraded(images, seed)) and not torch.equal(found, degraded(images, seed + 1))


def test_degrading_leaves_every_picture_what_it_shows():
    dark_below = torch.linspace(0.8, 0.2, 32)[:, None].expand(200, 3, 32, 32)
    found = degraded(dark_below)
    assert (found[..., :8, :].mean(dim=(1, 2, 3)) > found[..., -8:, :].mean(dim=(1, 2, 3)) + 0.2).all()


def test_so_many_pictures_lose_their_colour_and_their_sharpness():
    stripes = torch.zeros(400, 3, 32, 32)
    stripes[:, 0, :, ::2] = 0.6  # red, one pixel wide
    found = degraded(stripes)
    red, blue = found[:, 0].mean(dim=(1, 2)), found[:, 2].mean(dim=(1, 2))
    assert ((red - blue).abs() < 0.02).float().mean() == pytest.approx(GREY, abs=0.06)
    contrast = (found[..., ::2] - found[..., 1::2]).amax(dim=1).mean(dim=(1, 2))
    assert (contrast < 0.17).float().mean() > BLURRED / 2


@pytest.mark.parametrize("size", [24, 40])
def test_crops_of_another_size_show_the_same(size):
    x = torch.linspace(0, 255, 32, dtype=torch.float64)
    images = torch.stack([x.expand(32, 32), x.expand(32, 32).T, x.flip(0).expand(32, 32)]).to(torch.uint8)
    images = images.expand(8, -1, -1, -1)
    options = {"crop": "zoom", "mirror": True, "aspects": torch.full((8,), 1.5)}
    (as_large, flipped), (other, again) = (
        vary(images, torch.Generator().manual_seed(0), size=side, **options) for side in (None, size)
    )
    assert other.shape == (8, 3, size, size) and torch.equal(flipped, again)
    torch.testing.assert_close(functional.interpolate(other, size=32, mode="bilinear"), as_large, atol=0.02, rtol=0)
