"""`equicli evaluate` on pictures of several sizes, and with another preprocessing than the artifact's own."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

FRAMES = ((32, 32), (48, 32), (32, 40), (64, 64))  # width and height


@pytest.fixture(scope="module")
def mixed(quickstart, tmp_path_factory) -> Path:
    """Some of the digits, stretched to several sizes."""
    folder = tmp_path_factory.mktemp("mixed") / "data"
    for label in sorted((quickstart.folder / "data" / "test").iterdir()):
        (folder / label.name).mkdir(parents=True)
        for path, size in zip(sorted(label.iterdir())[:4], FRAMES, strict=True):
            Image.open(path).resize(size, Image.Resampling.BICUBIC).save(folder / label.name / path.name)
    return folder


@pytest.fixture
def evaluate(cli, quickstart, tmp_path):
    """The document of the quickstart's model on a folder."""

    def run(data: Path, *arguments: object) -> dict:
        folder = tmp_path / f"evaluation-{len(list(tmp_path.iterdir()))}"
        artifact = quickstart.folder / "model.safetensors"
        result = cli("evaluate", artifact, "--data", data, *arguments, "--json", "-o", folder, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert (folder / "report.md").is_file()
        return json.loads(result.stdout)

    return run


@pytest.fixture
def refused(cli, quickstart, tmp_path):
    """The one line on stderr."""

    def run(data: Path, code: int, *arguments: object) -> str:
        artifact = quickstart.folder / "model.safetensors"
        result = cli("evaluate", artifact, "--data", data, *arguments, "-q", "-o", tmp_path / "no", cwd=tmp_path)
        assert result.returncode == code and result.stdout == "" and not (tmp_path / "no").exists()
        (line,) = result.stderr.splitlines()
        return line

    return run


def correct(metrics: dict, system: str) -> list[int]:
    return [entry["correct"] for entry in metrics[system]["per_element"]]


def test_turned_pictures_of_several_sizes_are_counted_alike_at_every_angle(evaluate, mixed) -> None:
    metrics = evaluate(mixed)
    assert (metrics["rotate"], metrics["split"], metrics["n"]) == ("file", "all", 36)
    adapted = metrics["adapted"]
    assert adapted["ties"] == 0 and len(set(correct(metrics, "adapted"))) == 1
    assert (adapted["invariance_residual"], adapted["max_logit_delta"]) == (0, 0)
    assert {name: of["n"] for name, of in adapted["identity_rate_by_shape"].items()} == {
        "landscape": 9,
        "portrait": 9,
        "square": 18,
    }
    assert adapted["avg_acc"] > metrics["vanilla"]["avg_acc"]


def test_tensors_of_several_sizes_are_refused_and_each_remedy_helps(refused, evaluate, mixed) -> None:
    line = refused(mixed, 1, "--rotate", "input")
    assert "--rotate file" in line and "--preprocess checkpoint with --image-size N" in line
    remedy = ("--rotate", "input", "--preprocess", "checkpoint", "--image-size", 32)
    metrics = evaluate(mixed, *remedy)
    assert metrics["n"] == 36 and metrics["rotate"] == "input"
    assert len(set(correct(metrics, "adapted"))) == 1 and metrics["adapted"]["invariance_residual"] == 0


def test_a_preprocessing_in_place_of_the_artifacts_own_is_used_and_not_kept(evaluate, fewer, quickstart) -> None:
    data, artifact = fewer / "data" / "test", quickstart.folder / "model.safetensors"
    before = artifact.read_bytes()
    own, same, blurred = evaluate(data), evaluate(data, "--image-size", 32), evaluate(data, "--image-size", 10)
    assert (
        correct(own, "vanilla")
        == correct(same, "vanilla")
        == correct(evaluate(data, "--preprocess", "none"), "vanilla")
    )
    assert correct(blurred, "vanilla")[0] < correct(own, "vanilla")[0]
    assert blurred["adapted"]["invariance_residual"] == 0
    # The canonicalizer looks at the picture, before anything is resized.
    assert blurred["adapted"]["poses"] == own["adapted"]["poses"]
    assert artifact.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preprocess", "none", "--image-size", 32), "--image-size resizes, which --preprocess none forbids"),
        (("--preprocess", "checkpoint"), "nothing says how this network's pictures are resized; add --image-size N"),
        (("--image-size", 4), "--image-size"),
        (("--preprocess", "other"), "--preprocess"),
        (("--rotate", "both"), "--rotate"),
        (("--reencode", "gif:3"), "--reencode gif:3: must be jpeg:QUALITY or webp:QUALITY"),
        (("--reencode", "jpeg:75", "--rotate", "input"), "--rotate input turns tensors; add --rotate file"),
    ],
)
def test_preprocessings_that_cannot_be_are_refused_in_one_line(refused, quickstart, arguments, words) -> None:
    assert words in refused(quickstart.folder / "data", 2, *arguments)


