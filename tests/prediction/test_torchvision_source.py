"""Networks from torchvision, whose published weights torch.hub keeps in a folder of files."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision.models as zoo

from equicli.errors import EquicliError, UsageError
from equicli.prediction import torchvision_source
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.network import NetworkRequest
from tests.prediction.tiny import pickled, same

NAME = "torchvision:squeezenet1_1"
FILE = "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture
def published(monkeypatch, tmp_path: Path) -> Path:
    """The folder in which torch.hub looks for what it has downloaded before; files in it may have any hash."""
    monkeypatch.setattr("equicli.prediction.checkpoint.check_named_hash", lambda path, name: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_published_weights_are_loaded_and_recorded(published: Path) -> None:
    network = zoo.squeezenet1_1()
    (published / FILE).write_bytes(pickled(network.state_dict()))
    found = load_network(NAME)
    assert same(found.network, network.state_dict())
    assert not found.network.training
    assert found.provenance == {
        "model": NAME,
        "revision": "IMAGENET1K_V1",
        "file": FILE,
        "sha256": hashlib.sha256((published / FILE).read_bytes()).hexdigest(),
    }
    assert found.class_names is not None and found.class_names[217][1] == "English springer"
    rebuilt = rebuild_network(found.spec)
    rebuilt.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(rebuilt(x), found.network(x))


def test_a_revision_chooses_among_published_weights(published: Path) -> None:
    network = zoo.resnet50()
    (published / "resnet50-0676ba61.pth").write_bytes(pickled(network.state_dict()))
    found = load_network("torchvision:resnet50", revision="IMAGENET1K_V1")
    assert found.provenance["revision"] == "IMAGENET1K_V1"
    with pytest.raises(UsageError, match=r"--revision V9.*IMAGENET1K_V1, IMAGENET1K_V2"):
        load_network("torchvision:resnet50", revision="V9")


def test_without_a_network_connection_a_local_file_is_the_remedy(published: Path) -> None:
    with pytest.raises(EquicliError, match="cannot be reached") as caught:
        load_network(NAME)
    assert NAME in str(caught.value) and "--checkpoint" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"half a file", pickled([1])], ids=["empty", "text", "list"])
def test_a_damaged_file_in_the_cache_is_named(published: Path, content: bytes) -> None:
    (published / FILE).write_bytes(content)
    with pytest.raises(EquicliError, match=FILE):
        load_network(NAME)


def test_published_weights_do_not_fit_another_number_of_outputs(published: Path) -> None:
    (published / FILE).write_bytes(pickled(zoo.squeezenet1_1().state_dict()))
    with pytest.raises(EquicliError, match=r"classifier\.1\.weight"):
        load_network(NAME, arguments={"num_classes": 10})


def test_googlenet_normalizes_as_its_published_weights_expect(published: Path) -> None:
    """Torchvision switches `transform_input` on together with the weights."""
    network = zoo.googlenet(init_weights=False)
    (published / "googlenet-1378be20.pth").write_bytes(pickled(network.state_dict()))
    assert load_network("torchvision:googlenet").network.transform_input


@pytest.mark.parametrize("name", ["squeezenet1_1", "swin_v2_t", "vit_b_16", "vit_h_14", "maxvit_t"])
def test_a_network_is_built_for_the_size_of_its_published_preprocessing(name: str) -> None:
    with torch.device("meta"):  # only shapes: the largest takes 2.5 GB
        found = torchvision_source.load(NetworkRequest(name, {}, False, None, None))
        assert found.network(torch.zeros(1, 3, found.preprocess.size, found.preprocess.size)).shape == (1, 1000)
