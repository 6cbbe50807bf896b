"""What a Hub repository's files say and hold, right and wrong; how they get here is in test_hub.py."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from equicli.errors import EquicliError
from equicli.prediction.load import load_network, rebuild_network
from tests.prediction.tiny import CLASSES, repository, same, weights

TINY = "hf-hub:acme/tiny"
CONFIG = {"config.json": repository()["config.json"]}


def error_of(model: str, **options) -> str:
    """The message with which loading fails: one line."""
    with pytest.raises(EquicliError) as caught:
        load_network(model, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "content",
    [
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"model_type": "vit", "architectures": ["ViTForImageClassification"]}',
        b'{"architecture": "resnet_of_the_future"}',
        b'{"architecture": ["test_resnet"]}',
        b'{"architecture": "local-dir:/tmp"}',
        b'{"architecture": "test_resnet", "pretrained_cfg": [1]}',
        b'{"architecture": "test_resnet", "model_args": 3}',
        b'{"architecture": "test_resnet", "num_classes": "many"}',
    ],
)
def test_a_configuration_that_is_none_of_timms_is_one_line(hub, content: bytes) -> None:
    hub({"acme/tiny": {"main": repository() | {"config.json": content}}})
    assert "acme/tiny" in error_of(TINY)


@pytest.mark.parametrize(
    "entries",
    [
        {"mean": [0.5, 0.5]},
        {"mean": "grey"},
        {"std": [0, 0, 0]},
        {"input_size": "big"},
        {"input_size": [3, 0, 0]},
        {"crop_pct": "all"},
        {"crop_pct": -1},
    ],
    ids=str,
)
def test_preprocessing_that_makes_no_sense_is_one_line(hub, entries: dict[str, object]) -> None:
    hub({"acme/tiny": {"main": repository(pretrained_cfg=entries)}})
    assert "acme/tiny" in error_of(TINY)


def test_weights_that_do_not_fit_the_configuration_name_repository_and_tensor(hub) -> None:
    hub({"acme/tiny": {"main": CONFIG | {"model.safetensors": save(weights("test_vit"))}}})
    message = error_of(TINY)
    assert "hf-hub:acme/tiny" in message and "conv1.0.weight" in message


@pytest.mark.parametrize(
    "content", [b"", b"\x10", b"\xff" * 100, save(weights())[:-100]], ids=["empty", "byte", "header", "cut"]
)
def test_damaged_safetensors_name_the_repository(hub, content: bytes) -> None:
    hub({"acme/tiny": {"main": repository() | {"model.safetensors": content}}})
    assert "acme/tiny" in error_of(TINY)


def test_published_weights_fill_the_whole_network_or_are_refused(hub) -> None:
    """Never a head of random numbers that pretends to be pretrained."""
    hub({"acme/tiny": {"main": repository()}})
    message = error_of(TINY, arguments={"num_classes": CLASSES + 3})
    assert "num_classes" in message or "fc.weight" in message


def test_arguments_of_the_repository_and_of_the_user_build_the_network(hub) -> None:
    hub({"acme/tiny": {"main": repository(model_args={"drop_rate": 0.1, "global_pool": "max"})}})
    found = load_network(TINY, arguments={"drop_rate": 0.25})
    assert found.network.drop_rate == 0.25
    x = torch.rand(2, 3, 64, 64)
    rebuilt = rebuild_network(found.spec)
    rebuilt.load_state_dict(found.network.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt(x), found.network(x))


def test_an_argument_that_the_network_does_not_take_is_named(hub) -> None:
    hub({"acme/tiny": {"main": repository()}})
    message = error_of(TINY, arguments={"colour": "red"})
    assert "colour" in message and "--model-arg" in message


def test_the_repository_names_the_classes(hub) -> None:
    labels = {"label_names": ["a", "b", "c", "d"], "label_descriptions": {"a": "ant", "d": "dog, hound"}}
    hub({"acme/tiny": {"main": repository(**labels)}})
    assert load_network(TINY).class_names == (("a", "ant"), ("b",), ("c",), ("d", "dog, hound"))


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b", "c", "d", "e"]])
def test_class_names_of_another_number_than_the_outputs_are_no_class_names(hub, names: list[str]) -> None:
    hub({"acme/tiny": {"main": repository(label_names=names)}})
    assert load_network(TINY).class_names is None


def test_descriptions_that_are_no_mapping_are_left_aside(hub) -> None:
    hub({"acme/tiny": {"main": repository(label_names=list("abcd"), label_descriptions=list("abcd"))}})
    assert load_network(TINY).class_names == (("a",), ("b",), ("c",), ("d",))


def test_a_checkpoint_replaces_the_weights_of_a_repository_but_not_its_configuration(hub, tmp_path: Path) -> None:
    files = repository(pretrained_cfg={"mean": [0.1, 0.2, 0.3]})
    server = hub({"acme/tiny": {"main": {"config.json": files["config.json"]}}})
    (tmp_path / "own.safetensors").write_bytes(save(weights(seed=1)))
    found = load_network(TINY, checkpoint=str(tmp_path / "own.safetensors"))
    assert same(found.network, weights(seed=1))
    assert found.preprocess.normalization.mean == (0.1, 0.2, 0.3)
    assert found.provenance["checkpoint"] == "own.safetensors"
    assert not any("model.safetensors" in request for request in server.requests)


@pytest.mark.parametrize("model", [TINY, "test_vit"])
def test_a_vision_transformer_takes_another_image_size(hub, model: str) -> None:
    published = {"model.safetensors": save(weights("test_vit", 1000))}
    own = repository("test_vit", model_args={"dynamic_img_size": False})
    hub({"acme/tiny": {"main": own}, "timm/test_vit.r160_in1k": {"main": published}})
    found = load_network(model, image_size=96)
    assert found.preprocess.size == 96
    assert len(found.network(torch.zeros(1, 3, 96, 96))) == 1


def test_a_file_gives_the_same_network_as_the_hub_at_another_image_size(hub, tmp_path: Path) -> None:
    content = save(weights("test_vit", 1000))
    hub({"timm/test_vit.r160_in1k": {"main": {"model.safetensors": content}}})
    (tmp_path / "same.safetensors").write_bytes(content)
    local = load_network("test_vit", image_size=96, checkpoint=str(tmp_path / "same.safetensors"))
    assert same(local.network, load_network("test_vit", image_size=96).network.state_dict())
