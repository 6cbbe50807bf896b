"""Checkpoints as people have them: what each is, made from nothing, and what happens."""

import argparse
import collections
import datetime
import gzip
import hashlib
import io
import json
import os
import pathlib
import pickle
import re
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save
from torch import nn

from equicli.errors import EquicliError, UsageError
from equicli.prediction.load import load_network
from tests.prediction.tiny import State, pickled, repository, same, weights

MODEL = f"python:{__name__}:network"


def network(classes: int = 5) -> nn.Module:
    """A network of its own kind: convolution, batch norm, head."""
    layers = {"conv": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4), "pool": nn.AdaptiveAvgPool2d(1)}
    return nn.Sequential(collections.OrderedDict(**layers, flat=nn.Flatten(), fc=nn.Linear(4, classes)))


torch.manual_seed(0)
NET = network()
W: State = NET.state_dict()  # the weights
E: State = {key: value + 1 for key, value in W.items()}  # their average
ADAM = torch.optim.Adam(NET.parameters())
NET(torch.rand(2, 3, 8, 8)).sum().backward()
ADAM.step()
NET.load_state_dict(W := {key: value.clone() for key, value in W.items()})
DAY = datetime.datetime(2024, 1, 1)
ARGS = argparse.Namespace(model="resnet", lr=1e-3, output=pathlib.PurePosixPath("/x"), when=DAY)
AVERAGED = torch.optim.swa_utils.AveragedModel(NET).state_dict()


def under(prefix: str, state: State = W) -> State:
    return {prefix + key: value for key, value in state.items()}


def between(state: State = W) -> State:
    """torch.compile on a part."""
    return {key.replace("conv.", "conv._orig_mod."): value for key, value in state.items()}


def lightning(**entries: Any) -> dict[str, Any]:
    """What Lightning's trainer writes."""
    return {
        "epoch": 3,
        "global_step": 300,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": under("model."),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.5), "best_k_models": {}}
        },
        "optimizer_states": [ADAM.state_dict()],
        "lr_schedulers": [{"last_epoch": 3}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-3, "criterion": nn.CrossEntropyLoss(torch.ones(5)), "act": nn.ReLU},
    } | entries


# Libraries that need not be installed, while something is pickled.
FOREIGN: dict[str, types.ModuleType] = {}


def stood_for(name: str, kind: type = object) -> Any:
    """An object of a class of a library that need not be installed."""
    module, _, leaf = name.rpartition(".")
    made = type(leaf, (kind,), {"__module__": module})
    parents = module.split(".")
    for end in range(1, len(parents) + 1):
        FOREIGN.setdefault(".".join(parents[:end]), types.ModuleType(parents[end - 1]))
    setattr(FOREIGN[module], leaf, made)
    return made()


def config_of(name: str) -> Any:
    config = stood_for(name)
    config.__dict__.update(_content={"lr": 1}, _parent=None)
    return config


LIT_AVERAGED = lightning(
    state_dict=under("model.", E),
    current_model_state=under("model."),
    averaging_state={"n_averaged": torch.tensor(3)},
)
LIT_WITHIN = lightning(state_dict=under("model.") | under("ema_model.module.", E))


class Row(NamedTuple):
    """A checkpoint, and the weights that are taken of it (None: it is refused) with words of what is said."""

    what: str
    content: Any
    taken: State | None = W
    said: tuple[str, ...] = ()
    ema: str = "auto"


