"""Image classifiers of transformers', from a Hub on this machine and from folders."""

import copy
import hashlib
import json
import pickle
import sys
import tempfile
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load, save
from torch import nn

import equicli
from equicli import artifact
from equicli.adapted import AdaptedModel
from equicli.canonicalization.prior import Prior
from equicli.data.normalization import HALF
from equicli.errors import EquicliError, UsageError
from equicli.model_config import CanonicalizerSpec, ModelConfig
from equicli.prediction import transformers_library, transformers_source
from equicli.prediction.head import find_head, head_inputs, set_head
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import CLASSIFIER
from tests.canonicalization.examples import create
from tests.prediction import tiny
from tests.prediction.test_hostile import Touch
from tests.prediction.tiny import pickled

TINY = "transformers:acme/tiny"
_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_VIT |= {"image_size": 32, "patch_size": 8, "num_labels": 4}
_PYRAMID = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_labels": 4}
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "num_labels": 4}
_DINO = {key: value for key, value in _VIT.items() if key != "intermediate_size"}
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 4}
FAMILIES: dict[str, dict[str, Any]] = {
    "ViT": _VIT,
    "DeiT": _VIT,
    "Swin": {**_SWIN, "window_size": 4},
    "Swinv2": {**_SWIN, "window_size": 4},
    "ConvNext": _PYRAMID,
    "ConvNextV2": _PYRAMID,
    "ResNet": _STAGES,
    "RegNet": {**_STAGES, "groups_width": 4},
    "Beit": {**_VIT, "use_relative_position_bias": True},
    "Dinov2": _DINO,
    "Dinov2WithRegisters": _DINO,
    "MobileNetV2": {"depth_multiplier": 0.25, "num_labels": 4},
    "Segformer": {**_PYRAMID, "num_attention_heads": [1, 1, 2, 2]},
    "Levit": {"hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 2], "depths": [1, 1, 1], "image_size": 32}
    | {"key_dim": [8, 8, 8], "num_labels": 4},
    "PoolFormer": _PYRAMID,
}
# One of each way of being built; the others are slow.
OFTEN = ("ViT", "Swinv2", "ConvNext", "ResNet", "Beit", "Dinov2", "MobileNetV2", "Levit")
FEW = [family if family in OFTEN else pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES]
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "resample": 2}


