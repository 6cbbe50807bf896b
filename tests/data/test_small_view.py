import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equicli.data.normalization import HALF, IMAGENET
from equicli.data.small_view import SmallView, central_square, shrink
from equicli.groups import parse_group
from equicli.groups.action import act
from tests.canonicalization.examples import create

D4 = parse_group("d4")
sides = st.integers(1, 40)


def noise(height, width, dtype=torch.uint8):
    pixels = torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(width))
    return pixels.to(dtype)


@given(sides, sides, st.sampled_from([torch.uint8, torch.float32, torch.float64]), st.sampled_from(D4.elements()))
@settings(max_examples=150)
def test_the_central_square_commutes_bit_for_bit_with_turning_and_mirroring(height, width, dtype, g):
    image = noise(height, width, dtype)
    square = central_square(image)
    assert square.shape == (3, min(height, width), min(height, width))
    assert torch.equal(central_square(act(D4, g, image)), act(D4, g, square))


@pytest.mark.parametrize("margin", range(5))
def test_the_central_square_is_cut_out_of_the_middle(margin):
    image = noise(8, 8 + margin)
    start = margin // 2
    cut = image[..., start : start + 8]
    if margin % 2 == 0:
        assert torch.equal(central_square(image), cut)
    else:
        assert torch.equal(central_square(image), (cut.float() + image[..., start + 1 : start + 9].float()) / 2)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.sampled_from(D4.elements()))
@settings(max_examples=150)
def test_shrinking_rectangles_commutes_with_turning_and_mirroring_to_a_rounding(height, width, size, g):
    image = noise(height, width)
    shrunk, turned = shrink(image, size), shrink(act(D4, g, image), size)
    assert (turned.shape, turned.dtype) == ((3, size, size), torch.float32)
    expected = act(D4, g, shrunk)
    assert ((turned - expected).abs() <= expected.abs() * torch.finfo(torch.float32).eps).all()


def test_what_has_the_size_already_is_not_resized():
    image = noise(16, 16)
    assert torch.equal(shrink(image, 16), image.float())


@pytest.mark.parametrize("shape", [(3, 20, 31), (2, 3, 31, 20)])
def test_images_are_shrunk_alone_and_in_batches(shape):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    shrunk = shrink(image, 8)
    assert shrunk.shape == (*shape[:-2], 8, 8)
    expected = torch.nn.functional.interpolate(
        image.reshape(-1, *shape[-3:]).double(), (8, 8), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(shrunk, expected.reshape(shrunk.shape).float(), atol=1e-6, rtol=0)


def test_the_whole_picture_is_squashed_and_the_central_square_is_not():
    picture = torch.zeros(3, 20, 60, dtype=torch.uint8)
    picture[..., 20:40] = 255  # a white square between two black ones
    whole, central = (SmallView(12, HALF, whole=flag).pixels(picture) for flag in (True, False))
    assert (central == 255).all()
    assert torch.equal(whole[..., 5:7], torch.full((3, 12, 2), 255.0)) and not whole[..., [0, 1, 10, 11]].any()


@pytest.mark.parametrize("group", ["c1", "c2", "c4", "d1", "d2", "d4"])
def test_groups_of_quarter_turns_look_at_the_whole_picture(group):
    assert create("frame" if group == "c1" else "equivariant", group).view.whole


@pytest.mark.parametrize(
    ("kind", "group"),
    [("optimized", "c8"), ("optimized", "d3"), ("equivariant", "c6"), ("steerable", "so2"), ("steerable", "o2")],
)
def test_groups_of_other_angles_look_at_the_central_square(kind, group):
    assert not create(kind, group).view.whole


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("view_as", [HALF, IMAGENET])
def test_a_picture_and_what_the_network_is_shown_of_it_have_the_same_view(whole, view_as):
    view, picture = SmallView(9, view_as, whole), noise(24, 33)
    of_picture = view.of_picture(picture)
    assert (of_picture.shape, of_picture.dtype) == ((3, 9, 9), torch.float32)
    torch.testing.assert_close(of_picture, view_as(view.pixels(picture) / 255))
    for given_as in (HALF, IMAGENET):
        of_input = view.of_input(given_as(picture)[None], given_as)
        torch.testing.assert_close(of_input[0], of_picture, atol=1e-5, rtol=0)


def test_a_batch_of_pictures_has_the_views_of_each():
    view, pictures = SmallView(9, HALF, whole=False), torch.stack([noise(24, 33), noise(24, 33).flip(-1)])
    assert torch.equal(view.of_picture(pictures), torch.stack([view.of_picture(picture) for picture in pictures]))