LOADS = [
    Row("a state dict", W),
    Row("of torchvision's trainer", {"model": W, "optimizer": ADAM.state_dict(), "epoch": 1, "args": ARGS}),
    Row("of timm's trainer", {"epoch": 1, "arch": "resnet", "state_dict": W, "args": ARGS, "metric": np.float64(0.5)}),
    Row(
        "of ImageNet's example",
        {"state_dict": under("module."), "best_acc1": torch.tensor(0.7), "optimizer": {}},
        W,
        ("'module.'",),
    ),
    Row("plain PyTorch's", {"model_state_dict": W, "optimizer_state_dict": ADAM.state_dict(), "loss": 0.5}),
    *(Row(f"under {key}", {key: W, "epoch": 1}) for key in "net network weights params module state".split()),
    Row("under a name of their own", {"my_classifier": W, "epoch": 3}),
    Row("nested", {"state_dict": {"model": W, "optimizer": ADAM.state_dict()}}),
    Row("the optimizer first", {"optimizer": ADAM.state_dict(), "scaler": {"scale": torch.ones(1)}, "net": W}),
    Row("a whole optimizer beside", {"model": W, "optimizer": ADAM}),
    Row("fastai's", {"model": W, "opt": {"state": [{"step": torch.ones(1)}], "hypers": [{"lr": 1e-3}]}}),
    Row("Lightning's", lightning(), W, ("'model.'",)),
    Row("Lightning's, net", lightning(state_dict=under("net.")), W, ("'net.'",)),
    Row("Lightning's, DataParallel", lightning(state_dict=under("model.module.")), W, ("'model.module.'",)),
    Row(
        "Lightning's with more in it",
        lightning(state_dict=under("model.") | {"criterion.weight": torch.ones(5), "val_acc.total": torch.zeros(1)}),
        W,
        ("left aside", "2 entries", "criterion.weight"),
    ),
    *(
        Row(f"names begin with {prefix}", under(prefix), W, (f"'{prefix}'",))
        for prefix in "module. _orig_mod. model. net. backbone. encoder. network. module._orig_mod. a.b.".split()
    ),
    Row("compiled in the middle", between(), W, ("_orig_mod.",)),
    Row("compiled in the middle, and parallel", under("module.", between()), W, ("_orig_mod.",)),
    Row("the loss's weights beside", W | {"criterion.weight": torch.ones(5)}, W, ("left aside", "criterion.weight")),
    Row("a profiler's counts", W | {"total_ops": torch.ones(1), "conv.total_ops": torch.ones(1)}, W, ("left aside",)),
    Row("without counts of batches", {k: v for k, v in W.items() if "num_batches" not in k}),
    Row("an epoch among the weights", W | {"epoch": 3}, W, ("left aside", "epoch")),
    Row("numbers and arrays of NumPy's", {"net": W, "a": np.float32(1), "b": np.zeros((3, 2)), "c": np.dtype("f4")}),
    Row("random states", {"net": W, "np": np.random.RandomState(0).get_state(), "rng": np.random.default_rng(0)}),
    Row("containers", collections.defaultdict(dict, net=W, q=collections.deque([1], 3), c=collections.Counter("aab"))),
    Row("paths, dates, types", {"net": W, "p": Path("/x"), "d": datetime.timedelta(1), "t": int, "s": frozenset([1])}),
    Row("mmengine's", {"meta": {}, "state_dict": W, "message_hub": {"h": config_of("mmengine.logging.HistoryBuffer")}}),
    Row("omegaconf's", {"state_dict": W, "cfg": config_of("omegaconf.dictconfig.DictConfig"), "t": Any}),
    Row("EasyDict's", {"state_dict": W, "cfg": stood_for("easydict.EasyDict", dict)}),
    Row("parameters, not tensors", {key: nn.Parameter(v) if v.is_floating_point() else v for key, v in W.items()}),
    # Averages
    Row("timm's average", {"state_dict": W, "state_dict_ema": E}, E, ("averaged", "state_dict_ema", "--ema no")),
    Row("timm's average, not wanted", {"state_dict": W, "state_dict_ema": E}, W, ("aside", "state_dict_ema"), "no"),
    Row("model_ema", {"model": W, "model_ema": E}, E, ("model_ema",), "yes"),
    Row("ema.module", {"model": W, "ema": {"module": under("module.", E), "updates": 3}}, E, ("ema.module",)),
    Row("BasicSR's", {"params": W, "params_ema": E}, E, ("params_ema",)),
    Row("Lightning's average", LIT_AVERAGED, E, ("state_dict",)),
    Row("Lightning's average, not wanted", LIT_AVERAGED, W, ("aside",), "no"),
    Row("Lightning's, an average in the module", LIT_WITHIN, E, ("ema_model.module.", "--ema no")),
    Row("the same, not wanted", LIT_WITHIN, W, ("aside",), "no"),
    Row(
        "Lightning's stochastic average",
        lightning(callbacks={"SWA": {"average_model_state": under("model.", E)}}),
        E,
        ("average_model_state",),
    ),
    Row(
        "mmengine's average, swapped",
        {"state_dict": E, "ema_state_dict": under("module."), "message_hub": {}},
        E,
        ("averaged",),
    ),
    Row("torch's average", AVERAGED, W, ("averaged", "n_averaged"), "yes"),
    Row("no average wanted where there is none", {"model": W}, W, (), "no"),
]

