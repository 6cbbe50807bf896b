"""What `--help` shows is so: defaults, choices and names, and all of them at 80 columns."""

import re
from typing import get_args

import pytest
import typer

from equicli.canonicalization.registry import REGISTRY
from equicli.cli import app, options
from equicli.config import AdaptConfig, build_config
from equicli.settings import EvaluationSettings, NetworkSettings, TrainingSettings
from equicli.tasks.classification.task import ClassificationSettings
from equicli.tasks.registry import TASKS

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = {f"{name} --{option.name}": option for name, command in COMMANDS.items() for option in command.params}


def asks(option) -> bool:
    """Whether it takes a value."""
    return not getattr(option, "is_flag", False) and option.name != "help"


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if asks(option)])
def test_every_option_that_takes_a_value_says_what_it_is_without_one(name: str) -> None:
    option = OPTIONS[name]
    assert isinstance(option.show_default, str) or option.default is not None


def test_the_defaults_that_help_shows_are_those_of_the_configuration() -> None:
    config = build_config({"data": "d", "model": "m"}, [], None)
    training, network = config.training, config.network
    expected = {
        "group": config.group,
        "task": config.task.kind,
        "head": "auto",
        "preprocess": network.preprocess,
        "padding": config.padding,
        "epochs": training.epochs,
        "batch_size": training.batch_size,
        "seed": config.seed,
        "device": config.device,
        "ema": network.ema,
        "max_pixels": config.max_pixels,
        "precision": training.precision,
    }
    assert {name: OPTIONS[f"adapt --{name}"].show_default for name in expected} == {
        name: str(value) for name, value in expected.items()
    }
    assert f"{config.canonicalizer.kind};" in OPTIONS["adapt --canonicalizer"].show_default
    assert config.canonicalizer.size is None and OPTIONS["adapt --canonicalizer_size"].show_default.startswith(
        "of auto"
    )
    assert f"{config.canonicalizer.network};" in OPTIONS["adapt --canonicalizer_network"].show_default
    other = build_config({"data": "d", "model": "m", "canonicalizer.kind": "equivariant"}, [], None).canonicalizer
    assert OPTIONS["adapt --canonicalizer_size"].show_default.endswith(f" {other.size}")
    assert OPTIONS["adapt --canonicalizer_network"].show_default.endswith(f" {other.network}")
    assert OPTIONS["compare --rotate"].show_default == config.evaluation.rotate
    assert OPTIONS["compare --reencode"].show_default == config.evaluation.reencode


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        (options.Head, ClassificationSettings.model_fields["head"]),
        (options.Preprocess, NetworkSettings.model_fields["preprocess"]),
        (options.Padding, AdaptConfig.model_fields["padding"]),
        (options.Precision, TrainingSettings.model_fields["precision"]),
        (options.Ema, NetworkSettings.model_fields["ema"]),
        (options.Rotate, EvaluationSettings.model_fields["rotate"]),
    ],
)
def test_the_choices_of_a_flag_are_those_of_its_setting(choices, field) -> None:
    assert [choice.value for choice in choices] == list(get_args(field.annotation))


def test_compare_takes_what_adapt_takes_of_data_and_network() -> None:
    """Errors name these options as remedies, whichever of the two met them."""
    of_both = {option.name for name, option in OPTIONS.items() if name.startswith("adapt ") and of_data(option)}
    assert of_both - {"task"} <= {option.name for option in COMMANDS["compare"].params}


def of_data(option) -> bool:
    return getattr(option, "rich_help_panel", None) in (options.DATA, options.NETWORK)


def test_help_names_every_task_and_canonicalizer() -> None:
    assert all(name in OPTIONS["adapt --task"].help for name in TASKS)
    assert all(re.search(rf"\b{name}\b", OPTIONS["adapt --canonicalizer"].help) for name in REGISTRY)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_shown_whole_at_80_columns(cli, tmp_path, monkeypatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = cli(command, "--help", cwd=tmp_path).stdout
    assert max(map(len, shown.splitlines())) <= 80
    for option in COMMANDS[command].params:
        for name in option.opts if option.param_type_name == "option" else []:
            assert re.search(rf"{name}\s", shown), name


def test_an_error_of_the_command_line_points_to_the_help_of_its_command(cli, tmp_path) -> None:
    wrong = cli("evaluate", "--rotate", "both", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "'both' is not one of 'file', 'input'" in wrong.stderr and "`equicli evaluate --help`" in wrong.stderr
    assert "`equicli --help`" in cli("evalute", cwd=tmp_path).stderr
