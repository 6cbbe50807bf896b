import json
import struct
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import timm
import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import equicli
from equicli.artifact import load, read_config, read_pictures_seen, write_artifact
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.networks import build_canonicalization_network
from equicli.canonicalization.optimized import OptimizedCanonicalizer, OptimizedSpec
from equicli.canonicalization.prior import Prior
from equicli.data.normalization import HALF, IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.groups import parse_group
from equicli.model_config import FORMAT, CanonicalizerSpec, ModelConfig
from equicli.policy import Mean, One
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.head import replace_head
from equicli.prediction.inputs import Tensors
from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import Signature, asking
from tests.canonicalization.examples import create, noise

CONV = NetworkSpec("equicli", "conv", {"width": 4, "outputs": 8})
RESNET = NetworkSpec("timm", "test_resnet", {"num_classes": 6})
network_of = partial(timm.create_model, "test_resnet", num_classes=6)


def model_config(group="c4", canonicalizer=CONV, network=RESNET, **changes):
    """Of an optimized canonicalizer with this network, or of any canonicalizer's own spec."""
    config = ModelConfig(
        task="classification",
        signature=Signature(),
        group=group,
        canonicalizer=CanonicalizerSpec("optimized", asdict(OptimizedSpec(canonicalizer, HALF, 17, 8))),
        prediction_network=network,
        preprocess=Preprocess(32, 34, "bicubic", IMAGENET),
        labels={"ant": 3, "bee": 0},
        provenance={"model": "test_resnet"},
        prior=Prior(("r0",)),
        padding="edge",
    )
    return replace(config, **changes)


def made(config, network=None):
    """A model with weights of its own, batch statistics included."""
    torch.manual_seed(0)
    network = network or network_of()
    canonicalizer = optimized(config, temperature=0.2)
    move_statistics(canonicalizer, canonicalizer.view.size)
    move_statistics(network)
    return config.assemble(canonicalizer, network)


def optimized(config, **options):
    spec = TypeAdapter(OptimizedSpec).validate_python(config.canonicalizer.spec)
    context = Context(parse_group(config.group), config.preprocess.normalization)
    return OptimizedCanonicalizer(spec, context, build_canonicalization_network(spec.network), **options)


def move_statistics(module, side=32):
    with torch.no_grad():
        module.train()(noise(8, side))
    module.eval()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def checkpoint(tmp_path):
    """A user's own file of weights for the prediction network."""
    torch.manual_seed(5)
    save_file(network_of().state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def from_checkpoint(checkpoint, **changes):
    source = {"model": "test_resnet", "checkpoint": checkpoint.name, "sha256": sha256_of(checkpoint)}
    config = model_config(provenance=source, **changes)
    network = network_of()
    network.load_state_dict(load_file(checkpoint))
    if config.prediction_network.head_outputs is not None:
        replace_head(network, config.prediction_network.head_outputs)
    return made(config, network), config


def assert_same(first, second):
    x = noise(4, 32)
    with torch.inference_mode():
        assert torch.equal(first(x), second(x))
        poses = first.find_pose(first.tensors(x)), second.find_pose(second.tensors(x))
        if poses[0] is not None:
            assert torch.equal(poses[0].element, poses[1].element)
            assert poses[0].scores is poses[1].scores is None or torch.equal(poses[0].scores, poses[1].scores)
        assert (poses[0] is None) == (poses[1] is None)
    own, other = first.state_dict(), second.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[key], other[key]) for key in own)


def refusal(function, *args, error=EquicliError, **options):
    """The one line that a call is refused with."""
    with pytest.raises(error) as caught:
        function(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("group", ["c1", "c4", "d4", "c8"])
@pytest.mark.parametrize(
    "canonicalizer", [CONV, NetworkSpec("timm", "test_resnet", {}, head_outputs=8)], ids=["conv", "timm"]
)
def test_a_model_comes_back_bit_for_bit_and_frozen(path, group, canonicalizer):
    config = model_config(group, canonicalizer)
    model = made(config)
    write_artifact(path, model, config)
    loaded = load(path)
    assert_same(loaded, model)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.prediction_network.parameters())


def test_the_package_loads_an_artifact_by_its_path_as_text(path):
    config = model_config()
    model = made(config)
    write_artifact(path, model, config)
    assert_same(equicli.load(str(path)), model)