ALONE = "torch.save(model.state_dict()"


class Own:
    """A class of the trainer's own."""


REFUSED = [
    Row("a whole network", NET, None, ("whole pickled network", ALONE)),
    Row("a whole network in it", {"model": NET, "epoch": 3}, None, ("whole pickled network", ALONE)),
    Row("an object of one's own", {"model": W, "config": Own()}, None, (f"{__name__}.Own", "never run", ALONE)),
    Row("a function that runs", {"model": W, "x": types.SimpleNamespace(f=os.system)}, None, ("system", "never run")),
    Row(
        "an object of a library",
        {"model": W, "x": stood_for("our.trainer.State")},
        None,
        ("our.trainer.State", "never run", ALONE),
    ),
    Row("an optimizer alone", ADAM.state_dict(), None, ("no state dict", "param_groups")),
    Row("arrays of NumPy's", {key: value.numpy() for key, value in W.items()}, None, ("NumPy arrays", "from_numpy")),
    Row("two networks", {"generator": W, "discriminator": W}, None, ("several networks", "generator", "alone")),
    Row("twice the network", under("student_a.") | under("student_b."), None, ("several times", "student_b.")),
    Row("one entry missing", {k: v for k, v in W.items() if k != "fc.bias"}, None, ("1 missing", "fc.bias")),
    Row("a deeper network", W | {"conv.2.weight": torch.ones(4)}, None, ("1 unexpected", "conv.2.weight")),
    Row("another width", W | {"conv.weight": torch.ones(4, 3, 5, 5)}, None, ("(4, 3, 5, 5)", "(4, 3, 3, 3)")),
    Row("another head", W | {"fc.weight": torch.ones(7, 4), "fc.bias": torch.ones(7)}, None, ("num_classes=7",)),
    Row("quantized", W | {"conv.weight": W["conv.weight"].to(torch.int8)}, None, ("quantized",)),
    Row("without numbers", {key: value.to("meta") for key, value in W.items()}, None, ("no numbers", "meta")),
    Row("no average, but wanted", {"model": W}, None, ("no averaged weights", "--ema yes"), "yes"),
    Row("only an average, and not wanted", {"model_ema": E}, None, ("only averaged", "--ema"), "no"),
    Row(
        "an average of other shape",
        {"model": W, "model_ema": {"fc.weight": torch.ones(5, 4)}},
        None,
        ("missing", "--ema no"),
    ),
]


def load(path: Path, row: Row) -> Any:
    return load_network(MODEL, checkpoint=str(path), ema=row.ema)


@pytest.mark.parametrize("row", LOADS, ids=lambda row: row.what)
def test_loads(tmp_path: Path, row: Row) -> None:
    path = tmp_path / "weights.pth"
    with mock.patch.dict(sys.modules, FOREIGN):
        path.write_bytes(pickled(row.content))
    found = load(path, row)
    assert row.taken is not None and same(found.network, row.taken | _counts(row, found))
    text = " ".join(found.remarks)
    for word in row.said:
        assert word in text
    if not row.said:
        assert not text
    assert not text or ("weights.pth" in text and str(tmp_path) not in text)


