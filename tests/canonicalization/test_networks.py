import pytest
import torch
from safetensors.torch import save_file
from timm import create_model

from equicli.canonicalization.networks import build_canonicalization_network, conv, load_canonicalization_network
from equicli.data.normalization import HALF
from equicli.errors import UsageError


@pytest.mark.parametrize("side", [8, 17, 64])
def test_conv_gives_a_vector_for_images_of_any_size(side):
    assert conv(4, 10)(torch.zeros(2, 3, side, side)).shape == (2, 10)


def test_conv_is_described_by_what_rebuilds_it():
    found = load_canonicalization_network("conv", size=16, width=6, vector_size=10)
    network, spec = found.network, found.spec
    again = build_canonicalization_network(spec)
    again.load_state_dict(network.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert found.preprocess.normalization == HALF
    assert torch.equal(again.eval()(x), network.eval()(x))


@pytest.fixture
def checkpoint(tmp_path):
    save_file(create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_a_timm_network_gets_a_new_last_layer_and_keeps_the_weights_of_the_checkpoint(checkpoint):
    found = load_canonicalization_network("test_resnet", checkpoint=str(checkpoint), size=32, width=32, vector_size=10)
    network, spec = found.network, found.spec
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert found.preprocess.normalization == HALF
    assert found.provenance["checkpoint"] == checkpoint.name
    published = create_model("test_resnet", checkpoint_path=str(checkpoint)).state_dict()
    own = network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in published.items() if not key.startswith("fc."))
    again = build_canonicalization_network(spec)
    again.load_state_dict(own)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.eval()(x), network.eval()(x))


def test_an_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="resnet18"):
        load_canonicalization_network("resnet18x", size=64, width=32, vector_size=128)


def test_errors_name_the_flags_of_the_canonicalizer():
    with pytest.raises(UsageError, match="--canonicalizer-network test_resnt"):
        load_canonicalization_network("test_resnt", size=64, width=32, vector_size=128)
