"""What the command line does before any work: help, version, and no heavy imports."""

import subprocess
import sys

import equicli


def test_help_lists_every_command_without_importing_torch() -> None:
    script = (
        "import sys; sys.argv = ['equicli', '--help']\n"
        "from equicli.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "assert not {'torch', 'timm', 'pydantic'} & set(sys.modules), 'heavy import'"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for command in ("adapt", "evaluate", "export", "models", "quickstart"):
        assert command in result.stdout


def test_the_version_is_printed_by_module_and_flag(run_cli) -> None:
    assert run_cli("--version").stdout == f"equicli {equicli.__version__}\n"


def test_models_lists_short_names_with_their_full_name(run_cli) -> None:
    assert "vit_base" in run_cli("models").stdout
    assert "vit_base_patch16_224.augreg2_in21k_ft_in1k" in run_cli("models", "vit", "--json").stdout
    assert "resnet50" not in run_cli("models", "vit").stdout


def test_a_configuration_is_checked_without_a_library_of_networks() -> None:
    code = (
        "import sys; from equicli.config import build_config; "
        "build_config({'data': 'x', 'model': 'y', 'group': 'c8'}, [], None); "
        "sys.exit(bool({'timm', 'torchvision', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
