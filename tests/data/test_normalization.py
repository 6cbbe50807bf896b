import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.functional import normalize

from equicli.data.decode import to_image
from equicli.data.normalization import HALF, IMAGENET, Normalization

channels = st.tuples(*[st.floats(0.1, 0.9)] * 3)


@pytest.mark.parametrize("normalization", [IMAGENET, HALF])
def test_bytes_are_normalized_as_torchvision_normalizes_them(normalization):
    image = torch.arange(3 * 86 * 1, dtype=torch.uint8).view(1, 3, 86, 1)
    expected = normalize(image.float() / 255, normalization.mean, normalization.std)
    torch.testing.assert_close(normalization(image), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_dtype_is_normalized_to_float32(dtype):
    assert IMAGENET(torch.ones(2, 3, 4, 4, dtype=dtype)).dtype == torch.float32


@given(channels, channels, channels, channels)
@settings(deadline=None, max_examples=20)
def test_scale_and_shift_turn_one_normalization_into_another(mean, std, other_mean, other_std):
    own, other = Normalization(mean, std), Normalization(other_mean, other_std)
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scale, shift = own.after(other)
    converted = other(image) * scale.view(3, 1, 1) + shift.view(3, 1, 1)
    torch.testing.assert_close(converted, own(image), atol=1e-4, rtol=1e-5)


def test_between_equal_normalizations_nothing_changes():
    scale, shift = IMAGENET.after(IMAGENET)
    assert scale.tolist() == [1, 1, 1]
    assert shift.tolist() == [0, 0, 0]


GREY = Normalization((0.5,), (0.25,))


def test_a_network_of_one_channel_sees_the_luminance_as_pillow_has_it():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8))
    luminance = torch.from_numpy(np.array(to_image(pixels).convert("L")))[None]
    assert isinstance(to_image(pixels), Image.Image)
    torch.testing.assert_close(GREY(pixels), (luminance / 255 - 0.5) / 0.25)
    torch.testing.assert_close(GREY(pixels.float() / 255), GREY(pixels), atol=0.01, rtol=0)
    assert torch.equal(GREY(luminance), GREY(pixels))


def test_an_input_of_one_channel_becomes_three_equal_ones():
    luminance = torch.rand(2, 1, 4, 4)
    scale, shift = IMAGENET.after(GREY)
    converted = GREY(luminance) * scale.view(3, 1, 1) + shift.view(3, 1, 1)
    torch.testing.assert_close(converted, IMAGENET(luminance.expand(-1, 3, -1, -1)))


def test_of_three_channels_grey_takes_the_averages():
    assert GREY.rgb() == HALF._replace(std=(0.25,) * 3) and GREY.rgb().grey() == GREY
    assert HALF.rgb() is HALF and HALF.channels == 3 and GREY.channels == 1