def test_a_fitted_head_comes_back(path):
    config = model_config(network=replace(RESNET, head_outputs=2))
    network = network_of()
    replace_head(network, 2)
    model = made(config, network)
    write_artifact(path, model, config)
    assert load(path)(noise(1, 32)).shape == (1, 2)
    assert_same(load(path), model)


def test_keys_are_the_two_networks_own(path):
    config = model_config()
    model = made(config)
    write_artifact(path, model, config)
    keys = load_file(path).keys()
    own = {f"prediction_network.{key}" for key in network_of().state_dict()}
    assert {key for key in keys if not key.startswith("canonicalizer.")} == own
    assert {"canonicalizer.reference", "canonicalizer.log_temperature"} <= keys


@pytest.mark.parametrize("adapter_only", [False, True])
def test_pictures_that_training_saw_are_known_again_and_no_weight(path, checkpoint, adapter_only):
    model, config = from_checkpoint(checkpoint)
    seen = frozenset({b"12345678", b"abcdefgh"})
    write_artifact(path, model, config, adapter_only=adapter_only, pictures=seen)
    assert read_pictures_seen(path) == seen
    stored = load_file(path)["training_pictures"]
    assert (stored.dtype, stored.shape) == (torch.uint8, (2, 8))
    loaded = load(path, checkpoint=checkpoint if adapter_only else None)
    assert torch.equal(loaded.canonicalizer.reference, model.canonicalizer.reference)
    write_artifact(path, model, config, adapter_only=adapter_only, pictures=frozenset())
    assert read_pictures_seen(path) == set()  # trained on none, which is known
    write_artifact(path, model, config, adapter_only=adapter_only)
    assert read_pictures_seen(path) is None and "training_pictures" not in load_file(path)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(8, dtype=torch.uint8), torch.zeros(2, 7, dtype=torch.uint8), torch.zeros(2, 8)]
)
def test_damaged_pictures_are_refused_in_one_line(path, tensor):
    save_file({"training_pictures": tensor}, path)
    assert "damaged training_pictures" in refusal(read_pictures_seen, path)


def test_the_header_is_json_that_gives_the_configuration_back(path):
    config = model_config("d4")
    write_artifact(path, made(config), config)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["equicli"])
    assert header["format"] == FORMAT
    assert (header["group"], header["labels"]) == ("d4", {"ant": 3, "bee": 0})
    assert header == json.loads(config.to_json())
    assert read_config(path).to_json() == config.to_json()
    assert isinstance(read_config(path).preprocess.normalization, type(IMAGENET))


