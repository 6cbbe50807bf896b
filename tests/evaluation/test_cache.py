"""A network that is asked through a cache answers as it would alone, and each image passes once."""

import pytest
import torch
from torch import nn

from equicli.evaluation.cache import Caches, OutputCache, fingerprints
from equicli.prediction.network import NetworkSpec


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
    with torch.inference_mode(), cache.in_front_of(network):
        for k in (0, 1, 2, 3, 1, 5, -1):
            assert torch.allclose(network(torch.rot90(images, k, (2, 3))), wanted[k % 4], atol=1e-6)
        mixed = torch.stack([torch.rot90(image, i, (1, 2)) for i, image in enumerate(images)])
        assert torch.allclose(network(mixed), torch.stack([wanted[i % 4][i] for i in range(6)]), atol=1e-6)
        assert torch.allclose(network(images[:1].expand(3, -1, -1, -1)), wanted[0][:1].expand(3, -1), atol=1e-6)
    assert network.seen == 24


def test_what_is_asked_in_another_precision_is_asked_again(images):
    network, cache = Counting(), OutputCache()
    with torch.inference_mode(), cache.in_front_of(network):
        wide = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = network(images)
        network(images)
    assert (wide.dtype, narrow.dtype, network.seen) == (torch.float32, torch.bfloat16, 12)


def test_outside_the_network_is_as_it_was(images):
    network = Counting()
    with pytest.raises(ZeroDivisionError), OutputCache().in_front_of(network):
        network(images)
        raise ZeroDivisionError
    network.seen = 0
    network(images)
    assert network.seen == 6 and "forward" not in vars(network)


def test_a_forward_of_its_own_is_called_and_kept(images):
    network = Counting()
    network.forward = own = lambda x: x.flatten(1)[:, :5] + 100
    with OutputCache().in_front_of(network):
        assert network(images).min() >= 100
    assert network.forward is own


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
