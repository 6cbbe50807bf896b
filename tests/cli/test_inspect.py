"""`equicli inspect`: what it says of files and networks is what is in them."""

import hashlib
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import equicli
from equicli.artifact import read_config, write_artifact
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.prior import Prior
from equicli.canonicalization.registry import REGISTRY
from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.groups import parse_group
from equicli.model_config import CanonicalizerSpec, ModelConfig
from equicli.prediction.head import replace_head
from equicli.prediction.network import NetworkSpec
from equicli.prediction.signature import Signature
from tests.prediction.test_zero_shot import published
from tests.prediction.tiny import CLASSES, pickled, repository, weights

PARTS = ("canonicalizer", "prediction_network")


@pytest.fixture
def inspect(cli, tmp_path: Path):
    """The document that `inspect` prints with --json, in a folder of its own."""

    def run(*args: object) -> dict:
        result = cli("inspect", *args, "--json", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture
def text(cli, tmp_path: Path):
    """The lines that people see; unless `wide`, none is wider than a terminal but those of long paths."""

    def run(*args: object, wide: bool = False) -> list[str]:
        result = cli("inspect", *args, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        lines = result.stdout.removesuffix("\n").split("\n")
        assert wide or max(len(line) for line in lines if not line.startswith("  path ")) <= 80
        return lines

    return run


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def row(lines: list[str], name: str) -> str:
    """What stands beside a name that occurs once."""
    (found,) = (line for line in lines if line.startswith(f"  {name} "))
    return found.removeprefix(f"  {name} ").strip()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_is_described_as_its_files_have_it(inspect, quickstart) -> None:
    run = quickstart.folder / "run"
    found = inspect(run)
    config = json.loads((run / "config.json").read_text())
    file = run / "model.safetensors"
    assert (found["kind"], found["path"]) == ("run", str(file))
    assert (found["bytes"], found["sha256"]) == (len(file.read_bytes()), sha256(file))
    for name in ("task", "group", "prior", "padding", "labels", "provenance"):
        assert found[name] == config[name]
    for part in PARTS:
        assert {key: value for key, value in found[part].items() if key in config[part]} == config[part]
    mean, std = config["preprocess"].pop("normalization")
    assert found["preprocess"] == config["preprocess"] | {"mean": mean, "std": std}


def test_parameters_are_those_of_the_loaded_networks(inspect, quickstart) -> None:
    found = inspect(quickstart.folder / "run")
    model = equicli.load(quickstart.folder / "run")
    assert found["canonicalizer"]["parameters"] == parameters(model.canonicalizer)
    assert found["prediction_network"]["parameters"] == parameters(model.prediction_network)
    assert [found[part]["dtype"] for part in PARTS] == ["float32", "float32"]
    metrics = json.loads((quickstart.folder / "run" / "metrics.json").read_text())
    assert found["canonicalizer"]["parameters"] == metrics["cost"]["added_parameters"]


@pytest.mark.parametrize(
    ("kind", "group", "keys"),
    [
        ("optimized", "c8", {"network": "conv", "width": 4}),
        ("equivariant", "d4", {"network": "gwrn", "size": 17, "width": 4}),
        ("steerable", "o2", {"size": 17, "width": 4}),
        ("energy", "c4", {}),
    ],
)
def test_parameters_of_every_canonicalizer_are_told_from_its_buffers(inspect, tmp_path, kind, group, keys) -> None:
    network = timm.create_model("test_resnet", num_classes=3)
    made = REGISTRY[kind].create(REGISTRY[kind].Settings(kind=kind, **keys), Context(parse_group(group), IMAGENET))
    canonicalizer = made.ship()
    config = ModelConfig(
        task="classification",
        signature=Signature(),
        group=group,
        canonicalizer=CanonicalizerSpec(kind, asdict(canonicalizer.spec)),
        prediction_network=NetworkSpec("timm", "test_resnet", {"num_classes": 3}),
        preprocess=Preprocess(32, 34, "bicubic", IMAGENET, squash=True),
        labels={},
        provenance={"model": "test_resnet"},
        prior=Prior(("r0", "r180"), (0.75, 0.25)) if group == "c8" else Prior(),
        padding="zeros",
    )
    write_artifact(tmp_path / "model.safetensors", config.assemble(canonicalizer, network), config)
    found = inspect("model.safetensors")
    assert found["canonicalizer"]["parameters"] == parameters(canonicalizer)
    assert found["canonicalizer"]["dtype"] == (None if kind == "energy" else "float32")
    assert found["prediction_network"]["parameters"] == parameters(network)


def test_the_listing_of_a_file_has_its_settings_in_words(text, quickstart) -> None:
    lines = text(quickstart.folder / "model.safetensors")
    assert lines[0] == "Adapted model"
    assert row(lines, "group") == "c4" and row(lines, "prior") == "r0"
    assert row(lines, "classes") == "9: 0 = 0, 1 = 1, 2 = 2, 3 = 3, …"
    assert row(lines, "library") == "timm" and row(lines, "architecture") == "test_resnet"
    assert row(lines, "images") == "as they are"
    assert row(lines, "mean") == "0.5 0.5 0.5"
    assert row(lines, "checkpoint") == "network.safetensors"
    assert row(lines[:9], "sha256") == sha256(quickstart.folder / "model.safetensors")
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "Adapted model",
        "Canonicalizer",
        "Prediction network",
        "Preprocessing",
        "Provenance",
    ]


def test_a_file_of_a_run_an_exported_one_and_the_latest_run_are_told_apart(inspect, quickstart, tmp_path) -> None:
    run = quickstart.folder / "run"
    assert inspect(run / "model.safetensors") == inspect(run)
    assert inspect(quickstart.folder / "model.safetensors")["kind"] == "model"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "latest").symlink_to(run)
    assert inspect() == inspect(run) | {"path": str(run.resolve() / "model.safetensors")}


