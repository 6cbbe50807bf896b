"""A network is asked as its signature says, and its output is taken apart and put together again."""

from typing import NamedTuple

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from equicli.prediction.signature import Signature, asking, join_batch, read_kinds, split_batch


class Listening(nn.Module):
    """Returns what it is shown, and remembers the shapes of what it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked = []

    def forward(self, x):
        self.asked.append([tuple(part.shape) for part in x] if isinstance(x, list) else tuple(x.shape))
        return x


class Prompted(NamedTuple):
    image: torch.Tensor
    points: torch.Tensor
    name: str


def images(*frames):
    return [torch.full((3, *frame), float(index)) for index, frame in enumerate(frames)]


def test_kinds_of_nested_values_are_read_from_json_where_tuples_are_lists():
    kinds = {"images": "image", "prompts": ["keypoints", {"labels": "invariant"}]}
    assert read_kinds(kinds) == {"images": "image", "prompts": ("keypoints", {"labels": "invariant"})}
    read = TypeAdapter(Signature).validate_python({"inputs": kinds, "outputs": ["mask", "boxes"], "lists": True})
    assert read == Signature(read_kinds(kinds), ("mask", "boxes"), lists=True)


def test_a_kind_that_there_is_not_is_refused_by_name():
    with pytest.raises(ValidationError, match="'picture' is none of the kinds image, mask"):
        TypeAdapter(Signature).validate_python({"outputs": {"a": ["mask", "picture"]}})


def test_a_signature_says_by_default_that_a_classifier_takes_images():
    assert Signature() == Signature("image", "logits", lists=False)


def test_a_network_is_asked_size_by_size_in_the_order_in_which_sizes_come():
    network, batch = Listening(), images((4, 6), (6, 4), (4, 6), (5, 5), (6, 4))
    found = asking(network, Signature())(batch)
    assert network.asked == [(2, 3, 4, 6), (2, 3, 6, 4), (1, 3, 5, 5)]
    assert all(torch.equal(one, image) for one, image in zip(found, batch, strict=True))


def test_one_answer_comes_back_for_several_sizes_where_the_network_says_the_same_of_each():
    class Mean(nn.Module):
        def forward(self, x):
            return {"logits": x.mean((2, 3)), "masks": x > 0, "parts": (x.amax((1, 2, 3)), x)}

    batch = images((4, 6), (6, 4), (4, 6))
    found = asking(Mean(), Signature(outputs={"logits": "logits", "masks": "mask", "parts": ("invariant", "image")}))(
        batch
    )
    assert found["logits"].shape == (3, 3) and found["logits"][:, 0].tolist() == [0, 1, 2]
    assert [mask.shape[1:] for mask in found["masks"]] == [(4, 6), (6, 4), (4, 6)]
    assert found["parts"][0].tolist() == [0, 1, 2]
    assert all(torch.equal(one, image) for one, image in zip(found["parts"][1], batch, strict=True))


def test_a_network_that_takes_lists_is_asked_about_one_at_a_time_as_it_pads_them_to_the_largest():
    network, batch = Listening(), images((4, 6), (6, 4))
    assert len(asking(network, Signature(lists=True))(batch)) == 2
    assert network.asked == [[(3, 4, 6)], [(3, 6, 4)]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_is_asked_in_its_own_precision_and_what_is_no_image_stays_as_it_is(dtype):
    ask = asking(Listening().to(dtype), Signature())
    assert ask(torch.zeros(1, 3, 2, 2)).dtype == dtype
    assert {one.dtype for one in ask(images((2, 3), (3, 2)))} == {dtype}

    class Same(Listening):
        def forward(self, x):
            return x

    asked = Prompted(torch.zeros(1, 3, 2, 2), torch.zeros(1, 4), "cat"), {"count": torch.tensor([3])}, [None]
    kinds = (("image", "keypoints", "invariant"), {"count": "invariant"}, "invariant")
    prompted, counted, nothing = asking(Same().to(dtype), Signature(kinds))(asked)
    assert isinstance(prompted, Prompted) and prompted.name == "cat"
    assert prompted.image.dtype == dtype and prompted.points.dtype == torch.float32
    assert counted["count"].dtype == torch.int64 and nothing == [None]


def test_a_network_in_single_precision_gets_what_it_is_given():
    x = torch.zeros(1, 3, 2, 2, dtype=torch.float16)
    assert asking(Listening(), Signature())(x) is x


def test_outputs_are_taken_apart_and_put_together_again():
    output = {"logits": torch.rand(3, 5), "boxes": ([torch.rand(n, 4) for n in (0, 2, 1)], torch.rand(3, 2))}
    samples = split_batch(output)
    assert [sample["boxes"][0].shape[0] for sample in samples] == [0, 2, 1]
    assert torch.equal(samples[1]["logits"], output["logits"][1])
    again = join_batch(samples)
    assert torch.equal(again["logits"], output["logits"]) and torch.equal(again["boxes"][1], output["boxes"][1])
    assert all(torch.equal(a, b) for a, b in zip(again["boxes"][0], output["boxes"][0], strict=True))


def test_what_is_no_tensor_or_of_several_shapes_stays_a_list():
    assert join_batch(["cat", None]) == ["cat", None]
    assert isinstance(join_batch([torch.zeros(2), torch.zeros(3)]), list)
    assert split_batch([1, 2]) == [1, 2]
