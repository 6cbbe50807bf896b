import pytest
import torch

from equicli.data.source import Images, Joined, Resident, Source


def numbered(*numbers):
    pixels = torch.tensor(numbers, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    return Resident(pixels, torch.tensor(numbers) / 2, [f"image {index}" for index in numbers])


@pytest.fixture(params=["one", "joined"])
def source(request):
    """Five images, each of its own number."""
    return numbered(*range(5)) if request.param == "one" else Joined(numbered(0, 1), numbered(2, 3, 4))


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3, 4], [4, 0], [2, 2, 2], [3], []])
def test_images_are_taken_by_their_numbers_in_any_order_and_as_often_as_is_wanted(source, numbers):
    taken = source.take(torch.tensor(numbers, dtype=torch.int64))
    assert isinstance(taken, Images)
    assert (taken.pixels.dtype, taken.pixels.shape) == (torch.uint8, (len(numbers), 3, 4, 4))
    assert taken.pixels[:, 0, 0, 0].tolist() == numbers
    assert taken.aspects.tolist() == [index / 2 for index in numbers]
    assert taken.targets == [f"image {index}" for index in numbers]


def test_taking_images_leaves_the_source_as_it_is(source):
    first: Source = source
    first.take(torch.tensor([1])).pixels.zero_()
    assert len(first) == 5
    assert source.take(torch.arange(5)).pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
