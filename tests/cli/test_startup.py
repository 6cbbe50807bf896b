"""What the command line does before any work: help, version, and no heavy imports."""

import json
import subprocess
import sys

import pytest
import timm

import equicli
from equicli.prediction import catalogue
from equicli.prediction.short_names import SHORT_NAMES


def test_help_lists_every_command_without_importing_torch() -> None:
    script = (
        "import sys; sys.argv = ['equicli', '--help']\n"
        "from equicli.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "assert not {'torch', 'timm', 'pydantic'} & set(sys.modules), 'heavy import'"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for command in ("adapt", "evaluate", "export", "inspect", "models", "quickstart"):
        assert command in result.stdout


def test_the_version_is_printed_by_module_and_flag(run_cli) -> None:
    assert run_cli("--version").stdout == f"equicli {equicli.__version__}\n"


def test_models_lists_every_short_name_with_its_full_name_and_size(cli, tmp_path) -> None:
    lines = [line.split() for line in cli("models", cwd=tmp_path).stdout.splitlines()]
    clouds = {name: size for name, *size in lines if size[-1] == "clouds"}
    assert clouds == {"pointnet": ["0.8", "M", "clouds"], "dgcnn": ["1.8", "M", "clouds"]}
    of_pictures = [line for line in lines if line[0] not in clouds]
    assert {short: full for short, full, *_ in of_pictures} == SHORT_NAMES
    sizes = {short: size for short, _, *size in of_pictures}
    assert sizes["vit_base"] == ["86.6", "M", "224", "px"]  # as published
    assert sizes["resnet50"] == ["25.6", "M", "224", "px"]


def test_models_counts_what_would_be_built(cli, tmp_path) -> None:
    found = json.loads(cli("models", "mobilenet", "--json", cwd=tmp_path).stdout)
    assert list(found) == ["mobilenetv2", "mobilenetv3", "mobilenetv4"]
    for short, entry in found.items():
        network = timm.create_model(SHORT_NAMES[short])
        assert entry == {
            "model": SHORT_NAMES[short],
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "input_size": network.pretrained_cfg["input_size"][-1],
        }


def test_models_finds_short_names_by_their_full_names(cli, tmp_path) -> None:
    assert list(json.loads(cli("models", "RegNetY", "--json", cwd=tmp_path).stdout)) == ["regnet"]


def test_models_lists_timms_own_names_where_no_short_one_fits(cli, tmp_path, monkeypatch) -> None:
    found = json.loads(cli("models", "test_vit", "--json", cwd=tmp_path).stdout)
    assert list(found) == timm.list_pretrained("test_vit*")
    network = timm.create_model("test_vit3")
    assert found["test_vit3.r160_in1k"] == {
        "model": "test_vit3.r160_in1k",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "input_size": 160,
    }
    monkeypatch.setattr(catalogue, "MOST", 2)
    cut = cli("models", "test_vit", cwd=tmp_path)
    assert [line.split()[0] for line in cut.stdout.splitlines()] == list(found)[:2]
    assert f"{len(found) - 2} more" in cut.stderr


def test_models_lists_no_networks_without_classes(cli, tmp_path) -> None:
    assert timm.list_pretrained("*dinov2*")
    nothing = cli("models", "dinov2", cwd=tmp_path)
    assert nothing.returncode == 2 and nothing.stdout == ""
    assert "dinov2: " in nothing.stderr and "torchvision:NAME" in nothing.stderr


def test_a_configuration_is_checked_without_a_library_of_networks() -> None:
    code = (
        "import sys; from equicli.config import build_config; "
        "build_config({'data': 'x', 'model': 'y', 'group': 'c8'}, [], None); "
        "sys.exit(bool({'timm', 'torchvision', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "nosuch"], "nosuch: no such run folder"),
        (["export", "nosuch"], "nosuch: no such run folder"),
        (["export", "a.safetensors", "-o", "a.safetensors"], "--output a.safetensors: exists"),
    ],
)
def test_a_wrong_path_is_refused_before_torch_is_loaded(tmp_path, arguments: list[str], words: str) -> None:
    (tmp_path / "a.safetensors").touch()
    script = (
        f"import sys; sys.argv = ['equicli', *{arguments!r}]\n"
        "from equicli.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 2, stop.code\n"
        "assert not {'torch', 'timm'} & set(sys.modules), 'heavy import'"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0 and words in result.stderr, result.stderr


def test_evaluating_imports_no_library_that_it_does_not_ask(run_code, quickstart, few, tmp_path) -> None:
    code = (
        "import sys; sys.argv[0] = 'equicli'\n"
        "from equicli.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'transformers', 'sklearn', 'escnn'} & set(sys.modules)"
    )
    done = run_code(
        code,
        "evaluate",
        quickstart.folder / "model.safetensors",
        "--data",
        few / "data" / "test",
        "-o",
        tmp_path / "o",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