@pytest.mark.slow
def test_what_the_runs_recipe_turns_is_turned_unless_a_flag_says_otherwise(cli, quickstart, mixed, tmp_path) -> None:
    shutil.copytree(quickstart.folder / "run", tmp_path / "run")
    settings = tmp_path / "run" / "resolved.yaml"
    settings.write_text(settings.read_text().replace("rotate: file", "rotate: input"))
    card, size = (tmp_path / "run" / "README.md").read_text(), ("--preprocess", "checkpoint", "--image-size", 32)
    for arguments, rotate in ((size, "input"), ((*size, "--rotate", "file"), "file")):
        result = cli("evaluate", "run", "--data", mixed, *arguments, "--json", cwd=tmp_path)
        assert json.loads(result.stdout)["rotate"] == rotate
    # Of another preprocessing, or other images, the model card says nothing.
    assert (tmp_path / "run" / "README.md").read_text() == card


def test_what_is_compressed_again_is_told_and_no_longer_called_exact(evaluate, mixed, tmp_path) -> None:
    harsh = evaluate(mixed, "--reencode", "jpeg:20")
    (report,) = tmp_path.glob("*/report.md")
    assert harsh["reencode"] == "jpeg:20" and harsh["adapted"]["max_logit_delta"] > 0
    assert "is turned by C4 and compressed again (jpeg:20), also at 0°" in report.read_text()
    assert "compressed again, a picture has other pixels at each turn" in report.read_text()
    plain = evaluate(mixed, "--reencode", "none")
    assert plain["reencode"] == "none" and plain["adapted"]["max_logit_delta"] == 0
    assert abs(harsh["adapted"]["pose_accuracy"] - plain["adapted"]["pose_accuracy"]) < 0.1


@pytest.mark.slow
def test_what_the_runs_recipe_compresses_is_compressed_unless_a_flag_says_otherwise(
    cli, quickstart, mixed, tmp_path
) -> None:
    shutil.copytree(quickstart.folder / "run", tmp_path / "run")
    settings = tmp_path / "run" / "resolved.yaml"
    settings.write_text(settings.read_text().replace("reencode: none", "reencode: webp:30"))
    for arguments, told in (((), "webp:30"), (("--reencode", "none"), "none")):
        result = cli("evaluate", "run", "--data", mixed, *arguments, "--json", cwd=tmp_path)
        assert json.loads(result.stdout)["reencode"] == told


def test_a_network_at_chance_is_told_by_adapt_and_evaluate_and_in_their_documents(cli, few, tmp_path: Path) -> None:
    import torch

    from equicli.files import write_tensors
    from equicli.prediction.timm_source import create

    torch.manual_seed(0)
    write_tensors(tmp_path / "untrained.safetensors", create("test_resnet", {"num_classes": 9}).state_dict())
    command = (
        "--recipe",
        "quickstart",
        "--checkpoint",
        "untrained.safetensors",
        "--epochs",
        "1",
        "-o",
        "run",
        few / "data",
    )
    for words in (("adapt", *command), ("evaluate", "run")):
        result = cli(*words, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "mind: the network alone is right about" in result.stdout and "--checkpoint" in result.stdout
        (line, *_) = json.loads((tmp_path / "run" / "metrics.json").read_text())["warnings"]
        assert line in " ".join(result.stdout.split()) and line in (tmp_path / "run" / "report.md").read_text()


def test_labels_are_the_networks_own_so_other_folders_can_be_evaluated(cli, few, tmp_path: Path) -> None:
    import torch

    from equicli.files import write_tensors
    from equicli.prediction.timm_source import create

    torch.manual_seed(0)
    write_tensors(tmp_path / "own.safetensors", create("test_resnet", {"num_classes": 1000}).state_dict())
    known, other, unknown = ("tench", "great_white_shark"), ("n01443537", "hammerhead"), ("tench", "digit")
    for data, names in {"data": known, "other": other, "unknown": unknown}.items():
        for digit, name in enumerate(names):
            shutil.copytree(few / "data" / "train" / str(digit), tmp_path / data / name)
    command = ("--recipe", "quickstart", "--model-arg", "num_classes=1000", "--epochs", "1", "-o", "run")
    result = cli("adapt", *command, "--checkpoint", "own.safetensors", "data", cwd=tmp_path)
    assert result.returncode == 0 and "own.safetensors names its 1000 classes" in result.stderr
    result = cli("evaluate", "run", "--data", "other", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["labels"] == "folders" and "classes of the network's own" in result.stderr
    result = cli("evaluate", "run", "--data", "unknown", cwd=tmp_path)
    assert result.returncode == 1 and "class folder 'digit' (1 such) is none of the 2 classes" in result.stderr