def _counts(row: Row, found: Any) -> State:
    """Counts of batches, which some files leave out."""
    return {} if "counts" not in row.what else {"bn.num_batches_tracked": found.network.bn.num_batches_tracked}


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.what)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_is_refused_in_one_line_with_the_remedy(tmp_path: Path, row: Row, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    with mock.patch.dict(sys.modules, FOREIGN):
        torch.save(row.content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(EquicliError) as refused:
        load(path, row)
    message = str(refused.value)
    assert message.startswith(str(path)) and "\n" not in message
    for word in row.said:
        assert word in message


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"):
            archive.writestr(name, b"1")
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"x" * 100)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


TENSORS = save(W)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102400\n"
FILES: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("empty.pth", b"", ("empty", "Get it again")),
    ("pointer.pth", POINTER, ("Git LFS pointer", "git lfs pull")),
    ("pointer.safetensors", POINTER, ("Git LFS pointer", "git lfs pull")),
    ("script.pt", torchscript(), ("TorchScript", "torch.jit.load", "never run")),
    ("half.pth", pickled(W)[:-500], ("end of the file is missing",)),
    ("quarter.pth", pickled(W)[:200], ("end of the file is missing",)),
    ("half.safetensors", TENSORS[:-9], (f"{len(TENSORS) - 9:,} of {len(TENSORS):,} bytes", "did not finish")),
    ("header.safetensors", TENSORS[:40], ("header is cut short",)),
    ("zeros.bin", bytes(5000), ("zeros", "did not finish")),
    ("page.pth", b"<!DOCTYPE html>\n<html>Not Found</html>", ("web page", "Download it again")),
    ("page.safetensors", b"\n <html><head>Sign in</head></html>", ("web page",)),
    ("answer.bin", b'{"error": "Invalid username or password."}', ("JSON", "Invalid username")),
    ("words.bin", b"Entry not found", ("a text", "Entry not found")),
    ("net.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.4.0", ("ONNX",)),
    ("onnx.bin", b"\x08\x08\x12\x07pytorch\x1a\x052.4.0:\xff", ("ONNX",)),
    ("keras.h5", b"\x89HDF\r\n\x1a\n" + bytes(100), ("Keras",)),
    ("net.keras", zipped("metadata.json", "config.json", "model.weights.h5"), ("Keras",)),
    ("model.ckpt.data-00000-of-00001", b"\x9a\x01\x02\x03" * 100, ("TensorFlow",)),
    ("model.ckpt.index", b"\x00\x01\x02\x03" * 100, ("TensorFlow",)),
    ("net.tflite", b"\x1c\x00\x00\x00TFL3" + bytes(100), ("TensorFlow Lite",)),
    ("net.gguf", b"GGUF\x03\x00\x00\x00" + bytes(100), ("GGUF", "quantized")),
    ("flax.msgpack", b"\x83\xa6params\x83" + bytes(range(128, 255)), ("Flax",)),
    ("weights.tar", tarred(), ("tar", "Unpack")),
    ("weights.pth.gz", gzip.compress(pickled(W)), ("gzip", "Unpack")),
    ("weights.zip", zipped("weights.pth"), ("zip", "Unpack")),
    ("arrays.npz", zipped("a.npy", "b.npy"), ("NumPy arrays",)),
    ("array.npy", b"\x93NUMPY\x01\x00" + bytes(100), ("NumPy array",)),
    ("plain.pkl", pickle.dumps({"a": 1}), ("plain pickle", "never run", ALONE)),
    ("old.pkl", b"cos\nsystem\n(S'true'\ntR.", ("plain pickle", "never run", ALONE)),
    ("picture.pth", b"\x89PNG\r\n\x1a\n" + bytes(100), ("a picture",)),
    ("noise.pth", bytes(range(128, 256)) * 10, ("no PyTorch file and no safetensors",)),
    ("resnet50-0676ba61.pth", pickled(W), ("0676ba61", "SHA-256", "another name")),
    ("tiny-0676ba61.safetensors", TENSORS, ("0676ba61", "SHA-256")),
    ("model-00001-of-00002.safetensors", TENSORS, ("one part of several", "model.safetensors.index.json")),
]


@pytest.mark.parametrize(("name", "content", "words"), FILES, ids=[name for name, _, _ in FILES])
def test_what_is_no_file_of_weights_is_named_for_what_it_is(tmp_path: Path, name: str, content: bytes, words) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EquicliError) as refused:
        load_network(MODEL, checkpoint=str(path))
    message = str(refused.value)
    assert message.startswith(str(path)) and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "name",
    [
        "own-{}.pth",
        "run-20240131.pth",
        "run-00000100.pth",
        "step-12345678.pth",
        "3f2a9c1d-0a1b-4c2d-8e3f-9a1b2c3d4e5f.pth",
        "resnet50-20210831-{}.pth",
    ],
)
def test_a_right_hash_a_date_and_a_count_in_a_name_are_fine(tmp_path: Path, name: str) -> None:
    content = pickled(W)
    path = tmp_path / name.format(hashlib.sha256(content).hexdigest()[:8])
    path.write_bytes(content)
    assert same(load_network(MODEL, checkpoint=str(path)).network, W)


