"""What may stand behind `--model`, and what is said of all else."""

from pathlib import Path

import pytest
import timm
import torch

from equicli.errors import EquicliError, UsageError
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.network import NetworkSpec
from tests.prediction.tiny import pickled, weights


def error_of(kind: type[EquicliError], model: str, **options) -> str:
    """The message with which loading fails, before any weight is asked for: one line."""
    with pytest.raises(kind) as caught:
        load_network(model, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def any_file(tmp_path: Path) -> str:
    """A file of weights, so that nothing is downloaded."""
    (tmp_path / "any.pth").write_bytes(pickled(weights()))
    return str(tmp_path / "any.pth")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("resnett50", ["--model resnett50", "Did you mean 'resnet50'?", "equicli models"]),
        ("vit_bse", ["Did you mean 'vit_base'?"]),
        ("Test_resnet", ["Did you mean 'test_resnet'?"]),
        ("", ["--model"]),
        ("acme/tiny/v1", ["--model acme/tiny/v1"]),
        ("../weights.pth", ["--model ../weights.pth"]),
        ("test_resnet.r160_in1", ["--model test_resnet.r160_in1", "tag", "Did you mean 'test_resnet.r160_in1k'?"]),
        ("test_resnet.", ["--model test_resnet."]),
        ("torchvision:resnet81", ["torchvision:resnet81", "Did you mean 'resnet18'?"]),
        ("torchvision:raft_large", ["torchvision:raft_large"]),
        ("torchvision:", ["torchvision:"]),
        ("local:/tmp", ["unknown source 'local:'", "hf-hub:", "torchvision:", "python:", "local-dir:"]),
        ("hf_hub:acme/tiny", ["unknown source 'hf_hub:'"]),
    ],
)
def test_an_unknown_name_is_a_wrong_command_line_with_the_nearest_known_one(any_file, model, words) -> None:
    message = error_of(UsageError, model, checkpoint=any_file)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("test_resnet", {"colour": "red"}),
        ("test_resnet", {"output_stride": 5}),
        ("test_resnet", {"num_classes": "many"}),
        ("test_resnet", {"act_layer": "os.system"}),
        ("test_vit", {"img_size": 7, "patch_size": 0}),
        ("torchvision:squeezenet1_1", {"colour": "red"}),
        ("torchvision:squeezenet1_1", {"weights": "DEFAULT"}),
        ("torchvision:squeezenet1_1", {"num_classes": "many"}),
        ("torchvision:resnet18", {"num_classes": -1}),
    ],
    ids=str,
)
def test_arguments_that_the_network_does_not_take_are_one_line(any_file, model: str, arguments) -> None:
    message = error_of(EquicliError, model, checkpoint=any_file, arguments=arguments)
    assert model in message and "--model-arg" in message


def test_a_name_without_a_tag_stands_for_timms_own_choice(any_file) -> None:
    arguments = {"num_classes": 4}
    found = load_network("test_resnet", checkpoint=any_file, arguments=arguments)
    assert found.spec == NetworkSpec("timm", "test_resnet", arguments)
    tagged = load_network("test_resnet.r160_in1k", checkpoint=any_file, arguments=arguments)
    assert tagged.spec == found.spec and tagged.preprocess == found.preprocess


def test_a_model_that_timm_publishes_no_weights_for_needs_a_checkpoint() -> None:
    name = next(n for n in timm.list_models("vgg*") + timm.list_models("resnet*") if not _published(n))
    assert "--checkpoint" in error_of(EquicliError, name)


def _published(name: str) -> bool:
    config = timm.get_pretrained_cfg(name)
    return config is None or bool(config.hf_hub_id)


@pytest.mark.parametrize("outputs", [None, 7])
@pytest.mark.parametrize(
    ("library", "name", "arguments"),
    [("timm", "test_efficientnet", {"num_classes": 4}), ("torchvision", "squeezenet1_1", {"num_classes": 4})],
)
def test_a_spec_rebuilds_the_architecture_with_its_replaced_head(library, name, arguments, outputs) -> None:
    network = rebuild_network(NetworkSpec(library, name, arguments, outputs))
    assert not network.training
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, outputs or 4)


def test_a_spec_of_own_code_says_how_to_hand_the_network_over() -> None:
    with pytest.raises(EquicliError, match=r"--model python:module:factory.*network="):
        rebuild_network(NetworkSpec("python", "MyNet"))
