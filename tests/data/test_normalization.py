import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import normalize

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