@pytest.mark.parametrize("name", ["weights.pth", "weights.bin", "weights"])
def test_a_file_is_read_by_its_content_and_not_by_its_suffix(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TENSORS)
    assert same(load_network(MODEL, checkpoint=str(tmp_path / name)).network, W)
    (tmp_path / "pickle.safetensors").write_bytes(pickled(W))
    assert same(load_network(MODEL, checkpoint=str(tmp_path / "pickle.safetensors")).network, W)


def sharded(suffix: str = ".safetensors", state: State = W) -> dict[str, bytes]:
    """Two parts and their index, as transformers writes them."""
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    keys = list(state)
    halves = {f"{stem}-00001-of-00002{suffix}": keys[:3], f"{stem}-00002-of-00002{suffix}": keys[3:]}
    write: Callable[[State], bytes] = save if suffix == ".safetensors" else pickled
    files = {name: write({key: state[key] for key in of}) for name, of in halves.items()}
    index = {"metadata": {}, "weight_map": {key: name for name, of in halves.items() for key in of}}
    return files | {f"{stem}{suffix}.index.json": json.dumps(index).encode()}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("by", ["index", "folder"])
def test_parts_with_an_index_are_one_checkpoint(tmp_path: Path, suffix: str, by: str) -> None:
    files = sharded(suffix)
    folder = written(tmp_path / "parts", files)
    index = next(name for name in files if name.endswith(".index.json"))
    found = load_network(MODEL, checkpoint=str(folder / index if by == "index" else folder))
    assert same(found.network, W)
    joined = b"".join(files[name] for name in sorted(files) if not name.endswith(".json"))
    assert found.provenance["checkpoint"] == index
    assert found.provenance["sha256"] == hashlib.sha256(joined).hexdigest()


def test_parts_come_from_the_hub_too(hub) -> None:
    hub({"acme/parts": {"main": sharded()}})
    found = load_network(MODEL, checkpoint="hf-hub:acme/parts/model.safetensors.index.json")
    assert same(found.network, W)
    tiny = weights()
    files = repository() | sharded(state=tiny)
    del files["model.safetensors"]
    hub({"acme/tiny": {"main": files}})
    assert same(load_network("acme/tiny").network, tiny)


def test_an_index_names_only_files_beside_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "parts", sharded())
    index = folder / "model.safetensors.index.json"
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(EquicliError, match=r"1 of 2 parts are missing \(model-00002"):
        load_network(MODEL, checkpoint=str(index))
    for name in ("../secret.safetensors", "/etc/passwd", "..", 3):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(EquicliError, match="no file beside it"):
            load_network(MODEL, checkpoint=str(index))
    index.write_text("{}")
    with pytest.raises(EquicliError, match="weight_map"):
        load_network(MODEL, checkpoint=str(index))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.pth", "b.pth"], ["a.pth, b.pth", "Name one"]),
        (["__0_0.distcp", ".metadata"], ["distributed checkpoint", "dcp_to_torch"]),
        (["zero_to_fp32.py", "latest"], ["DeepSpeed", "zero_to_fp32.py"]),
        (["adapter_config.json", "adapter_model.safetensors"], ["LoRA", "merge_and_unload"]),
        (["optimizer.pt", "notes.txt"], ["no such file of weights"]),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_told(tmp_path: Path, files: list[str], words: list[str]) -> None:
    folder = written(tmp_path / "run", dict.fromkeys(files, b"x"))
    with pytest.raises(EquicliError) as refused:
        load_network(MODEL, checkpoint=str(folder))
    for word in [str(folder), *words]:
        assert word in str(refused.value)


def test_a_folder_of_a_trainer_gives_its_weights_and_not_its_optimizer(tmp_path: Path) -> None:
    files = {
        "optimizer.pt": pickled(ADAM.state_dict()),
        "scheduler.pt": b"x",
        "training_args.bin": b"x",
        "best.pth": pickled(W),
    }
    assert same(load_network(MODEL, checkpoint=str(written(tmp_path / "run", files))).network, W)


