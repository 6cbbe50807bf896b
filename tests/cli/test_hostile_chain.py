"""Files made to do harm, through the command line: nothing runs, nothing is written, and one clear line says why."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

import equicli
from equicli.errors import EquicliError
from tests.prediction.test_hostile import Touch
from tests.prediction.tiny import pickled, repository, weights

TINY = ("adapt", "data", "--model", "test_resnet", "--model-arg", "num_classes=4", "--preprocess", "none")
QUICK = ("--epochs", "1", "--canonicalizer-size", "16", "--set", "canonicalizer.width=4")


@pytest.fixture(scope="module")
def made(cli, tmp_path_factory) -> Path:
    """A folder with images, weights that fit and an artifact of both. Leave it as it is."""
    here = tmp_path_factory.mktemp("made")
    for i in range(16):
        image = here / "data" / ("train" if i < 12 else "test") / "abcd"[i % 4] / f"{i}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (15 * i, 0, 0)).save(image)
    save_file(weights(), here / "network.safetensors")
    adapted = cli(*TINY, *QUICK, "--checkpoint", "network.safetensors", "-o", "run", cwd=here)
    assert adapted.returncode == 0, adapted.stderr
    return here


@pytest.fixture
def refused(cli, made: Path, tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail, beside what `made` has and where nothing may change; gives its one line."""
    (tmp_path / "data").symlink_to(made / "data")

    def run(*arguments: str) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        result = cli(*arguments, cwd=tmp_path)
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and not cached(path)}
        assert (result.returncode, result.stdout) == (1, ""), result.stderr
        errors = [line for line in result.stderr.splitlines() if line.startswith("equicli: ")]
        assert len(errors) == 1 and errors[0].isprintable() and len(errors[0]) < 600
        assert "Traceback" not in result.stderr
        assert after == before and not (tmp_path / "sprung").exists()
        return errors[0]

    def cached(path: Path) -> bool:
        return path.is_relative_to(tmp_path / "hub")

    return run


def header(content: object, data: int = 0) -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