def test_an_adapter_holds_no_prediction_network(cli, inspect, text, quickstart, tmp_path) -> None:
    exported = cli("export", quickstart.folder / "run", "--adapter-only", "-o", "a.safetensors", "--json", cwd=tmp_path)
    found, whole = inspect("a.safetensors"), inspect(quickstart.folder / "run")
    assert found["kind"] == "adapter"
    assert found["sha256"] == json.loads(exported.stdout)["sha256"]
    assert found["canonicalizer"] == whole["canonicalizer"]
    assert found["prediction_network"] == whole["prediction_network"] | {"parameters": 0, "dtype": None}
    lines = text("a.safetensors")
    assert lines[0] == "Adapter"
    assert row(lines[lines.index("Prediction network") :], "parameters") == "none in this file"


def test_an_adapter_may_hold_a_head(inspect, text, quickstart, tmp_path) -> None:
    model, config = (read(quickstart.folder / "model.safetensors") for read in (equicli.load, read_config))
    head = replace_head(model.prediction_network, 3)
    config = replace(config, prediction_network=replace(config.prediction_network, head_outputs=3))
    write_artifact(tmp_path / "a.safetensors", model, config, adapter_only=True)
    found = inspect("a.safetensors")["prediction_network"]
    assert found["head_outputs"] == 3
    assert found["parameters"] == 3 * head.in_features + 3
    lines = text("a.safetensors")
    assert row(lines, "last layer") == "replaced by one of 3 outputs"
    stored = row(lines[lines.index("Prediction network") :], "parameters")
    assert stored == f"{found['parameters']:,} (float32) in this file"


def test_a_model_of_the_hub_is_loaded_and_described(inspect, text, hub) -> None:
    names = ["ant", "bee", "cat", "dog"]
    files = repository(label_names=names, label_descriptions={"ant": "emmet"}, pretrained_cfg={"crop_pct": 0.5})
    server = hub({"acme/tiny": {"main": {"README.md": b""}, "v1": files}})
    network = timm.create_model("test_resnet", num_classes=4)
    for found in (inspect("acme/tiny@v1"), inspect("hf-hub:acme/tiny", "--revision", "v1")):
        assert found["kind"] == "network"
        assert (found["outputs"], found["remarks"]) == (4, [])
        assert found["class_names"] == [["ant", "emmet"], ["bee"], ["cat"], ["dog"]]
        assert found["prediction_network"] == {
            "library": "timm",
            "architecture": "test_resnet",
            "arguments": json.loads(files["config.json"])["model_args"] | {"num_classes": 4},
            "head_outputs": None,
            "head": None,
            "parameters": parameters(network),
            "dtype": "float32",
        }
        published = network.pretrained_cfg
        side = published["input_size"][-1]
        assert (found["preprocess"]["size"], found["preprocess"]["resize"]) == (side, 2 * side)
        assert found["preprocess"]["mean"] == list(published["mean"])
        assert found["provenance"] == {
            "model": "hf-hub:acme/tiny",
            "repository": "acme/tiny",
            "revision": server.commit("acme/tiny", "v1"),
            "file": "model.safetensors",
            "sha256": hashlib.sha256(files["model.safetensors"]).hexdigest(),
        }
    lines = text("acme/tiny@v1")
    assert lines[0] == "Pretrained network"
    assert row(lines, "classes") == "ant (emmet) = 0, bee = 1, cat = 2, dog = 3"
    assert row(lines, "crop") == f"the central {side} x {side}"
    assert row(lines, "revision") == server.commit("acme/tiny", "v1")