def test_names_that_are_allowed_stand_for_nothing_that_their_classes_do(tmp_path: Path) -> None:
    """Also where a class of that name is there and would do harm."""
    sprung: list[object] = []
    made = config_of("omegaconf.trap.Config")
    type(made).__setstate__ = lambda self, state: sprung.append(state)
    with mock.patch.dict(sys.modules, FOREIGN):
        (tmp_path / "trap.pth").write_bytes(pickled({"net": W, "cfg": made}))
        pickle.loads(pickle.dumps(made))
        assert sprung.pop()
        assert same(load_network(MODEL, checkpoint=str(tmp_path / "trap.pth")).network, W)
    assert not sprung


# Folders that libraries wrote


@pytest.mark.parametrize("written_as", ["{}", "local-dir:{}", "./here/tiny", "here/tiny"])
def test_a_folder_that_timm_wrote_is_a_model(tmp_path: Path, monkeypatch, written_as: str) -> None:
    files = repository()
    folder = written(tmp_path / "here" / "tiny", files)
    monkeypatch.chdir(tmp_path)
    found = load_network(written_as.format(folder))
    assert same(found.network, weights())
    digest = hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert found.provenance == {"model": "local-dir:tiny", "checkpoint": "model.safetensors", "sha256": digest}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("local-dir:nowhere", ["no such folder"]),
        ("./nowhere", ["no such folder"]),
        ("./file.pth", ["a file", "--checkpoint"]),
        ("./empty", ["no config.json", "--checkpoint"]),
        ("./run", ["a run of equicli"]),
    ],
)
def test_a_path_that_is_no_model_is_told(tmp_path: Path, monkeypatch, model: str, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pth").write_bytes(pickled(W))
    written(tmp_path / "empty", {})
    written(tmp_path / "run", {"config.json": b'{"prediction_network": {}}'})
    with pytest.raises(UsageError) as refused:
        load_network(model)
    for word in [model, *words]:
        assert word in str(refused.value)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
@pytest.mark.parametrize("inner", [True, False])
def test_networks_for_other_problems_are_refused(hub, problem: str, inner: bool) -> None:
    said = {"pretrained_cfg": {"problem_type": problem}} if inner else {"problem_type": problem}
    hub({"acme/tiny": {"main": repository(**said)}})
    with pytest.raises(EquicliError, match=rf"acme/tiny.*{problem}.*not supported"):
        load_network("acme/tiny")
    hub({"acme/tiny": {"main": repository(problem_type="single_label_classification")}})
    assert same(load_network("acme/tiny").network, weights())


@pytest.mark.parametrize("key", ["img_size", "image_size", "input_size"])
def test_two_sizes_that_differ_are_refused_together(key: str) -> None:
    with pytest.raises(UsageError, match=rf"--image-size 96 and --model-arg {key}=64"):
        load_network("test_vit", arguments={key: 64}, image_size=96)


def test_the_size_that_a_network_is_built_for_is_that_of_its_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    import timm

    state = timm.create_model("test_vit", num_classes=4, img_size=96).state_dict()
    path = tmp_path / "at96.pth"
    path.write_bytes(pickled(state))
    for size in (None, 96):
        arguments = {"num_classes": 4, "img_size": 96}
        found = load_network("test_vit", checkpoint=str(path), arguments=arguments, image_size=size)
        assert found.preprocess.size == 96 and same(found.network, state)
    with pytest.raises(EquicliError, match="another size: add --model-arg img_size"):
        load_network("test_vit", checkpoint=str(path), arguments={"num_classes": 4})


class Wrapper(nn.Module):
    """A network of one's own around one that others know."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()


def test_a_wrapped_network_loads_the_weights_of_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "inner.pth").write_bytes(pickled(W))
    found = load_network(f"python:{__name__}:Wrapper", checkpoint=str(tmp_path / "inner.pth"))
    assert same(found.network, under("model."))


def test_names_of_the_first_densenets_are_todays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torchvision.models.densenet121(num_classes=2).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    assert old.keys() != state.keys()
    (tmp_path / "old.pth").write_bytes(pickled(old))
    found = load_network("torchvision:densenet121", checkpoint=str(tmp_path / "old.pth"), arguments={"num_classes": 2})
    assert same(found.network, state) and not found.remarks