HOSTILE_WEIGHTS = {
    "code.pth": (pickled({"fc.weight": Touch(Path("sprung"))}), "code from a checkpoint is never run"),
    "plain.pkl": (pickle.dumps({"state_dict": Touch(Path("sprung"))}), "code from a checkpoint is never run"),
    "code.safetensors": (pickled({"fc.weight": Touch(Path("sprung"))}), "code from a checkpoint is never run"),
    "long.safetensors": (struct.pack("<Q", 1 << 60) + b"{}", "not a valid safetensors file"),
    "text.safetensors": (struct.pack("<Q", 9) + b"no header", "not a valid safetensors file"),
    "huge.safetensors": (
        header({"fc.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}),
        "the download or copy did not finish",
    ),
    "outside.safetensors": (
        header({"fc.weight": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}),
        "not a valid safetensors file",
    ),
    "named.safetensors": (
        header({"\x1b]0;owned\x07" * 99: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 4),
        "not the weights of this network",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_hostile_weights_are_refused(refused, tmp_path: Path, name: str) -> None:
    content, words = HOSTILE_WEIGHTS[name]
    (tmp_path / name).write_bytes(content)
    message = refused(*TINY, "--checkpoint", name)
    assert name in message and words in message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_hostile_weights_of_a_repository_are_refused(hub, refused, name: str) -> None:
    files = {file: content for file, content in repository().items() if file != "model.safetensors"}
    hub({"acme/tiny": {"main": files | {name: pickled({"fc.weight": Touch(Path("sprung"))})}}})
    message = refused("adapt", "data", "--model", "hf-hub:acme/tiny")
    assert "acme/tiny" in message and name in message


@pytest.mark.parametrize("entry", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
@pytest.mark.parametrize("target", ["../../../decoy.safetensors", "/decoy.safetensors"])
def test_a_configuration_with_paths_is_refused(hub, refused, entry: str, target: str) -> None:
    value = target if entry in ("checkpoint_path", "cache_dir") else {"file": target}
    hub({"acme/tiny": {"main": repository(model_args={entry: value})}})
    assert f"'{entry}' is no argument of a network" in refused("adapt", "data", "--model", "hf-hub:acme/tiny")


@pytest.mark.parametrize("model", ["acme/tiny", "transformers:acme/tiny"])
def test_code_of_a_repository_is_never_run(hub, refused, model: str) -> None:
    pytest.importorskip("transformers")
    config = {
        "model_type": "own",
        "architectures": ["OwnForImageClassification"],
        "auto_map": {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"},
    }
    code = b"import os; os.mkdir('sprung')\n"
    server = hub({"acme/tiny": {"main": {"config.json": json.dumps(config).encode(), "own.py": code}}})
    assert "acme/tiny" in refused("adapt", "data", "--model", model)
    assert not any("own.py" in request for request in server.requests)


def put(content: dict[str, Any], place: str, value: object) -> None:
    *parents, last = place.split(".")
    for name in parents:
        content = content[name]
    content[last] = value


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("prediction_network.arguments", {"num_classes": 10**8}, "far larger than its weights"),
        ("prediction_network.head_outputs", 10**8, "far larger than its weights"),
        ("prediction_network.head_outputs", -1, "prediction_network.head_outputs"),
        ("prediction_network.architecture", "\x1b[2J" * 100, "knows no architecture"),
        ("prediction_network.library", "\x1b[2J" * 100, "your own code"),
        ("prediction_network.arguments", {"stem_width": -1}, "cannot build it"),
        ("canonicalizer.kind", "\x1b[2J" * 100, "canonicalizer.kind"),
        ("canonicalizer.spec.vector_size", 10**9, "canonicalizer.spec.vector_size"),
        ("canonicalizer.spec.size", -1, "canonicalizer.spec.size"),
        ("canonicalizer.spec.network.arguments.width", 10**9, "cannot build it"),
        ("preprocess.size", 10**9, "preprocess.size"),
        ("preprocess.normalization", [[0.5] * 3, [0.0] * 3], "preprocess.normalization"),
        ("preprocess.normalization", [[float("nan")] * 3, [1] * 3], "preprocess.normalization"),
        ("labels", {"cat": -1}, "labels.cat"),
        ("group", "c1000000000", "group"),
        ("group", "\x1b[2J" * 100, "group"),
        ("format", "\x1b[2J" * 100, "artifact format"),
        ("format", 10**30, "artifact format"),
        ("adapter_only", True, "Name it with --checkpoint"),
    ],
    ids=lambda part: repr(part)[:30],
)
@pytest.mark.parametrize("command", [("export", "-o", "out.safetensors"), ("evaluate", "--data", "data")], ids=min)
def test_a_hostile_artifact_is_refused(refused, made: Path, tmp_path: Path, command, place, value, words) -> None:
    with safe_open(made / "run" / "model.safetensors", "pt") as file:
        content = json.loads(file.metadata()["equicli"])
    put(content, place, value)
    tensors = load_file(made / "run" / "model.safetensors")
    save_file(tensors, tmp_path / "odd.safetensors", metadata={"equicli": json.dumps(content)})
    message = refused(command[0], "odd.safetensors", *command[1:])
    assert "odd.safetensors" in message and words in message


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1, "labels": ' + '{"a":' * 100_000, "\x1b[2J"], ids=len)
def test_a_header_that_is_no_configuration_is_refused(refused, tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.safetensors").write_bytes(save({"x": torch.zeros(1)}, metadata={"equicli": text}))
    for command in ("inspect", "evaluate"):
        assert "not an equicli artifact" in refused(command, "odd.safetensors")


@pytest.mark.parametrize("entry", ["model", "sha256"])
def test_an_adapter_that_says_not_of_what_is_refused(refused, made: Path, tmp_path: Path, entry: str) -> None:
    with safe_open(made / "run" / "model.safetensors", "pt") as file:
        content = json.loads(file.metadata()["equicli"])
    content["adapter_only"] = True
    del content["provenance"][entry]
    save_file({"x": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"equicli": json.dumps(content)})
    assert f"provenance.{entry}" in refused("inspect", "odd.safetensors")


def test_the_files_that_these_are_made_of_are_good(cli, made: Path, tmp_path: Path) -> None:
    exported = cli("export", made / "run", "-o", tmp_path / "out.safetensors", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr


def test_an_adapter_builds_no_network_far_larger_than_the_weights_that_it_names(made: Path, tmp_path: Path) -> None:
    with safe_open(made / "run" / "model.safetensors", "pt") as file:
        content = json.loads(file.metadata()["equicli"])
    content["adapter_only"] = True
    content["prediction_network"]["arguments"] = {"num_classes": 10**8}
    save_file({"x": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"equicli": json.dumps(content)})
    with pytest.raises(EquicliError, match="far larger than its weights"):
        equicli.load(tmp_path / "odd.safetensors", checkpoint=made / "network.safetensors")
