from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from timm import create_model

from equicli.canonicalization import networks
from equicli.canonicalization.networks import (
    Candidate,
    build_canonicalization_network,
    conv,
    load_best_network,
    load_canonicalization_network,
)
from equicli.canonicalization.view_network import Look
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import UsageError
from equicli.prediction.network import NetworkSpec, PretrainedNetwork


@pytest.mark.parametrize("side", [8, 17, 64])
def test_conv_gives_a_vector_for_images_of_any_size(side):
    assert conv(4, 10)(torch.zeros(2, 3, side, side)).shape == (2, 10)


def test_conv_is_described_by_what_rebuilds_it():
    found = load_canonicalization_network("conv", size=16, width=6, outputs=10)
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
    found = load_canonicalization_network("test_resnet", checkpoint=str(checkpoint), size=32, width=32, outputs=10)
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
        load_canonicalization_network("resnet18x", size=64, width=32, outputs=128)


def test_errors_name_the_flags_of_the_canonicalizer():
    with pytest.raises(UsageError, match="--canonicalizer-network test_resnt"):
        load_canonicalization_network("test_resnt", size=64, width=32, outputs=128)


@pytest.fixture
def candidates(monkeypatch):
    """Two networks, of which the second is cheaper."""
    chosen = (Candidate("test_vit", Look(96, glance=64), 0.03), Candidate("test_resnet", Look(48), 0.01))
    monkeypatch.setattr(networks, "CANDIDATES", chosen)
    return chosen


def best(**options):
    return load_best_network(**{"checkpoint": None, "size": None, "width": 4, "outputs": 3, "budget": 0.04, **options})


def test_auto_takes_the_best_network_that_can_be_had(candidates, monkeypatch):
    published = create_model("test_vit", img_size=96)
    monkeypatch.setattr(networks, "load_network", lambda name, **_: replace(known(name), network=published))
    found, look = best()
    assert (found.spec.architecture, found.spec.head_outputs, look) == ("test_vit", 3, Look(96, glance=64))
    assert found.remarks == ("canonicalization network: test_vit at 96 pixels, after a first look at 64",)


@pytest.mark.parametrize(
    ("budget", "name", "expected"),
    [
        (0.02, "squeezenet1_1", Look(96)),
        (0.04, "tf_efficientnet_lite0", Look(128, glance=80)),
        (0.06, "tf_efficientnet_lite0", Look(160, glance=96)),
        (0.1, "tf_efficientnet_lite0", Look(160)),
    ],
)
def test_a_larger_budget_looks_at_larger_pictures(monkeypatch, budget, name, expected):
    published = create_model("test_resnet")
    monkeypatch.setattr(networks, "load_network", lambda name, **_: replace(known(name), network=published))
    found, look = best(budget=budget)
    assert found.spec.architecture.endswith(name) and look == expected


def known(name):
    return PretrainedNetwork(None, NetworkSpec("timm", name), Preprocess(None, None, "bilinear", HALF), None, {})


@pytest.mark.parametrize(("options", "side"), [({}, 48), ({"size": 64}, 64), ({"budget": 0.02}, 48)])
def test_auto_takes_the_network_that_a_checkpoint_is_of(candidates, checkpoint, options, side):
    found, look = best(checkpoint=str(checkpoint), **options)
    assert (found.spec.architecture, found.provenance["checkpoint"], look) == (
        "test_resnet",
        checkpoint.name,
        Look(side),
    )


def test_auto_refuses_a_checkpoint_of_another_network(candidates, checkpoint):
    save_file({"weight": torch.zeros(2)}, checkpoint)
    with pytest.raises(UsageError, match=r"weights\.safetensors: fits none of test_vit, test_resnet; name its --canon"):
        best(checkpoint=str(checkpoint))


@pytest.mark.parametrize(("budget", "why"), [(0.04, "test_vit"), (0.001, "none costs 0.001 or less")])
def test_auto_says_aloud_that_it_starts_untrained(candidates, budget, why):
    found, look = best(budget=budget)
    (remark,) = found.remarks
    assert (found.spec.architecture, look) == ("conv", Look(64))
    assert why in remark and "finds fewer poses" in remark and "--canonicalizer-checkpoint" in remark
