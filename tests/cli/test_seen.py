"""What a run and its artifact say of pictures that they were trained on, and of trainings that learned nothing."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from equicli.data.folders import open_folder

NUMBER_OF_CLASSES = 9
FEW = 12  # images of a class


@pytest.fixture(scope="module")
def made(cli, quickstart, tmp_path_factory) -> Path:
    """A run on a folder without a test part, exported in three ways."""
    here = tmp_path_factory.mktemp("seen")
    for label in sorted((quickstart.folder / "data" / "train").iterdir()):
        (here / "photos" / label.name).mkdir(parents=True)
        for path in sorted(label.iterdir())[:FEW]:
            shutil.copy(path, here / "photos" / label.name)
    weights = quickstart.folder / "network.safetensors"
    done(cli, here, "adapt", "photos", "--recipe", "quickstart", "--checkpoint", weights, "--epochs", "8", "-o", "run")
    for name, flags in {"whole": (), "adapter": ("--adapter-only",), "public": ("--no-hashes",)}.items():
        done(cli, here, "export", "run", "-o", f"{name}.safetensors", *flags)
    return here


def done(cli, here: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    result = cli(*arguments, cwd=here)
    assert result.returncode == 0, result.stderr
    return result


def parts(made: Path) -> dict[str, list[str]]:
    return json.loads((made / "run" / "split.json").read_text())


def seen_by(made: Path) -> int:
    return len(parts(made)["train"]) + len(parts(made)["validation"])


@pytest.mark.parametrize("name", ["whole", pytest.param("adapter", marks=pytest.mark.slow)])
def test_an_exported_file_tells_how_many_of_the_images_it_was_trained_on(cli, quickstart, made, tmp_path, name) -> None:
    copy = tmp_path / "elsewhere"
    for index, sample in enumerate(open_folder(made / "photos").samples):  # under other names
        (copy / sample.path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, copy / sample.path.parent.name / f"{index}.png")
    flags = ("--checkpoint", quickstart.folder / "network.safetensors") if name == "adapter" else ()
    command = ("evaluate", made / f"{name}.safetensors", "--data", copy, "-o", tmp_path / "out", *flags)
    printed = done(cli, tmp_path, *command).stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    words = f"{seen_by(made)} of {metrics['n']}"
    assert metrics["seen_in_training"] == seen_by(made) < metrics["n"] == FEW * NUMBER_OF_CLASSES
    assert metrics["warnings"][0].startswith(f"{words} images were trained on")
    assert words in printed and words in (tmp_path / "out" / "report.md").read_text()


def test_a_run_whose_folder_was_moved_is_evaluated_on_the_images_that_it_held_out(cli, made, tmp_path) -> None:
    shutil.copytree(made / "photos", tmp_path / "moved")
    shutil.copytree(made / "run", tmp_path / "run")
    result = done(cli, tmp_path, "evaluate", "run", "--data", "moved", "--json", "-o", "out")
    metrics = json.loads(result.stdout)
    assert (metrics["n"], metrics["split"], metrics["seen_in_training"]) == (len(parts(made)["test"]), "test", 0)
    assert not any("trained on" in line for line in metrics["warnings"])
    own = json.loads(done(cli, made, "evaluate", "run", "--json", "-o", tmp_path / "own").stdout)
    assert own["adapted"] == metrics["adapted"]


def test_a_file_without_hashes_says_nothing_and_inspect_shows_how_many_there_are(cli, made, tmp_path) -> None:
    command = ("evaluate", made / "public.safetensors", "--data", made / "photos", "--json", "-o", tmp_path / "out")
    metrics = json.loads(done(cli, tmp_path, *command).stdout)
    assert metrics["seen_in_training"] is None and not any("trained on" in line for line in metrics["warnings"])
    whole = cli("inspect", made / "whole.safetensors", cwd=tmp_path).stdout
    assert f"{seen_by(made)} seen in training" in whole
    assert "seen in training" not in cli("inspect", made / "public.safetensors", cwd=tmp_path).stdout


def test_reports_say_which_run_and_what_in_place_of_the_models_own(cli, made, tmp_path) -> None:
    shutil.copytree(made / "run", tmp_path / "runs" / "mine")
    shutil.copytree(made / "photos", tmp_path / "photos")
    (tmp_path / "runs" / "latest").symlink_to("mine")
    done(cli, tmp_path, "evaluate", "--rotations", "2")
    card = (tmp_path / "runs" / "mine" / "README.md").read_text()
    assert "equicli evaluate runs/mine --rotations 2" in card and "Of the last evaluation" in card
    result = done(cli, tmp_path, "evaluate", "--image-size", "24", "--json")
    metrics = json.loads(result.stdout)
    assert metrics["overrides"] == {"--image-size": 24}
    assert metrics["provenance"]["command"] == "equicli evaluate runs/mine --image-size 24 --json"
    report = (tmp_path / "runs" / "mine" / "report.md").read_text()
    assert "with --image-size 24 in place of the model's own" in report
    assert (tmp_path / "runs" / "mine" / "README.md").read_text() == card


def test_after_a_training_that_learned_nothing_the_next_step_is_no_export(cli, quickstart, made, tmp_path) -> None:
    weights = ("--checkpoint", quickstart.folder / "network.safetensors")
    untrained = ("--epochs", "1", "--set", "learning_rate=1e-9", "--seed", "4", "-o", "run")  # finds 2 of 9 at most
    result = done(cli, tmp_path, "adapt", made / "photos", "--recipe", "quickstart", *weights, *untrained)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["near_chance"] == ["canonicalizer"] and metrics["adapted"]["identity_rate"] < 0.375
    assert "though training learned next to nothing" in result.stderr and "near chance" in result.stderr
    assert "next: adapt anew" in result.stderr and "equicli export" not in result.stderr
    assert "--epochs" in result.stdout and "--canonicalizer-network" in result.stdout


def test_a_run_without_labels_keeps_the_names_that_the_network_has(cli, digits, tmp_path) -> None:
    import torch

    from equicli.artifact import read_config
    from equicli.files import write_tensors
    from equicli.prediction.timm_source import create

    torch.manual_seed(0)
    write_tensors(tmp_path / "own.safetensors", create("test_resnet", {"num_classes": 1000}).state_dict())
    for digit in "01":
        shutil.copytree(digits / "test" / digit, tmp_path / "photos", dirs_exist_ok=True)
    command = ("--recipe", "quickstart", "--model-arg", "num_classes=1000", "--epochs", "1", "-o", "run")
    done(cli, tmp_path, "adapt", "photos", *command, "--checkpoint", "own.safetensors")
    config = read_config(tmp_path / "run")
    assert config.labels == {} and "tench" in config.class_names[0]
    assert "Classes: the network's own 1000." in (tmp_path / "run" / "README.md").read_text()
    assert "the network's own 1000: " in cli("inspect", "run", cwd=tmp_path).stdout
