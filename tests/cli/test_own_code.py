"""Code is imported only where the command line names it: never a recipe, a run folder or what somebody sent."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from equicli.training import loop

# Whoever imports or calls this leaves a trace.
CODE = """
import os, timm, torch
from pathlib import Path
Path("imported").touch()
def make(seed=0):
    Path("called").write_text(str(seed))
    torch.manual_seed(seed + int(os.environ.get("OTHER_WEIGHTS", 0)))
    return timm.create_model("test_resnet", num_classes=2)
other = make_again = make
"""
OWN = ("--model", "python:sent_code:make")
SMALL = ("--preprocess", "none", "--epochs", "1", "--canonicalizer-size", "16", "--set", "canonicalizer.width=4")


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with photos, code that nobody asked for, and recipes that name it."""
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.linear_gradient("L").resize((32, 32)).point(lambda v, i=i: v // 2 + 9 * i).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    (tmp_path / "sent_code.py").write_text(CODE)
    sent = {"data": "photos", "network": {"model": OWN[1], "model_args": {"seed": 3}, "preprocess": "none"}}
    (tmp_path / "sent.yaml").write_text(yaml.safe_dump(sent))
    flat = {"data": "photos", "model": "python:subprocess:run", "model_args": {"args": "touch called", "shell": True}}
    (tmp_path / "flat.yaml").write_text(yaml.safe_dump(flat))
    monkeypatch.delitem(__import__("sys").modules, "sent_code", raising=False)
    return tmp_path


def refused(result, here: Path, *words: str) -> None:
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("equicli: ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert not (here / "imported").exists() and not (here / "called").exists()


@pytest.mark.parametrize("command", ["adapt", "compare"])
@pytest.mark.parametrize(("recipe", "code"), [("sent.yaml", OWN[1]), ("flat.yaml", "python:subprocess:run")])
def test_a_recipe_runs_no_code(cli, here: Path, command, recipe, code) -> None:
    result = cli(command, "--recipe", recipe, *SMALL[2:4], cwd=here)
    refused(result, here, f"--recipe {recipe}: names code to run, {code}", f"add --model {code}")
    assert not (here / "runs").exists()


@pytest.mark.parametrize("typed", [OWN, ("--set", f"model={OWN[1]}"), ("--model", "python:sent_code:other")])
def test_code_that_is_typed_is_run_with_the_arguments_of_the_recipe(cli, here: Path, typed) -> None:
    result = cli("adapt", "--recipe", "sent.yaml", *typed, *SMALL, "-o", "out", cwd=here)
    assert result.returncode == 0, result.stderr
    assert (here / "called").read_text() == "3"
    assert yaml.safe_load((here / "out" / "resolved.yaml").read_text())["network"]["model"] == typed[1].split("=")[-1]


def begun(cli, here: Path, monkeypatch) -> None:
    """A run of own code that was killed after its first epoch."""
    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        result = cli("adapt", "photos", *OWN, *SMALL, "-o", "out", cwd=here)
    assert result.returncode == 130
    assert f"to go on: equicli adapt --resume out --model {OWN[1]}" in result.stderr
    (here / "imported").unlink()
    (here / "called").unlink()


def test_a_run_folder_runs_no_code_unless_the_same_is_typed(cli, here: Path, monkeypatch) -> None:
    begun(cli, here, monkeypatch)
    result = cli("adapt", "--resume", "out", cwd=here)
    refused(result, here, f"--resume out: names code to run, {OWN[1]}", f"add --model {OWN[1]}")
    other = cli("adapt", "--resume", "out", "--model", "python:sent_code:other", cwd=here)
    refused(other, here, f"was begun with --model {OWN[1]}, not python:sent_code:other")
    refused(cli("adapt", "--resume", "out", "--model", "test_resnet", cwd=here), here, "takes 'model' from the run")
    refused(cli("adapt", "--resume", "out", *OWN, "--seed", "1", cwd=here), here, "takes 'seed' from the run")
    resumed = cli("adapt", "--resume", "out", *OWN, "--json", "--quiet", cwd=here)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["split"] == "validation" and (here / "called").exists()


def test_a_run_of_other_networks_is_not_made_to_run_code(cli, here: Path, monkeypatch) -> None:
    """Somebody may send a run folder whose settings say anything."""
    begun(cli, here, monkeypatch)
    settings = yaml.safe_load((here / "out" / "resolved.yaml").read_text())
    settings["network"] |= {"model": "python:subprocess:run", "model_args": {"args": "touch called", "shell": True}}
    (here / "out" / "resolved.yaml").write_text(yaml.safe_dump(settings))
    refused(cli("adapt", "--resume", "out", cwd=here), here, "names code to run, python:subprocess:run")
    refused(cli("adapt", "--recipe", "out/resolved.yaml", cwd=here), here, "names code to run")


def test_a_run_whose_code_gives_other_weights_by_now_does_not_go_on(cli, here: Path, monkeypatch) -> None:
    begun(cli, here, monkeypatch)
    monkeypatch.setenv("OTHER_WEIGHTS", "1")
    result = cli("adapt", "--resume", "out", *OWN, cwd=here)
    assert result.returncode == 1
    assert "--resume out: the prediction network's weights or prompts changed since" in result.stderr
    monkeypatch.delenv("OTHER_WEIGHTS")
    assert cli("adapt", "--resume", "out", *OWN, cwd=here).returncode == 0


def test_a_run_of_own_code_that_lacks_only_its_reports_gets_them(cli, here: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("equicli.pipeline.evaluate_images", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli("adapt", "photos", *OWN, *SMALL, "-o", "out", cwd=here).returncode == 130
    before = load_file(here / "out" / "model.safetensors")
    monkeypatch.setenv("OTHER_WEIGHTS", "1")  # those of the artifact count
    result = cli("adapt", "--resume", "out", *OWN, cwd=here)
    assert result.returncode == 0, result.stderr
    assert (here / "out" / "README.md").is_file()
    assert load_file(here / "out" / "model.safetensors").keys() == before.keys()


def test_a_canonicalization_network_is_never_code(cli, here: Path) -> None:
    (here / "sly.yaml").write_text(f"data: photos\nmodel: test_resnet\ncanonicalizer: {{network: '{OWN[1]}'}}\n")
    refused(cli("adapt", "--recipe", "sly.yaml", cwd=here), here, "canonicalization network of your own code")
    typed = ("--canonicalizer-network", OWN[1], "--model", "test_resnet")
    refused(cli("adapt", "photos", *typed, cwd=here), here, "canonicalization network of your own code")