def test_names_in_a_repository_cannot_steer_the_terminal(text, inspect, hub) -> None:
    names = ["\x1b[2Jant", "bee\nRemarks", "c" * 5000, "\u202edog"]
    hub({"acme/tiny": {"main": repository(label_names=names)}})
    assert inspect("acme/tiny")["class_names"] == [[name] for name in names]
    lines = text("acme/tiny", wide=True)
    assert all(line.isprintable() and len(line) < 300 for line in lines)
    assert "Remarks" not in lines and any(r"\x1b[2Jant = 0" in line for line in lines)


def test_a_checkpoint_of_ones_own_is_loaded_into_the_named_network(inspect, text, tmp_path) -> None:
    from torchvision.models import squeezenet1_1

    network = squeezenet1_1()
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    arguments = ("torchvision:squeezenet1_1", "--checkpoint", "mine.safetensors")
    found = inspect(*arguments)
    assert found["prediction_network"]["parameters"] == parameters(network)
    assert found["outputs"] == len(found["class_names"]) == 1000
    assert found["provenance"]["checkpoint"] == "mine.safetensors"
    assert found["provenance"]["sha256"] == sha256(tmp_path / "mine.safetensors")
    classes = " ".join(text(*arguments)).partition("classes ")[2]
    assert classes.split("Preprocessing")[0].split() == (
        "n01440764 (tench) = 0, n01443537 (goldfish) = 1, n01484850 (great white shark) = 2, "
        "n01491361 (tiger shark) = 3, …".split()
    )