def test_networks_that_share_tensors_can_be_written(path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    network[3].weight = network[2].weight
    config = model_config(network=NetworkSpec("python", "Sequential"))
    model = made(config, network)
    write_artifact(path, model, config)
    fresh = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    assert_same(load(path, network=fresh), model)


def test_a_users_own_network_is_asked_for_and_filled_with_the_stored_weights(path):
    config = model_config(network=NetworkSpec("python", "ResNet"))
    model = made(config)
    write_artifact(path, model, config)
    assert "network=" in refusal(load, path)
    assert_same(load(path, network=network_of()), model)


def test_a_users_own_network_with_a_fitted_head_comes_back(path):
    config = model_config(network=NetworkSpec("python", "ResNet", head_outputs=2))
    network = network_of()
    replace_head(network, 2)
    model = made(config, network)
    write_artifact(path, model, config)
    assert_same(load(path, network=network_of()), model)


def test_an_adapter_holds_the_canonicalizer_alone_and_takes_the_network_from_its_checkpoint(path, checkpoint):
    model, config = from_checkpoint(checkpoint)
    write_artifact(path, model, config, adapter_only=True)
    assert all(key.startswith("canonicalizer.") for key in load_file(path))
    assert read_config(path).to_json() == replace(config, adapter_only=True).to_json()
    assert_network_is_that_of(load(path, checkpoint=checkpoint), checkpoint)
    assert checkpoint.name in refusal(load, path)


def assert_network_is_that_of(loaded, checkpoint):
    own = loaded.prediction_network.state_dict()
    assert all(
        torch.equal(own[key], value) for key, value in load_file(checkpoint).items() if not key.startswith("fc.")
    )


def test_an_adapter_gives_the_same_outputs_as_the_whole_model(path, checkpoint):
    config = from_checkpoint(checkpoint)[1]
    network = network_of()
    network.load_state_dict(load_file(checkpoint))
    model = config.assemble(optimized(config), network)
    write_artifact(path, model, config, adapter_only=True)
    assert_same(load(path, checkpoint=checkpoint), model)


def test_an_adapter_keeps_a_fitted_head(path, checkpoint):
    model, config = from_checkpoint(checkpoint, network=replace(RESNET, head_outputs=2))
    write_artifact(path, model, config, adapter_only=True)
    kept = {key for key in load_file(path) if key.startswith("prediction_network.")}
    assert kept == {"prediction_network.fc.weight", "prediction_network.fc.bias"}
    loaded = load(path, checkpoint=checkpoint)
    assert torch.equal(loaded.prediction_network.fc.weight, model.prediction_network.fc.weight)
    assert_network_is_that_of(loaded, checkpoint)


@pytest.mark.parametrize("library", ["timm", "python"])
def test_an_adapter_refuses_other_weights_than_those_it_was_trained_for(path, checkpoint, tmp_path, library):
    spec = RESNET if library == "timm" else NetworkSpec("python", "ResNet")
    model, config = from_checkpoint(checkpoint, network=spec)
    write_artifact(path, model, config, adapter_only=True)
    other = tmp_path / "other.safetensors"
    save_file({key: value + 1 for key, value in load_file(checkpoint).items()}, other)
    network = network_of() if library == "python" else None
    assert "sha256" in refusal(load, path, checkpoint=other, network=network)
    assert_network_is_that_of(load(path, checkpoint=checkpoint, network=network), checkpoint)


def test_an_adapter_of_weights_from_no_file_is_not_written(path):
    config = model_config(network=NetworkSpec("python", "ResNet"), provenance={"model": "python"})
    assert "--checkpoint" in refusal(write_artifact, path, made(config), config, adapter_only=True)
    assert not path.exists()


@pytest.fixture
def written(path):
    config = model_config()
    write_artifact(path, made(config), config)
    return path


def rewrite(path, change):
    """Write the artifact again with a changed header, of which `change` gives the text."""
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["equicli"])
    header = change(content)
    save_file(load_file(path), path, metadata=None if header is None else {"equicli": header})


@pytest.mark.parametrize("length", [0, 4, 100, -1, -5000])
def test_a_truncated_file_is_refused_in_one_line(written, length):
    written.write_bytes(written.read_bytes()[:length])
    assert str(written) in refusal(load, written)


@pytest.mark.parametrize("content", [b"no tensors", struct.pack("<Q", 1 << 60) + b"{}"], ids=["text", "huge header"])
def test_a_file_that_is_no_artifact_is_refused_in_one_line(path, content):
    path.write_bytes(content)
    assert "not a readable safetensors file" in refusal(load, path)


@pytest.mark.parametrize("name", ["missing.safetensors", "."])
def test_where_no_file_is_nothing_is_loaded(tmp_path, name):
    assert "no such file" in refusal(load, tmp_path / name, error=UsageError)


@pytest.mark.parametrize("header", [None, "no JSON", "[1]", "{}", "null"])
def test_weights_without_a_configuration_are_no_artifact(written, header):
    rewrite(written, lambda _: header)
    assert "not an equicli artifact" in refusal(load, written)


def test_an_artifact_of_a_newer_format_asks_for_an_update(written):
    rewrite(written, lambda content: json.dumps({**content, "format": FORMAT + 1}))
    message = refusal(load, written)
    assert f"format {FORMAT + 1}" in message and "update equicli" in message


CANONICALIZER = json.loads(model_config().to_json())["canonicalizer"]