@cache
def written(family: str = "ViT", head: str = "ForImageClassification") -> dict[str, bytes]:
    """The files that transformers writes of a small network with random weights, and a processor's."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    network = getattr(transformers, family + head)(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return files | {"preprocessor_config.json": json.dumps(PROCESSOR).encode()}


def repository(family: str = "ViT", **entries: Any) -> dict[str, bytes]:
    """The same, with other entries of config.json; None takes one out."""
    files = dict(written(family))
    config = json.loads(files["config.json"]) | entries
    config = {key: value for key, value in config.items() if value is not None}
    return files | {"config.json": json.dumps(config).encode()}


def folder_of(files: dict[str, bytes], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def theirs(folder: Path, family: str = "ViT", head: str = "ForImageClassification") -> nn.Module:
    return getattr(transformers, family + head).from_pretrained(folder).eval()


def images(side: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def error_of(model: str, kind: type[EquicliError] = EquicliError, **options: Any) -> str:
    """The message with which loading fails: one line."""
    with pytest.raises(kind) as caught:
        load_network(model, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", FEW)
def test_a_network_gives_the_logits_of_transformers_own_and_is_rebuilt_from_json(tmp_path: Path, family: str) -> None:
    folder = folder_of(written(family), tmp_path / "network")
    found, reference = load_network(f"transformers:{folder}"), theirs(folder, family)
    assert tiny.same(found.network, reference.state_dict())
    assert not found.network.training and found.remarks == ()
    spec = NetworkSpec(**json.loads(json.dumps(asdict(found.spec))))
    rebuilt = rebuild_network(spec)
    rebuilt.load_state_dict(found.network.state_dict())
    with torch.no_grad():
        logits = found.network(images())
        torch.testing.assert_close(logits, reference(images()).logits, rtol=0, atol=1e-6)
        for network in (rebuilt, copy.deepcopy(found.network), pickle.loads(pickle.dumps(found.network))):
            assert torch.equal(network(images()), logits)


@pytest.mark.parametrize("family", FEW)
def test_the_head_is_found_and_replaced(tmp_path: Path, family: str) -> None:
    network = load_network(f"transformers:{folder_of(written(family), tmp_path / 'network')}").network
    head = network.get_submodule(find_head(network))
    with torch.no_grad(), head_inputs(network) as features:
        logits = network(images())
    torch.testing.assert_close(features[0] @ head.weight.T + head.bias, logits, rtol=0, atol=1e-6)
    set_head(network, head.weight.detach()[:3].clone(), head.bias.detach()[:3].clone())
    with torch.no_grad():
        torch.testing.assert_close(network(images()), logits[:, :3], rtol=0, atol=1e-6)


def test_two_heads_that_are_averaged_are_loaded_but_none_is_replaced(tmp_path: Path) -> None:
    head = "ForImageClassificationWithTeacher"
    folder = folder_of(written("DeiT", head), tmp_path / "network")
    network = load_network(f"transformers:{folder}").network
    with torch.no_grad():
        assert torch.equal(network(images()), theirs(folder, "DeiT", head)(images()).logits)
    with pytest.raises(EquicliError, match="2 last layers"):
        find_head(network)


@pytest.mark.parametrize("family", ["ViT", "Beit", "Dinov2", "Swin", "ResNet"])
def test_another_image_size_resamples_positions_as_transformers_does(tmp_path: Path, family: str) -> None:
    folder = folder_of(written(family), tmp_path / "network")
    found, reference = load_network(f"transformers:{folder}", image_size=64), theirs(folder, family)
    assert found.preprocess.size == 64
    options = {"interpolate_pos_encoding": True} if family in ("ViT", "Beit", "Swin") else {}
    with torch.no_grad():
        expected = reference(images(64), **options).logits
        torch.testing.assert_close(found.network(images(64)), expected, rtol=0, atol=1e-6)


def test_a_network_is_exported_by_torch(tmp_path: Path) -> None:
    network = load_network(f"transformers:{folder_of(written(), tmp_path / 'network')}").network
    with torch.no_grad():
        exported = torch.export.export(network, (images(),)).module()
        torch.testing.assert_close(exported(images()), network(images()), rtol=0, atol=1e-6)


# The Hub


def test_a_repository_gives_its_weights_and_says_where_they_came_from(hub) -> None:
    files = written()
    server = hub({"acme/tiny": {"main": {"README.md": b""}, "v1": files}})
    commit = server.commit("acme/tiny", "v1")
    expected = {
        "model": TINY,
        "repository": "acme/tiny",
        "revision": commit,
        "file": "model.safetensors",
        "sha256": hashlib.sha256(files["model.safetensors"]).hexdigest(),
    }
    for model, options in ((f"{TINY}@v1", {}), ("acme/tiny@v1", {}), (TINY, {"revision": "v1"})):
        assert load_network(model, **options).provenance == expected
    assert f"HEAD /acme/tiny/resolve/{commit}/model.safetensors" in server.requests


def test_a_bare_repository_is_loaded_by_the_library_that_its_configuration_is_for(hub) -> None:
    hub({"acme/theirs": {"main": written()}, "acme/timms": {"main": tiny.repository()}})
    assert load_network("acme/theirs").spec.library == "transformers"
    found = load_network("acme/timms")
    assert found.spec.library == "timm" and found.provenance["model"] == "hf-hub:acme/timms"
    assert tiny.same(found.network, tiny.weights())


def test_a_cached_repository_loads_offline(hub, monkeypatch) -> None:
    server = hub({"acme/tiny": {"main": written()}})
    found = load_network("acme/tiny")
    server.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = load_network("acme/tiny")
    assert tiny.same(again.network, found.network.state_dict()) and again.provenance == found.provenance


@pytest.mark.parametrize("names", ["published", "own"])
def test_pytorch_weights_are_read_where_there_is_no_safetensors_file(hub, names: str) -> None:
    files = repository()
    published = load(files.pop("model.safetensors"))
    own = transformers_source.create("ViTForImageClassification", _VIT).own_names(published)
    hub({"acme/tiny": {"main": files | {"pytorch_model.bin": pickled(published if names == "published" else own)}}})
    found = load_network(TINY)
    assert tiny.same(found.network, own) and found.provenance["file"] == "pytorch_model.bin"


def test_half_precision_weights_become_float32(hub) -> None:
    half = {key: value.half() for key, value in load(written()["model.safetensors"]).items()}
    hub({"acme/tiny": {"main": repository(dtype="float16") | {"model.safetensors": save(half)}}})
    assert {p.dtype for p in load_network(TINY).network.parameters()} == {torch.float32}


def test_a_checkpoint_takes_the_place_of_the_published_weights(hub, tmp_path: Path) -> None:
    server = hub({"acme/tiny": {"main": repository()}})
    weights = {key: value + 1 for key, value in load(written()["model.safetensors"]).items()}
    (tmp_path / "own.safetensors").write_bytes(save(weights))
    found = load_network(TINY, checkpoint=str(tmp_path / "own.safetensors"))
    assert torch.equal(found.network.classifier.bias, weights["classifier.bias"])
    assert found.provenance["checkpoint"] == "own.safetensors"
    assert not any("model.safetensors" in request for request in server.requests)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("transformers:acme/gone", ["transformers:acme/gone", "no such repository", "HF_TOKEN"]),
        ("acme/gone", ["acme/gone", "no such repository"]),
        ("transformers:acme/secret", ["private", "HF_TOKEN"]),
        ("transformers:acme/locked", ["restricted", "Ask for access"]),
        ("acme/locked", ["restricted", "Ask for access"]),
        ("transformers:acme/tiny@v9", ["transformers:acme/tiny@v9", "no such revision"]),
        ("acme/tiny@../../v1", ["no such revision"]),
        ("transformers:acme/empty", ["config.json"]),
        ("acme/empty", ["config.json"]),
        ("transformers:acme/weightless", ["model.safetensors", "pytorch_model.bin"]),
        ("transformers:tiny/", ["owner/name"]),
        ("transformers:a/b/c", ["owner/name"]),
        ("transformers:", ["owner/name"]),
        ("transformers:acme/timms", ["hf-hub:"]),
        ("hf-hub:acme/tiny", ["transformers:owner/name"]),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_the_remedy(hub, model: str, words: list[str]) -> None:
    repositories = {f"acme/{name}": {"main": repository()} for name in ("tiny", "secret", "locked")}
    config = {"config.json": repository()["config.json"]}
    repositories |= {"acme/empty": {"main": {}}, "acme/weightless": {"main": config}}
    repositories |= {"acme/timms": {"main": tiny.repository()}}
    hub(repositories, private={"acme/secret"}, gated={"acme/locked"})
    message = error_of(model)
    for word in words:
        assert word in message


@pytest.mark.parametrize("model", [TINY, "acme/tiny"])
def test_offline_and_not_cached_a_local_file_is_the_remedy(hub, monkeypatch, model: str) -> None:
    hub({"acme/tiny": {"main": repository()}})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = error_of(model)
    assert "acme/tiny" in message and "cannot be reached" in message and "--checkpoint" in message


def test_a_folder_that_is_not_there_is_a_wrong_command_line() -> None:
    assert "no such folder" in error_of("transformers:./gone", UsageError)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"architectures": ["ViTModel"]}, ["ViTModel", "no network that equicli"]),
        ({"architectures": ["ViTForMaskedImageModeling"]}, ["no network that equicli"]),
        ({"architectures": ["os.system"]}, ["no network that equicli"]),
        ({"architectures": [{}]}, ["names no network"]),
        ({"architectures": None}, ["names no network"]),
        (
            {"architectures": ["PerceiverForImageClassificationLearned"], "model_type": "perceiver"},
            ["no network that equicli"],
        ),
        (
            {"architectures": ["TimmWrapperForImageClassification"], "model_type": "timm_wrapper"},
            ["no network that equicli"],
        ),
        ({"model_type": "bert"}, ["no network that equicli"]),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, ["quantized"]),
        ({"hidden_size": "big"}, ["hidden_size"]),
        ({"hidden_act": "os.system"}, ["cannot build"]),
        ({"hidden_size": 15}, ["of another shape"]),
        ({"id2label": {}}, ["num_labels"]),
        ({"id2label": None, "num_labels": "many"}, ["num_labels"]),
    ],
    ids=str,
)
def test_a_configuration_that_is_no_classifiers_is_one_line(hub, entries: dict[str, Any], words: list[str]) -> None:
    hub({"acme/tiny": {"main": repository(**entries)}})
    for model in (TINY, "acme/tiny"):
        message = error_of(model)
        assert "acme/tiny" in message
        for word in words:
            assert word in message


@pytest.mark.parametrize("content", [b"not JSON", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000])
@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
def test_a_file_that_is_not_what_it_should_be_is_one_line(hub, file: str, content: bytes) -> None:
    hub({"acme/tiny": {"main": repository() | {file: content}}})
    if (file, content) == ("preprocessor_config.json", b"{}"):
        assert load_network(TINY).preprocess.size == 224  # transformers' default
    else:
        for model in (TINY, "acme/tiny"):
            assert "acme/tiny" in error_of(model)


def test_weights_that_do_not_fit_are_counted_and_named(hub) -> None:
    hub({"acme/tiny": {"main": repository(hidden_size=32)}})
    message = error_of(TINY)
    assert "transformers:acme/tiny, model.safetensors" in message and "of another shape" in message


def test_published_weights_fill_the_whole_network_or_are_refused(hub) -> None:
    """Never a head of random numbers that pretends to be pretrained."""
    weights = load(written()["model.safetensors"])
    headless = {key: value for key, value in weights.items() if not key.startswith("classifier")}
    more = weights | {"decoder.weight": torch.zeros(1)}
    versions = {"headless": headless, "more": more}
    hub({"acme/tiny": {k: repository() | {"model.safetensors": save(v)} for k, v in versions.items()}})
    assert "2 missing (classifier." in error_of(f"{TINY}@headless")
    assert "1 unexpected (decoder.weight)" in error_of(f"{TINY}@more")


@pytest.mark.parametrize("arguments", [{"num_labels": 7}, {"num_classes": 7}])
def test_another_number_of_outputs_is_for_a_checkpoint_of_ones_own(hub, tmp_path: Path, arguments) -> None:
    hub({"acme/tiny": {"main": repository()}})
    assert "classifier" in error_of(TINY, arguments=arguments)
    weights = load(written()["model.safetensors"])
    weights |= {"classifier.weight": torch.ones(7, 16), "classifier.bias": torch.ones(7)}
    (tmp_path / "own.safetensors").write_bytes(save(weights))
    found = load_network(TINY, arguments=arguments, checkpoint=str(tmp_path / "own.safetensors"))
    assert found.network(images()).shape == (2, 7) and found.spec.arguments["num_labels"] == 7


def test_an_argument_that_the_network_does_not_take_is_named(hub) -> None:
    hub({"acme/tiny": {"main": repository()}})
    message = error_of(TINY, arguments={"colour": "red"})
    assert "'colour'" in message and "--model-arg" in message


# Class names


def labels(names: list[str]) -> dict[str, str]:
    return {str(index): name for index, name in enumerate(names)}


def test_the_configuration_names_the_classes(hub) -> None:
    hub({"acme/tiny": {"main": repository(id2label=labels(["cat, puss", "dog", "Cow", "3"]))}})
    assert load_network(TINY).class_names == (("cat, puss", "cat", "puss"), ("dog",), ("Cow",), ("3",))


@pytest.mark.parametrize("names", [["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"], ["0", "1", "2", "3"]])
def test_numbers_are_no_class_names(hub, names: list[str]) -> None:
    hub({"acme/tiny": {"main": repository(id2label=labels(names))}})
    assert load_network(TINY).class_names is None


@pytest.mark.parametrize("background", [[], ["background"]])
def test_imagenets_classes_get_their_wordnet_ids(background: list[str]) -> None:
    info = timm.data.ImageNetInfo("imagenet-1k")
    words = [info.index_to_description(index) for index in range(1000)]
    names = transformers_library.class_names_of(labels(background + words), len(background) + 1000)
    assert names is not None and names[len(background)][:2] == ("n01440764", "tench")


# Preprocessing

PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTImageProcessor", {"size": 48, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
    "not rescaled": ("ViTImageProcessor", {"size": {"height": 48, "width": 48}, "resample": 3, "do_rescale": False}),
    "not normalized": ("ViTImageProcessor", {"size": 48, "do_normalize": False}),
    "squash, crop": ("DeiTImageProcessor", {"size": 64, "crop_size": 48, "resample": 3}),
    "crop_pct": ("ConvNextImageProcessor", {"size": 48, "crop_pct": 0.875, "resample": 3}),
    "large": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}}),
    "shortest edge": (
        "BitImageProcessor",
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 49, "width": 49}},
    ),
    "no crop": ("BeitImageProcessor", {"size": 48, "crop_size": 48, "do_center_crop": False}),
    "mobilenet": ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": 48}),
    "segformer": ("SegformerImageProcessor", {"size": 64, "reduce_labels": True}),
    "levit": ("LevitImageProcessor", {"size": 56, "crop_size": 48}),
    "poolformer": ("PoolFormerImageProcessor", {"size": {"shortest_edge": 48}, "crop_pct": 0.9, "crop_size": 48}),
    "siglip": ("SiglipImageProcessor", {"size": {"height": 48, "width": 48}}),
    "top": ("EfficientNetImageProcessor", {"size": {"height": 48, "width": 48}, "image_std": [0.4, 0.5, 0.6]}),
    "offset": (
        "EfficientNetImageProcessor",
        {
            "size": {"height": 48, "width": 48},
            "rescale_offset": True,
            "rescale_factor": 1 / 127.5,
            "include_top": False,
        },
    ),
}


@pytest.mark.parametrize("case", PROCESSORS)
def test_a_picture_is_prepared_as_transformers_does(hub, case: str) -> None:
    """To the last bit of a pixel where they resize by Pillow; by torchvision, to two of 255 levels."""
    name, config = PROCESSORS[case]
    published = json.dumps({"image_processor_type": name, **config}).encode()
    hub({"acme/tiny": {"main": written() | {"preprocessor_config.json": published}}})
    found = load_network(TINY)
    assert found.remarks == ()
    noise = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    level = 1 / 255 / torch.tensor(found.preprocess.normalization.std).view(3, 1, 1)
    for size in ((211, 180), (160, 301), (100, 100), (57, 333)):
        picture = Image.fromarray(noise.numpy()).resize(size, Image.Resampling.BICUBIC)
        ours = found.preprocess.normalization(found.preprocess(picture))
        for backend, levels in (("Pil", 1e-3), ("", 2.001)):
            processor = getattr(transformers, f"{name}{backend}")(**config)
            expected = torch.as_tensor(processor(picture, return_tensors="pt")["pixel_values"][0])
            assert ours.shape == expected.shape, size
            assert float(((ours - expected) / level).abs().max()) <= levels, (size, backend)


def with_processor(**entries: Any) -> dict[str, bytes]:
    return written() | {"preprocessor_config.json": json.dumps(PROCESSOR | entries).encode()}


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"size": {"shortest_edge": 40}}, "central square of 40"),
        ({"resample": 5}, "bilinear"),
        ({"image_processor_type": "OwnImageProcessor"}, "not known"),
        ({"image_processor_type": "OwnImageProcessor", "size": None}, "ImageNet"),
    ],
    ids=str,
)
def test_what_is_prepared_otherwise_is_said_in_a_line(hub, entries: dict[str, Any], word: str) -> None:
    hub({"acme/tiny": {"main": with_processor(**entries)}})
    (remark,) = load_network(TINY).remarks
    assert word in remark and "acme/tiny" in remark


def test_without_a_file_of_preprocessing_the_familys_default_is_taken(hub) -> None:
    files = {name: content for name, content in written().items() if name != "preprocessor_config.json"}
    hub({"acme/tiny": {"main": files}})
    found = load_network(TINY)
    assert found.preprocess.size == 32 and found.preprocess.normalization == HALF
    assert "preprocessor_config.json" in found.remarks[0]


@pytest.mark.parametrize(
    "entries",
    [
        {"size": {"height": 32, "width": 48}},
        {"size": "big"},
        {"size": {"height": 0, "width": 0}},
        {"size": {"shortest_edge": 30, "longest_edge": 90}},
        {"image_mean": "grey"},
        {"image_mean": [0.5, 0.5]},
        {"image_std": [0, 0, 0]},
        {"rescale_factor": 0},
        {"resample": "soft"},
        {"do_resize": False, "do_center_crop": True, "crop_size": 32},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0},
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 32}},
    ],
    ids=str,
)
def test_preprocessing_that_makes_no_sense_or_cannot_be_done_is_one_line(hub, entries: dict[str, Any]) -> None:
    hub({"acme/tiny": {"main": with_processor(**entries)}})
    assert "acme/tiny" in error_of(TINY)


# Artifacts


def adapted(found) -> tuple[AdaptedModel, ModelConfig]:
    canonicalizer = create("optimized", "c4", width=4, vector_size=8, size=17)
    config = ModelConfig(
        task="classification",
        signature=CLASSIFIER,
        group="c4",
        canonicalizer=CanonicalizerSpec("optimized", asdict(canonicalizer.spec)),
        prediction_network=found.spec,
        preprocess=found.preprocess,
        labels={},
        provenance=found.provenance,
        prior=Prior(("r0",)),
        padding="edge",
    )
    return config.assemble(canonicalizer, found.network), config


@pytest.mark.parametrize(  # each pair of these at least once
    ("family", "local", "fitted", "adapter_only"),
    [
        ("ViT", False, False, False),
        ("ViT", True, True, True),
        ("ResNet", False, True, True),
        ("ResNet", True, False, True),
        ("ResNet", True, True, False),
    ],
)
def test_an_artifact_comes_back_bit_for_bit(hub, tmp_path: Path, family, local, fitted, adapter_only) -> None:
    server = hub({"acme/tiny": {"main": written(family)}})
    folder = folder_of(written(family), tmp_path / "network")
    found = load_network(f"transformers:{folder}" if local else "acme/tiny")
    if fitted:
        features = find_head(found.network)
        width = found.network.get_submodule(features).in_features
        set_head(found.network, torch.randn(3, width), torch.randn(3))
        found = replace(found, spec=replace(found.spec, head_outputs=3))
    model, config = adapted(found)
    artifact.write_artifact(tmp_path / "model.safetensors", model, config, adapter_only=adapter_only)
    checkpoint = folder / "model.safetensors" if adapter_only and local else None
    if not adapter_only or local:
        server.requests.clear()
    loaded = equicli.load(tmp_path / "model.safetensors", checkpoint=checkpoint)
    assert equicli.read_config(tmp_path / "model.safetensors").preprocess == found.preprocess
    assert tiny.same(loaded, model.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded(images()), model(images()))
    if not adapter_only or local:
        assert server.requests == []


def test_keys_are_the_networks_own(tmp_path: Path) -> None:
    found = load_network(f"transformers:{folder_of(written(), tmp_path / 'network')}")
    model, config = adapted(found)
    artifact.write_artifact(tmp_path / "model.safetensors", model, config)
    keys = load((tmp_path / "model.safetensors").read_bytes()).keys()
    own = {f"prediction_network.{key}" for key in theirs(tmp_path / "network").state_dict()}
    assert {key for key in keys if not key.startswith("canonicalizer.")} == own


def test_an_adapter_cannot_name_a_folder_to_be_read(tmp_path: Path, hub) -> None:
    hub({"acme/tiny": {"main": written()}})
    model, config = adapted(load_network(TINY))
    folder = folder_of(written(), tmp_path / "network")
    path = tmp_path / "model.safetensors"
    for source in ({"model": f"transformers:{folder}"}, {"model": f"transformers:{folder}", "revision": "main"}):
        harm = replace(config, provenance={**source, "sha256": config.provenance["sha256"]})
        artifact.write_artifact(path, model, harm, adapter_only=True)
        with pytest.raises(EquicliError, match=r"revision|no such folder"):
            equicli.load(path)


# Files that were made to do harm


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


def test_code_of_a_repository_is_neither_fetched_nor_run(hub, trap: Path) -> None:
    code = f"from pathlib import Path\nPath({str(trap)!r}).touch()\n".encode()
    auto = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Network"}
    own = {"own.py": code, "preprocessor_config.json": b'{"auto_map": {"AutoImageProcessor": "own.Processor"}}'}
    foreign = repository(auto_map=auto, architectures=["OwnForImageClassification"], model_type="own") | own
    server = hub({"acme/foreign": {"main": foreign}, "acme/native": {"main": repository(auto_map=auto) | own}})
    for model in ("transformers:acme/foreign", "acme/foreign"):
        message = error_of(model)
        assert "auto_map" in message and "never run" in message
    assert load_network("acme/native").network(images()).shape == (2, 4)  # transformers' own class, and no other
    assert not any("own.py" in request for request in server.requests)
    assert not trap.exists() and not any(name.startswith("transformers_modules") for name in sys.modules)


def test_code_in_the_weights_is_not_run(hub, trap: Path) -> None:
    files = repository()
    del files["model.safetensors"]
    hub({"acme/tiny": {"main": files | {"pytorch_model.bin": pickled({"classifier.bias": Touch(trap)})}}})
    assert "never run" in error_of(TINY)
    assert not trap.exists()


@pytest.mark.parametrize(
    "harm",
    [
        {"attn_implementation": "kernels-community/flash-attn"},
        {"_attn_implementation": "kernels-community/flash-attn"},
        {"transformers_weights": "../decoy.safetensors"},
        {"_name_or_path": "acme/decoy"},
        {"fusion_config": {"patch_embeddings": True}},
        {"name_or_path": "/etc/passwd", "adapter": "acme/decoy"},
        {"distributed_config": {"tp_size": 2}},
    ],
    ids=str,
)
def test_a_configuration_chooses_no_other_code_and_no_other_files(hub, harm: dict[str, Any]) -> None:
    server = hub({"acme/tiny": {"main": repository(**harm)}, "acme/plain": {"main": repository()}})
    found, plain = load_network(TINY), load_network("acme/plain")
    assert found.spec == plain.spec
    assert tiny.same(found.network, plain.network.state_dict())
    assert {request.rpartition("/")[2] for request in server.requests if "/resolve/" in request} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("os.system", {"num_labels": 4}),
        ("ViTModel", {"num_labels": 4}),
        ("AutoModelForImageClassification", {"num_labels": 4}),
        ("TimmWrapperForImageClassification", {"num_labels": 4}),
        ("ViTForImageClassification", {"num_labels": 4, "attn_implementation": "kernels-community/flash-attn"}),
        ("ViTForImageClassification", {"num_labels": 4, "quantization_config": {}}),
        ("ViTForImageClassification", {}),
    ],
)
def test_an_artifacts_spec_builds_nothing_but_known_networks(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(EquicliError):
        rebuild_network(NetworkSpec("transformers", name, arguments))


# transformers itself


def test_without_transformers_the_remedy_is_named(monkeypatch) -> None:
    transformers_source.transformers.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    try:
        assert "pip install 'equicli[transformers]'" in error_of(TINY, UsageError)
        with pytest.raises(UsageError, match="equicli"):
            rebuild_network(NetworkSpec("transformers", "ViTForImageClassification", {"num_labels": 4}))
    finally:
        transformers_source.transformers.cache_clear()


def test_transformers_is_imported_only_where_it_is_asked_for(run_code) -> None:
    script = "import sys, equicli.prediction.load; sys.exit('transformers' in sys.modules)"
    assert run_code(script).returncode == 0


def test_loading_says_nothing_and_leaves_its_logging_as_it_was(hub, capfd) -> None:
    hub({"acme/tiny": {"main": repository()}})
    before = transformers.logging.get_verbosity()
    load_network(TINY)
    error_of(TINY, arguments={"num_labels": 9})
    assert capfd.readouterr() == ("", "")
    assert transformers.logging.get_verbosity() == before
    assert transformers.logging.is_progress_bar_enabled()