def test_options_reach_the_network_as_in_adapt(inspect, tmp_path) -> None:
    save_file(weights("test_vit", 5), tmp_path / "w.safetensors")
    arguments = ("test_vit", "--checkpoint", "w.safetensors", "--model-arg", "num_classes=5")
    found, larger = inspect(*arguments), inspect(*arguments, "--image-size", "192")
    assert found["outputs"] == larger["outputs"] == 5
    assert found["class_names"] is None
    assert (found["preprocess"]["size"], larger["preprocess"]["size"]) == (160, 192)
    assert larger["prediction_network"]["arguments"] == {"num_classes": 5, "img_size": 192}
    plain = inspect(*arguments, "--preprocess", "none", "--mean", "0.5", "--std", "0.1,0.2,0.3")["preprocess"]
    assert plain["size"] is None
    assert (plain["mean"], plain["std"]) == ([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    # Positions: one for each of the patches of 16 pixels, each as long as an embedding.
    more = larger["prediction_network"]["parameters"] - found["prediction_network"]["parameters"]
    assert more == (12**2 - 10**2) * weights("test_vit", 5)["pos_embed"].shape[-1]


OWN_CODE = """
from torch import nn

class Classifier(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 32 * 32, 6))

class Detector(nn.Module):
    def forward(self, images):
        return {"boxes": images}
"""


def test_what_own_code_does_not_say_is_a_remark(inspect, text, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the working directory is added to it
    (tmp_path / "own_code_to_inspect.py").write_text(OWN_CODE)
    name = "python:own_code_to_inspect:Classifier"
    found = inspect(name)
    assert (found["outputs"], found["prediction_network"]["parameters"]) == (None, 3 * 32 * 32 * 6 + 6)
    assert "--image-size" in found["remarks"][0]
    assert inspect(name, "--image-size", "32")["outputs"] == 6
    wrong = inspect(name, "--image-size", "64")
    assert wrong["outputs"] is None and "fails on images of 64x64" in wrong["remarks"][0]
    detector = ("python:own_code_to_inspect:Detector", "--image-size", "32")
    lines = text(*detector)
    assert row(lines, "outputs") == "unknown" and row(lines, "parameters") == "none"
    assert "not a classifier" in " ".join(lines[lines.index("Remarks") :])


def test_a_zero_shot_network_is_said_to_want_prompts(inspect, tmp_path) -> None:
    (tmp_path / "clip").mkdir()
    for name, content in published("CLIP").items():
        (tmp_path / "clip" / name).write_bytes(content)
    found = inspect("transformers:clip")
    assert found["prediction_network"]["library"] == "transformers"
    assert found["prediction_network"]["parameters"] == sum(
        tensor.numel() for tensor in load_file(tmp_path / "clip" / "model.safetensors").values()
    )
    assert found["outputs"] is None and "--prompts" in found["remarks"][-1]


def refused(cli, cwd: Path, code: int, *args: object) -> str:
    """The one line on stderr."""
    result = cli("inspect", *args, cwd=cwd)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "internal error" not in line
    return line


def test_without_a_run_the_remedy_is_named(cli, tmp_path) -> None:
    assert "equicli adapt" in refused(cli, tmp_path, 2)


@pytest.mark.parametrize("name", ["gone.safetensors", "./gone", "runs/gone", "gone/", "../gone"])
def test_a_path_that_leads_nowhere_is_not_looked_for_elsewhere(cli, tmp_path, name) -> None:
    message = refused(cli, tmp_path, 2, name)
    assert name.rstrip("/") in message and "no such" in message and "run folder" in message


def test_a_folder_that_is_no_run_is_refused(cli, tmp_path) -> None:
    (tmp_path / "pictures").mkdir()
    message = refused(cli, tmp_path, 2, "pictures")
    assert "no run" in message and "transformers:pictures" in message


def test_an_unfinished_run_is_said_to_be_one(cli, quickstart, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    shutil.copy(quickstart.folder / "run" / "resolved.yaml", tmp_path / "mine")
    assert "--resume mine" in refused(cli, tmp_path, 2, "mine")


def test_files_that_are_no_artifacts_are_refused(cli, tmp_path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    (tmp_path / "notes.txt").write_text("no tensors")
    message = refused(cli, tmp_path, 1, "weights.safetensors")
    assert "weights.safetensors" in message and "only weights" in message and "equicli adapt" in message
    assert "notes.txt" in refused(cli, tmp_path, 1, "notes.txt")


def test_options_of_models_are_refused_with_an_artifact(cli, quickstart, tmp_path) -> None:
    file = quickstart.folder / "model.safetensors"
    options = {"--checkpoint": "w.pth", "--revision": "v1", "--model-arg": "a=1", "--image-size": "32"}
    options |= {"--preprocess": "none", "--mean": "0.5", "--std": "0.5"}
    for option, value in options.items():
        assert option in refused(cli, tmp_path, 2, file, option, value)
    assert "--image-size" in refused(cli, tmp_path, 2, "test_vit", "--image-size", "0")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("vit_bsae",), 2, "MODEL vit_bsae: timm knows no such network. Did you mean 'vit_base'?"),
        (("torchvision:nonesuch",), 2, "MODEL torchvision:nonesuch"),
        (("test_vit", "--checkpoint", "gone.pth"), 2, "gone.pth: no such file"),
        (("test_vit", "--model-arg", "classes"), 2, "--model-arg classes"),
        (("test_vit", "--checkpoint", "w.safetensors"), 1, "Try --model-arg num_classes=5."),
        (("acme/tiny",), 1, "acme/tiny"),  # tests are offline
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_model_that_cannot_be_loaded_is_refused_in_one_line(cli, tmp_path, args, code, words) -> None:
    save_file(weights("test_vit", 5), tmp_path / "w.safetensors")
    message = refused(cli, tmp_path, code, *args)
    assert words in message and "--model " not in message


def test_a_folder_that_timm_wrote_is_a_model_and_no_run(cli, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name, content in repository().items():
        (folder / name).write_bytes(content)
    for written in ("tiny", "./tiny/", f"local-dir:{folder}"):
        shown = cli("inspect", written, "--json", cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["provenance"]["model"] == "local-dir:tiny"


def test_which_of_two_weights_were_taken_is_listed(cli, tmp_path: Path) -> None:
    average = {key: value + 1 for key, value in weights().items()}
    (tmp_path / "both.pth").write_bytes(pickled({"state_dict": weights(), "state_dict_ema": average}))
    command = ("inspect", "test_resnet", "--checkpoint", "both.pth", "--model-arg", f"num_classes={CLASSES}")
    assert "averaged weights in both.pth (state_dict_ema)" in cli(*command, cwd=tmp_path).stdout
    assert "aside (state_dict_ema)" in cli(*command, "--ema", "no", cwd=tmp_path).stdout
    assert cli(*command, "--ema", "perhaps", cwd=tmp_path).returncode == 2