@pytest.mark.parametrize(
    "change",
    [
        {"group": "x9"},
        {"group": 4},
        {"task": 3},
        {"preprocess": None},
        {"preprocess": {"size": "big", "resize": 1, "interpolation": "bilinear", "normalization": [[0] * 3, [1] * 3]}},
        {"preprocess": {"size": 8, "resize": 8, "interpolation": "magic", "normalization": [[0] * 3, [1] * 3]}},
        {"labels": ["ant"]},
        {"canonicalizer": {}},
        {"canonicalizer": {**CANONICALIZER, "kind": "steerable"}},
        {"canonicalizer": {**CANONICALIZER, "kind": "nonesuch"}},
        {"canonicalizer": {**CANONICALIZER, "spec": {**CANONICALIZER["spec"], "vector_size": 9}}},
        {"padding": "wrap"},
        {"padding": 3},
        {"prior": {"poses": ["r45"]}},
        {"prior": {"poses": ["upright"]}},
        {"prior": {"poses": ["r0m"]}},
        {"prior": {"poses": []}},
        {"prior": {"poses": ["r0", "r90"], "shares": [1.0]}},
        {"prior": ["r0"]},
        {"group": "so2"},
        {"group": "so3"},
        {"policy": {"kind": "all"}},
        {"policy": {"kind": "mean", "of": "boxes"}},
        {"policy": "one"},
        {"signature": {"inputs": "image", "outputs": "wishes"}},
        {"signature": {"inputs": ["image", {"prompts": "hints"}], "outputs": "logits"}},
        {"signature": {"inputs": 3, "outputs": "logits"}},
        {"signature": "logits"},
        {"signature": {"inputs": "image", "outputs": "boxes"}, "policy": {"kind": "mean", "of": "logits"}},
        {"signature": {"inputs": "image", "outputs": ["logits", "mask"]}, "policy": {"kind": "mean", "of": "logits"}},
        {"prediction_network": {"library": "timm", "architecture": "nonesuch"}},
        {"prediction_network": {"library": "timm", "architecture": "test_resnet", "arguments": {"bogus": 1}}},
        {"prediction_network": {"library": "timm", "architecture": "test_resnet", "arguments": {"pretrained": True}}},
        {"prediction_network": {"library": "torchvision", "architecture": "nonesuch"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_configuration_is_refused_in_one_line(written, change):
    rewrite(written, lambda content: json.dumps({**content, **change}))
    assert refusal(load, written)


def nested(content, *keys):
    for key in keys:
        content = content[key]
    return content


PLACES = [
    (), ("signature",), ("canonicalizer",), ("canonicalizer", "spec"), ("canonicalizer", "spec", "network"),
    ("prediction_network",), ("preprocess",), ("prior",), ("policy",),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=lambda keys: ".".join(keys) or "header")
@pytest.mark.parametrize("version", [1, FORMAT])
def test_an_unknown_field_anywhere_is_refused_with_the_remedy(written, place, version):
    def change(content):
        nested(content, *place)["surprise"] = 1
        if version == 1:
            del content["signature"], content["policy"]
            content |= {"format": 1, "average": "none"}
        return json.dumps(content)

    if version == 1 and place in [("signature",), ("policy",)]:
        return  # had none
    rewrite(written, change)
    message = refusal(load, written)
    assert str(written) in message and "update equicli" in message
    assert "unknown field " + ".".join(place) in message and "surprise in" in message


@pytest.mark.parametrize("name", ["signature", "policy"])
def test_what_format_1_had_not_is_refused_there(written, name):
    def change(content):
        del content["policy" if name == "signature" else "signature"]
        return json.dumps({**content, "format": 1, "average": "none"})

    rewrite(written, change)
    assert f"{name}: format 1 has none" in refusal(load, written)


SIGNATURES = [
    Signature(),
    Signature("image", "keypoints"),
    Signature({"image": "image", "prompts": ("keypoints", {"boxes": "boxes"})}, ("mask", "invariant"), lists=True),
]


@pytest.mark.parametrize("signature", SIGNATURES, ids=str)
def test_a_signature_survives_being_stored(path, signature):
    config = model_config(signature=signature)
    write_artifact(path, made(model_config(signature=signature)), config)
    assert read_config(path).signature == load(path).signature == signature


@pytest.mark.parametrize("policy", [One(), Mean(), Mean("logits")], ids=str)
def test_a_policy_survives_being_stored_and_decides_how_the_network_is_asked(path, policy):
    config = model_config(policy=policy)
    model = made(config)
    write_artifact(path, model, config)
    assert read_config(path).policy == load(path).policy == policy
    assert_same(load(path), model)
    assert load(path).passes(None) == (4 if isinstance(policy, Mean) else 1)


def test_averaging_over_infinitely_many_poses_is_refused(path):
    _, model, config = of_kind(*KINDS[3])
    write_artifact(path, model, config)
    rewrite(path, lambda content: json.dumps({**content, "policy": asdict(Mean())}))
    assert "policy: so2 has infinitely many poses" in refusal(load, path)


FORMAT_1 = Path(__file__).parent / "format1"  # written by what came before this format, random weights
OF_FORMAT_1 = sorted(path.stem for path in FORMAT_1.glob("*-*.safetensors"))


@pytest.mark.parametrize("name", OF_FORMAT_1)
def test_an_artifact_of_format_1_gives_what_it_gave_then(name):
    expected = load_file(FORMAT_1 / "expected.safetensors")
    model = load(FORMAT_1 / f"{name}.safetensors")
    with torch.inference_mode():
        found = model.answer(model.tensors(expected[f"{name}.images"].float()))
    torch.testing.assert_close(found.output, expected[f"{name}.logits"], atol=1e-5, rtol=0)
    poses = expected[f"{name}.poses"]
    if poses.is_floating_point():
        torch.testing.assert_close(found.pose.element, poses, atol=1e-5, rtol=0)
    else:
        assert torch.equal(found.pose.element, poses)


@pytest.mark.parametrize("name", OF_FORMAT_1)
def test_a_header_of_format_1_is_read_as_one_of_this_format_and_written_so(path, name):
    config = read_config(FORMAT_1 / f"{name}.safetensors")
    assert config.format == FORMAT and config.signature == Signature()
    assert config.policy == (Mean("probabilities") if name == "c4-mean" else One())
    if name == "c4-frame":
        assert config.canonicalizer.spec == {"size": None}
    model = load(FORMAT_1 / f"{name}.safetensors")
    write_artifact(path, model, config)
    assert read_config(path).to_json() == config.to_json()
    assert_same(load(path), model)


def test_artifacts_of_format_1_are_there_to_be_read():
    assert len(OF_FORMAT_1) == 6


def test_a_canonicalization_network_that_cannot_be_built_is_refused_in_one_line(written):
    def change(content):
        content["canonicalizer"]["spec"]["network"]["arguments"] = {"width": 4, "outputs": 8, "depth": 3}
        return json.dumps(content)

    rewrite(written, change)
    assert refusal(load, written)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("prediction_network.fc.weight", lambda value: value[:3], "of another shape"),
        ("canonicalizer.reference", lambda value: value[:3], "of another shape"),
        ("prediction_network.fc.weight", lambda value: None, "missing"),
        ("canonicalizer.log_temperature", lambda value: None, "missing"),
    ],
)
def test_weights_that_do_not_fit_are_named(written, key, change, words):
    with safe_open(written, "pt") as file:
        metadata = file.metadata()
    weights = load_file(written)
    changed = change(weights.pop(key))
    if changed is not None:
        weights[key] = changed.clone()
    save_file(weights, written, metadata=metadata)
    message = refusal(load, written)
    assert words in message and key in message


def test_weights_that_belong_to_neither_network_are_refused(written):
    with safe_open(written, "pt") as file:
        metadata = file.metadata()
    save_file({**load_file(written), "prediction_network.extra": torch.zeros(1)}, written, metadata=metadata)
    assert "prediction_network.extra" in refusal(load, written)


def test_an_artifact_takes_anothers_place_whole_and_leaves_nothing_beside_it(written):
    before = written.read_bytes()
    config = model_config("d4")
    with written.open("rb") as reader:
        write_artifact(written, made(config), config)
        assert reader.read() == before
    assert read_config(written).to_json() == config.to_json()
    assert [p.name for p in written.parent.iterdir()] == [written.name]


class Opened:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_an_artifact_cannot_name_a_file_to_be_read(written, tmp_path):
    torch.save(Opened(tmp_path / "marker"), tmp_path / "weights.pth")

    def change(content):
        content["prediction_network"]["arguments"] |= {"checkpoint_path": str(tmp_path / "weights.pth")}
        return json.dumps(content)

    rewrite(written, change)
    assert refusal(load, written)
    assert not (tmp_path / "marker").exists()


def test_a_header_can_neither_import_nor_call_anything(tmp_path):
    """What a hostile artifact would say to run a command when it is loaded."""
    canonicalizer = {
        "kind": "optimized",
        "spec": {
            "network": {"library": "equicli", "architecture": "conv", "arguments": {}},
            "normalization": [[0.5] * 3, [0.5] * 3], "size": 8, "vector_size": 4,
        },
    }  # fmt: skip
    network = {
        "library": "timm",
        "architecture": "call",
        "arguments": {"args": f"touch {tmp_path}/owned", "shell": True},
    }
    header = {
        "task": "classification", "group": "c4", "canonicalizer": canonicalizer,
        "prediction_network": network, "labels": {}, "adapter_only": True,
        "preprocess": {"size": 8, "resize": 8, "interpolation": "bilinear", "normalization": [[0.5] * 3, [0.5] * 3]},
        "provenance": {"model": "python:subprocess:call", "sha256": "0"}, "prior": {"poses": ["r0"]}, "padding": "edge",
    }  # fmt: skip
    second = {"format": FORMAT, "signature": asdict(Signature()), "policy": asdict(One())}
    for library, version in product(("timm", "torchvision", "python"), ({"format": 1}, second)):
        network["library"] = library
        save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"equicli": json.dumps(header | version)})
        with pytest.raises(EquicliError, match="damaged configuration at provenance"):
            load(tmp_path / "a.safetensors")
        assert not (tmp_path / "owned").exists()


