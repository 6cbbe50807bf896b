"""Every wrong input: one clear line on stderr, the right exit code, nothing written."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

MODEL = ("--model", "test_resnet", "--model-arg", "num_classes=2", "--preprocess", "none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten grey images."""
    for split in ("train", "test"):
        for name in ("gadget", "widget"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(10):
                Image.new("RGB", (32, 32), (20 * i, 0, 0)).save(tmp_path / "data" / split / name / f"{i}.png")
    return tmp_path / "data"


def check(result, code: int, *words: str) -> None:
    lines = [line for line in result.stderr.splitlines() if line.startswith("equicli: ")]
    assert result.returncode == code, result.stderr
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", *MODEL], ["nowhere", "no such folder"]),
        (["data", "--model", "resnet5O"], ["resnet5O", "Did you mean 'resnet50'"]),
        (["data", "--model", "torchvision:squeezenet"], ["Did you mean 'squeezenet1_"]),
        (["data", "--model", "ftp:x"], ["unknown source 'ftp:'"]),
        (["data", *MODEL, "--task", "segmentation"], ["no such task. Did you mean 'instances' or 'semantic'?"]),
        (["data", *MODEL, "--checkpoint", "none.pth"], ["none.pth", "no such file"]),
        (
            ["data", "--model", "none", "--canonicalizer-checkpoint", "none.pth"],
            ["--canonicalizer-checkpoint", "no such file"],
        ),
        (["data", *MODEL, "--mean", "0.5,0.5"], ["mean", "must be three numbers, such as 0.5,0.5,0.5"]),
        (["data", *MODEL, "--group", "c0"], ["--group c0", "from 1 to"]),
        (["data", *MODEL, "--group", "x4"], ["--group x4", "not a group", "c4", "d4", "so2", "o2"]),
        (["data", *MODEL, "--set", "canonicalizer.widht=8"], ["canonicalizer.widht", "Did you mean"]),
        (["data", *MODEL, "--set", "widht=8"], ["'widht'", "Did you mean 'canonicalizer.width'?"]),
        (["data", *MODEL, "--set", "width=8"], ["'width'", "Did you mean 'canonicalizer.width'?"]),
        (["data", *MODEL, "--set", "lr=1e-3"], ["'lr'", "Write learning_rate."]),
        (["data", *MODEL, "--set", "epochs"], ["--set epochs", "key=value"]),
        (["data", *MODEL, "--epochs", "0"], ["epochs = 0", "train for 1 or more"]),
        (["data", *MODEL, "--recipe", "quickstrat"], ["quickstrat", "Did you mean 'quickstart'"]),
        (["data", "--model", "test_resnet", "--head", "none", "--checkpoint", "weights.safetensors"], ["--head none"]),
        (["data", *MODEL, "--device", "cuda:9"], ["device"]),
        (["data"], ["--model is missing"]),
        (["data", *MODEL, "--colour", "red"], ["--colour"]),
        (
            ["data", *MODEL, "--canonicalizer-network", "conv", "--canonicalizer-checkpoint", "weights.safetensors"],
            ["--canonicalizer-network", "conv starts untrained"],
        ),
        (["data", *MODEL, "--canonicalizer-network", "python:a:b"], ["canonicalization network"]),
        (["data", *MODEL, "--image-size", "64"], ["--image-size", "--preprocess none"]),
        (["data", *MODEL, "--group", "c1"], ["trivial group"]),
        (["data", *MODEL, "--mean", "123", "116", "103"], ["mean", "must be 1 or less"]),
        (["data", *MODEL, "--canonicalizer", "equivarient"], ["equivarient", "Did you mean 'equivariant'"]),
        (["data", *MODEL, "--canonicalizer", "kind"], ["--canonicalizer kind", "Known: consensus"]),
        (
            ["data", *MODEL, "--canonicalizer", "optimized", "--group", "so2"],
            ["--canonicalizer optimized: not for --group so2", "takes steerable"],
        ),
        (
            ["data", *MODEL, "--canonicalizer", "steerable"],
            ["--canonicalizer steerable: not for --group c4", "optimized"],
        ),
        (["data", *MODEL, "--canonicalizer", "equivariant", "--canonicalizer-size", "64"], ["64", "take 65"]),
        (["data", *MODEL, "--group", "so2", "--canonicalizer-size", "64"], ["64", "take 65"]),
        (["data", *MODEL, "--canonicalizer", "energy", "--canonicalizer-size", "64"], ["canonicalizer.size"]),
        (["data", *MODEL, "--group", "so3"], ["points in space"]),
        (["data", *MODEL, "--prior", "r45"], ["--prior r45", "no pose of c4"]),
        (["data", *MODEL, "--prior", "none.yaml"], ["--prior ", "none.yaml: cannot be read"]),
        (["data", *MODEL, "--padding", "wrap"], ["--padding", "'edge', 'reflect', 'zeros'", "equicli adapt --help"]),
        (["data", *MODEL, "--set", "artifact_weight=1"], ["c4 permutes pixels"]),
        (["--resume", "runs/none"], ["--resume runs/none"]),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(cli, folder, arguments, words) -> None:
    import timm

    network = timm.create_model("test_resnet")
    save_file(network.state_dict(), folder.parent / "weights.safetensors")
    check(cli("adapt", *arguments, cwd=folder.parent), 2, *words)
    assert not (folder.parent / "runs").exists()


def test_a_checkpoint_of_another_shape_names_the_tensor_and_both_shapes(cli, folder: Path) -> None:
    import timm

    state = timm.create_model("test_resnet", num_classes=5).state_dict()
    save_file(state, folder.parent / "other.safetensors")
    result = cli("adapt", "data", *MODEL, "--checkpoint", "other.safetensors", cwd=folder.parent)
    check(result, 1, "other.safetensors", "another shape", "(5,", "(2,")
    assert not (folder.parent / "runs").exists()


def test_a_corrupt_image_stops_only_a_strict_run(cli, folder: Path) -> None:
    import timm

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), folder.parent / "w.safetensors")
    bad = folder / "train" / "gadget" / "5.png"
    bad.write_bytes(bad.read_bytes()[:60])
    arguments = (
        "adapt",
        "data",
        *MODEL,
        "--checkpoint",
        "w.safetensors",
        "--epochs",
        "1",
        "--canonicalizer-size",
        "16",
    )
    check(cli(*arguments, "--strict", cwd=folder.parent), 1, "5.png", "unreadable")
    lenient = cli(*arguments, cwd=folder.parent)
    assert lenient.returncode == 0, lenient.stderr
    assert f"skipped {bad}" in lenient.stderr and "1 unreadable" in lenient.stderr


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_without_a_run_the_remedy_is_named(cli, tmp_path: Path, command: str) -> None:
    check(cli(command, cwd=tmp_path), 2, "no run", "equicli adapt")
    check(cli(command, "nowhere", cwd=tmp_path), 2, "nowhere")


def test_options_that_exclude_each_other_are_refused(cli, tmp_path: Path) -> None:
    check(
        cli("evaluate", "--rotations", "8", "--elements", "group", cwd=tmp_path), 2, "--rotations", "--elements group"
    )
    check(cli("evaluate", "--rotations", "0", "--precision", "fp99", cwd=tmp_path), 2, "--precision")


def test_a_file_that_is_no_artifact_is_said_to_be_none(cli, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    check(cli("export", "weights.safetensors", "-o", "out.safetensors", cwd=tmp_path), 1, "not an equicli artifact")


def test_a_traceback_is_shown_only_in_debug_mode(cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("EQUICLI_DEBUG", "1")
    assert "Traceback" in cli("evaluate", cwd=tmp_path).stderr


def test_a_task_loss_without_labels_is_refused_before_anything_is_written(cli, folder: Path) -> None:
    import timm

    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), folder.parent / "w.safetensors")
    arguments = (str(folder / "train" / "gadget"), *MODEL, "--checkpoint", "w.safetensors", "--set", "task_weight=1")
    check(cli("adapt", *arguments, cwd=folder.parent), 2, "task_weight", "labels")
    assert not (folder.parent / "runs").exists()
