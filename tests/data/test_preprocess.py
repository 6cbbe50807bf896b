import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from equicli.data.normalization import HALF
from equicli.data.preprocess import INTERPOLATIONS, Preprocess

edges = st.integers(5, 70)
interpolations = st.sampled_from(sorted(INTERPOLATIONS))


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(edges, edges, st.integers(8, 50), st.integers(0, 12), interpolations)
@settings(deadline=None, max_examples=150)
def test_pixels_are_those_of_torchvisions_resize_and_centre_crop(width, height, resize, less, interpolation):
    size = max(1, resize - less)
    theirs = Compose([Resize(resize, InterpolationMode(interpolation)), CenterCrop(size), PILToTensor()])
    ours = Preprocess(size, resize, interpolation, HALF)
    picture = noise(width, height)
    assert torch.equal(ours(picture), theirs(picture))


@given(edges, edges, st.integers(8, 30), st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_a_crop_larger_than_the_picture_is_padded_as_torchvision_pads(width, height, resize, more):
    theirs = Compose([Resize(resize), CenterCrop(resize + more), PILToTensor()])
    picture = noise(width, height)
    assert torch.equal(Preprocess(resize + more, resize, "bilinear", HALF)(picture), theirs(picture))


@given(edges, edges, st.integers(8, 50), st.integers(0, 12), interpolations)
@settings(deadline=None, max_examples=40)
def test_squashing_is_torchvisions_resize_of_both_edges(width, height, resize, less, interpolation):
    size = max(1, resize - less)
    theirs = Compose([Resize((resize, resize), InterpolationMode(interpolation)), CenterCrop(size), PILToTensor()])
    picture = noise(width, height)
    assert torch.equal(Preprocess(size, resize, interpolation, HALF, squash=True)(picture), theirs(picture))


@pytest.mark.parametrize(("width", "height"), [(7, 5), (1, 1), (32, 32)])
def test_without_a_size_the_pixels_are_taken_as_they_are(width, height):
    picture = noise(width, height)
    pixels = Preprocess(None, None, "bilinear", HALF)(picture)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, PILToTensor()(picture))


def test_preprocessing_leaves_the_picture_alone():
    picture = noise(9, 7)
    before = picture.tobytes()
    Preprocess(None, None, "bilinear", HALF)(picture).zero_()
    Preprocess(4, 5, "bilinear", HALF)(picture).zero_()
    assert picture.tobytes() == before