KINDS = [
    ("equivariant", "c4", {"size": 17, "width": 4}),
    ("equivariant", "d4", {"size": 17, "width": 8, "network": "gwrn"}),
    ("equivariant", "c8", {"size": 17, "width": 8}),
    ("steerable", "so2", {"size": 17, "width": 4}),
    ("steerable", "o2", {"size": 17, "width": 4}),
    ("energy", "c4", {}),
    ("energy", "d8", {}),
    ("optimized", "c8", {"size": 16, "width": 4, "vector_size": 8}),
    ("frame", "c4", {}),
    ("frame", "c8", {}),
    ("none", "d4", {}),
]
ESCNN = ("equivariant", "c8", {"size": 17, "width": 8, "network": "escnn"})


def of_kind(kind, group, settings, padding="edge", network=None):
    """The poses of a trained form, and the shipped model of any kind with its configuration."""
    torch.manual_seed(4)
    network = (network or network_of()).eval()
    canonicalizer = create(kind, group, seed=4, **settings)
    if canonicalizer.learns:
        move_statistics(canonicalizer, canonicalizer.view.size)
    before = found(canonicalizer, network) if canonicalizer.finds_poses else None
    config = model_config(group, padding=padding, prior=Prior(("r0", "r180")), preprocess=AS_TRAINED)
    config = replace(config, canonicalizer=CanonicalizerSpec(kind, asdict(canonicalizer.spec)))
    return before, config.assemble(canonicalizer.ship(), network), config


