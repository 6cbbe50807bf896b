"""Weights from a user's own file."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from equicli.errors import EquicliError, UsageError
from equicli.prediction.checkpoint import load_own, read_checkpoint, read_weights
from equicli.prediction.checkpoint_files import sha256_of
from equicli.prediction.load import load_network
from equicli.prediction.timm_source import create
from tests.prediction.tiny import CLASSES, State, pickled, same, weights

ARGUMENTS = {"num_classes": CLASSES}
WEIGHTS = weights()
# What torch's pickles are made of, so that random bytes get further than the first one.
OPCODES = st.sampled_from([bytes([c]) for c in b"\x80\x02}q\x00.]()cRobX\x01aKN\x85\x86uetls0\n{["]) | st.binary(
    max_size=3
)


def prefixed(prefix: str) -> State:
    return {prefix + key: value for key, value in WEIGHTS.items()}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "best_prec1": 0.9},
        {"model": WEIGHTS},
        {"model_state_dict": WEIGHTS, "optimizer_state_dict": {"step": 1}},
        {"net": {"state_dict": WEIGHTS}},
        prefixed("module."),
        prefixed("_orig_mod."),
        prefixed("module._orig_mod."),
        prefixed("_orig_mod.module."),
        {"state_dict": prefixed("module.")},
    ],
    ids="plain state_dict model model_state_dict nested module compiled module+compiled compiled+module both".split(),
)
def test_wrappers_around_a_state_dict_are_removed(tmp_path: Path, content: object) -> None:
    network = create("test_resnet", ARGUMENTS)
    load_own(network, read_checkpoint(write(tmp_path / "w.pth", pickled(content))), "w")
    assert same(network, WEIGHTS)


def test_whose_classes_a_file_without_names_is_taken_to_have_is_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = write(tmp_path / "own.safetensors", save(create("test_resnet", {}).state_dict()))
    (remark,) = load_network("test_resnet", checkpoint=str(path)).remarks
    assert remark.startswith(f"nothing in {path.name} names its 1000 classes") and "test_resnet" in remark
    own = write(tmp_path / "nine.safetensors", save(WEIGHTS))
    assert load_network("test_resnet", checkpoint=str(own), arguments=ARGUMENTS).remarks == ()


@pytest.mark.parametrize("suffix", [".safetensors", ".SAFETENSORS", ".pth", ".th", ".bin", ""])
def test_a_file_gives_its_weights_bit_for_bit_and_is_recorded(tmp_path: Path, suffix: str) -> None:
    content = save(WEIGHTS) if suffix.lower() == ".safetensors" else pickled(WEIGHTS)
    path = write(tmp_path / f"weights{suffix}", content)
    found = load_network("test_resnet", checkpoint=str(path), arguments=ARGUMENTS)
    assert same(found.network, WEIGHTS)
    assert not found.network.training
    assert found.provenance == {
        "model": "test_resnet",
        "checkpoint": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    half = {key: value.half() if value.is_floating_point() else value for key, value in WEIGHTS.items()}
    network = create("test_resnet", ARGUMENTS)
    load_own(network, read_checkpoint(write(tmp_path / "half.safetensors", save(half))), "w")
    assert same(network, {key: value.float() if value.is_floating_point() else value for key, value in half.items()})


def test_counts_of_batches_which_old_files_lack_are_not_missed(tmp_path: Path) -> None:
    old = {key: value for key, value in WEIGHTS.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(WEIGHTS)
    network = create("test_resnet", ARGUMENTS)
    load_own(network, read_checkpoint(write(tmp_path / "old.pth", pickled(old))), "w")
    assert same(network, WEIGHTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fc.weight": torch.ones(7, 96)}, ["1 of another shape", "fc.weight: (7, 96) in the file", "(4, 96) in the"]),
        ({"fc.weight": None, "fc.bias": None}, ["2 missing (fc.weight)"]),
        ({"tail.weight": torch.ones(1)}, ["1 unexpected (tail.weight)"]),
        ({"fc.bias": None, "x": torch.ones(1), "y": torch.ones(1)}, ["1 missing (fc.bias)", "2 unexpected (x)"]),
    ],
    ids=["shape", "missing", "unexpected", "both"],
)
def test_weights_of_another_network_are_counted_and_named(tmp_path: Path, change: State, words: list[str]) -> None:
    content = {key: value for key, value in (WEIGHTS | change).items() if value is not None}
    path = write(tmp_path / "other.safetensors", save(content))
    network = create("test_resnet", ARGUMENTS)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(EquicliError) as caught:
        load_own(network, read_checkpoint(path), str(path))
    for word in [str(path), "--model-arg", *words]:
        assert word in str(caught.value)
    assert same(network, before)  # all or nothing


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("empty.safetensors", b""),
        ("short.safetensors", b"\x10\x00"),
        ("header.safetensors", (10).to_bytes(8, "little") + b"not JSON!!"),
        ("huge.safetensors", b"\xff" * 16),
        ("cut.safetensors", save(WEIGHTS)[:-9]),
        ("cut.pth", pickled(WEIGHTS)[:-500]),
        ("text.pth", b"<!DOCTYPE html>\n<html>Not Found</html>"),
        ("list.pth", pickled([torch.ones(1)])),
        ("tensor.pth", pickled(torch.ones(1))),
        ("nothing.pth", pickled({})),
        ("numbers.pth", pickled({"epoch": 3, "accuracy": 0.5})),
        ("module.pth", pickled(torch.nn.Linear(2, 2))),
    ],
)
def test_what_holds_no_weights_is_one_line_that_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(EquicliError) as caught:
        load_network("test_resnet", checkpoint=str(path), arguments=ARGUMENTS)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@given(st.lists(OPCODES, max_size=60).map(b"".join))
def test_no_bytes_whatever_make_a_checkpoint_fail_otherwise(tmp_path_factory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp() / "fuzz.pth", content)
    with pytest.raises(EquicliError):
        read_weights(path)


@pytest.mark.parametrize("name", ["none.pth", "folder"])
def test_a_checkpoint_that_is_no_file_is_a_wrong_command_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=rf"--checkpoint .*{name}: no such file"):
        load_network("test_resnet", checkpoint=str(tmp_path / name))


def test_the_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one block
    assert sha256_of(write(tmp_path / "file", content)) == hashlib.sha256(content).hexdigest()


@pytest.mark.real
def test_a_published_checkpoint_of_cuda_tensors_loads_into_its_network(real_data: Path) -> None:
    path = real_data / "checkpoints" / "resnet20-12fca82f.th"
    found = load_network("python:tests.benchmarks.cifar_resnet:resnet20", checkpoint=str(path))
    stored = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    state = found.network.state_dict()
    assert all(torch.equal(state[key.removeprefix("module.")], value) for key, value in stored.items())
