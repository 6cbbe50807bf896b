"""A network that is asked through a cache answers as it would alone, and each image passes once."""

import pytest
import torch
from torch import nn

from equicli.evaluation.cache import Caches, OutputCache, fingerprints
from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import Signature, asking, split_batch


class Counting(nn.Module):
    """Asymmetric, so that turned images give other outputs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.linear = nn.Linear(3 * 8 * 8, 5)
        self.register_buffer("scalar", torch.tensor(3))
        self.register_buffer("nothing", torch.zeros(0, 4))
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.linear(x.flatten(1))


@pytest.fixture
def images():
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_each_image_passes_once_however_it_is_turned_and_batched(images):
    network, cache = Counting(), OutputCache()
    wanted = {k: network(torch.rot90(images, k, (2, 3))) for k in range(4)}
    network.seen = 0
    ask = cache.before(network)
    with torch.inference_mode():
        for k in (0, 1, 2, 3, 1, 5, -1):
            assert torch.allclose(ask(torch.rot90(images, k, (2, 3))), wanted[k % 4], atol=1e-6)
        mixed = torch.stack([torch.rot90(image, i, (1, 2)) for i, image in enumerate(images)])
        assert torch.allclose(ask(mixed), torch.stack([wanted[i % 4][i] for i in range(6)]), atol=1e-6)
        assert torch.allclose(ask(images[:1].expand(3, -1, -1, -1)), wanted[0][:1].expand(3, -1), atol=1e-6)
    assert network.seen == 24


def test_what_one_asker_learned_another_of_the_same_cache_knows(images):
    network, cache = Counting(), OutputCache()
    with torch.inference_mode():
        assert torch.equal(cache.before(network)(images), cache.before(network)(images))
    assert network.seen == 6


def test_what_is_asked_in_another_precision_is_asked_again(images):
    network, cache = Counting(), OutputCache()
    ask = cache.before(network)
    with torch.inference_mode():
        wide = ask(images)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = ask(images)
        ask(images)
    assert (wide.dtype, narrow.dtype, network.seen) == (torch.float32, torch.bfloat16, 12)


def test_images_that_are_new_twice_in_a_batch_pass_once(images):
    network = Counting()
    with torch.inference_mode():
        answer = OutputCache().before(network)(images[[0, 1, 0, 1, 1]])
    assert network.seen == 2 and torch.equal(answer[0], answer[2]) and torch.equal(answer[1], answer[4])


def test_a_list_of_images_of_several_sizes_is_answered_image_by_image():
    asked = []

    class Sizes(nn.Module):
        """Height, width and sum of each image."""

        def forward(self, x):
            asked.append(tuple(x.shape))
            return torch.stack([torch.tensor([*image.shape[-2:], image.sum()]) for image in x])

    generator = torch.Generator().manual_seed(2)
    images = [torch.rand(3, *frame, generator=generator) for frame in ((8, 8), (4, 6), (8, 8), (6, 4))]
    network = asking(Sizes(), Signature())
    ask = OutputCache().before(network)
    first = ask(images)
    assert torch.equal(first, torch.tensor([[*i.shape[-2:], i.sum()] for i in images]))
    assert asked == [(2, 3, 8, 8), (1, 3, 4, 6), (1, 3, 6, 4)]
    again = ask([images[3], torch.rot90(images[1], 1, (1, 2)), images[0]])
    assert torch.equal(again[[0, 2]], first[[3, 0]])
    assert asked[3:] == [(1, 3, 6, 4)]  # only the image that was turned


def test_images_of_the_same_values_and_another_shape_are_others():
    asked = []
    ask = OutputCache().before(lambda images: asked.append(len(images)) or torch.zeros(len(images), 1))
    wide = torch.arange(72.0).view(3, 4, 6)
    ask([wide])
    ask([wide.reshape(3, 6, 4)])
    ask([wide, wide.reshape(3, 6, 4)])
    assert asked == [1, 1]


def test_outputs_of_several_parts_are_kept_whole(images):
    calls = []

    def network(x):
        calls.append(len(x))
        sums = x.sum(dim=(1, 2, 3))
        return {"score": sums, "pair": (x[:, 0], sums[:, None] * 2)}

    ask = OutputCache().before(network)
    ask(images[:4])
    answer = ask(images)
    wanted = network(images)
    assert calls == [4, 2, 6]
    assert torch.equal(answer["score"], wanted["score"])
    assert isinstance(answer["pair"], tuple)
    assert all(torch.equal(a, b) for a, b in zip(answer["pair"], wanted["pair"], strict=True))


def test_a_detectors_list_of_boxes_of_any_number_is_kept_for_each_image(images):
    calls = []

    def detector(x):
        calls.append(len(x))
        return [{"boxes": image[0, : int(image[0, 0, 0] * 8)]} for image in x]

    ask = OutputCache().before(detector)
    wanted = detector(images)
    for _ in range(2):
        found = split_batch(ask(images))
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(found, wanted, strict=True))
    assert calls == [6, 6]


@pytest.mark.parametrize("more", [lambda x: {"image": x}, lambda x: (x, None), lambda x: (x, x[:, :2])])
def test_what_is_more_than_images_is_asked_every_time(images, more):
    """Prompts beside an image decide the answer, too."""
    asked = []
    ask = OutputCache().before(lambda inputs: asked.append(inputs) or "answer")
    assert [ask(more(images)) for _ in range(2)] == ["answer"] * 2
    assert len(asked) == 2 and type(asked[0]) is type(more(images))


def test_what_is_kept_does_not_change_with_the_answer(images):
    ask = OutputCache().before(Counting())
    with torch.inference_mode():
        first = ask(images)
        wanted = first.clone()
        first.zero_()
        assert torch.equal(ask(images), wanted)


def test_the_network_itself_is_as_it_was(images):
    network = Counting()
    with torch.inference_mode():
        OutputCache().before(network)(images)
        network(images)
    assert network.seen == 12 and "forward" not in vars(network)


def test_networks_share_a_cache_just_where_definition_and_weights_are_the_same():
    caches, spec = Caches(), NetworkSpec("timm", "resnet18", {})
    first = caches.of(spec, Counting(0))
    assert caches.of(spec, Counting(0)) is first
    assert caches.of(spec, Counting(1)) is not first
    assert caches.of(NetworkSpec("timm", "resnet34", {}), Counting(0)) is not first
    touched = Counting(0)
    with torch.no_grad():
        touched.linear.bias[3] += 1e-7
    assert caches.of(spec, touched) is not first


def test_fingerprints_tell_images_apart_by_one_bit_in_any_layout_and_type(images):
    many = images[:1].repeat(200, 1, 1, 1)
    for i in range(1, 200):
        many[i].view(-1)[i % 192] = torch.nextafter(many[i].view(-1)[i % 192], torch.tensor(2.0 * (i % 2)))
    assert len({*fingerprints(many[:193])}) == 193
    turned = torch.rot90(torch.rot90(images, 1, (2, 3)), 3, (2, 3))
    assert fingerprints(turned.contiguous(memory_format=torch.channels_last)) == fingerprints(images)
    assert fingerprints(images.bfloat16()) == fingerprints(images.bfloat16().float())