@torch.inference_mode()
def found(canonicalizer, network):
    return canonicalizer.find(Tensors(noise(4, 32), HALF), asking(network, Signature()))


AS_TRAINED = Preprocess(32, 34, "bicubic", HALF)


@pytest.mark.parametrize("padding", ["edge", "zeros"])
@pytest.mark.parametrize(("kind", "group", "settings"), KINDS, ids=lambda part: part if isinstance(part, str) else "")
def test_every_kind_comes_back_bit_for_bit(path, kind, group, settings, padding):
    before, model, config = of_kind(kind, group, settings, padding)
    write_artifact(path, model, config)
    loaded = load(path)
    assert read_config(path).to_json() == config.to_json()
    assert loaded.padding == padding and not loaded.training
    assert_same(loaded, model)
    if before is None:
        return
    shipped = found(loaded.canonicalizer, loaded.prediction_network)
    assert_close = torch.testing.assert_close
    if before.scores is None:
        assert_close(shipped.element, before.element, atol=1e-5, rtol=0)
    else:
        assert_close(shipped.scores, before.scores, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("escnn")
def test_a_network_of_escnns_layers_comes_back_bit_for_bit(path):
    test_every_kind_comes_back_bit_for_bit(path, *ESCNN, "edge")


def test_energy_stores_the_network_once_and_asks_the_one_it_is_loaded_with(path):
    _, model, config = of_kind("energy", "c4", {})
    write_artifact(path, model, config)
    assert not any(key.startswith("canonicalizer.") for key in load_file(path))
    loaded = load(path)
    assert not list(loaded.canonicalizer.parameters())
    x = noise(2, 32)
    with torch.inference_mode():
        scores = loaded.find_pose(loaded.tensors(x)).scores
        assert torch.equal(scores[:, 0], loaded.prediction_network(x).logsumexp(dim=1))


@pytest.mark.parametrize(("kind", "group", "settings"), [KINDS[0], KINDS[3], KINDS[5]], ids=str)
def test_an_adapter_of_any_kind_gives_the_same_outputs_as_the_whole_model(path, checkpoint, kind, group, settings):
    network = network_of()
    network.load_state_dict(load_file(checkpoint))
    _, model, config = of_kind(kind, group, settings, network=network)
    source = {"model": "test_resnet", "checkpoint": checkpoint.name, "sha256": sha256_of(checkpoint)}
    write_artifact(path, model, replace(config, provenance=source), adapter_only=True)
    assert_same(load(path, checkpoint=checkpoint), model)


@pytest.mark.usefixtures("escnn")
def test_nothing_but_torch_is_needed_to_load_an_equivariant_or_steerable_artifact(tmp_path, run_code):
    """In a process that cannot import escnn."""
    for name, (kind, group, settings) in {"gcnn": KINDS[0], "steerable": KINDS[3], "escnn": ESCNN}.items():
        _, model, config = of_kind(kind, group, settings)
        write_artifact(tmp_path / f"{name}.safetensors", model, config)
    script = (
        "import sys; sys.modules['escnn'] = sys.modules['e2cnn'] = None\n"
        "import equicli, torch\n"
        "for name in sys.argv[1:]: assert equicli.load(name)(torch.zeros(1, 3, 32, 32)).shape == (1, 6)\n"
    )
    files = sorted(tmp_path.glob("*.safetensors"))
    done = run_code(script, *files)
    assert len(files) == 3 and done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "group", "spec", "words"),
    [
        ("equivariant", "c4", {"network": "gcnn", "size": 17}, "canonicalizer.spec.width"),
        ("equivariant", "c4", {"network": "gcnn", "size": 16, "width": 4}, "canonicalizer.spec.size"),
        ("equivariant", "c4", {"network": "gcnn", "size": "17 px", "width": 4}, "canonicalizer.spec.size"),
        ("equivariant", "c4", {"network": "gcnn", "size": 10**9 + 1, "width": 4}, "canonicalizer.spec.size"),
        ("equivariant", "c4", {"network": "gcnn", "size": 17, "width": 10**9}, "canonicalizer.spec.width"),
        ("equivariant", "c4", {"network": "os.system", "size": 17, "width": 4}, "canonicalizer.spec.network"),
        ("equivariant", "c4", {"network": "gcnn", "size": 17, "width": 8}, "another shape"),
        ("equivariant", "so2", {"network": "gcnn", "size": 17, "width": 4}, "'equivariant' is none for so2"),
        ("steerable", "c4", {"size": 17, "width": 4}, "'steerable' is none for c4"),
        ("energy", "so2", {}, "'energy' is none for so2"),
        ("energy", "c4", {}, "canonicalizer."),
        ("nonesuch", "c4", {}, "'nonesuch' is none for c4"),
        ("optimized", "c4", {}, "canonicalizer.spec.network"),
        ("equivariant", "c4", [], "canonicalizer.spec"),
        ("equivariant", "c4", None, "canonicalizer.spec"),
    ],
)
def test_a_spec_that_does_not_fit_its_kind_or_its_weights_is_refused_in_one_line(path, kind, group, spec, words):
    _, model, config = of_kind("equivariant", "c4", {"size": 17, "width": 4})
    write_artifact(path, model, config)
    rewrite(
        path, lambda content: json.dumps({**content, "group": group, "canonicalizer": {"kind": kind, "spec": spec}})
    )
    assert words in refusal(load, path)
