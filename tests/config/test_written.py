"""What people write: flags, --set, a recipe and defaults; wrong keys and values are named."""

import os
import re
from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from equicli import recipes as configuration
from equicli.canonicalization.consensus import ConsensusSettings
from equicli.config import build_config, names_code
from equicli.errors import UsageError
from equicli.recipes import expand_path, load_recipe, parse_pair
from tests.config.building import NEEDED, build, error_of

RECIPES = sorted(path.stem for path in configuration.recipe_folder().glob("*.yaml"))


def test_a_flag_wins_over_set_and_set_over_the_recipe_and_the_recipe_over_the_default(recipe) -> None:
    mine = recipe("epochs: 3\nbatch_size: 5\nseed: 7\ncanonicalizer: {size: 48, width: 8}")
    config = build("batch_size=6", "seed=8", "canonicalizer.width=16", recipe=mine, seed=9)
    training = config.training
    assert (training.learning_rate, training.epochs, training.batch_size, config.seed) == (1e-3, 3, 6, 9)
    assert config.canonicalizer == ConsensusSettings(size=48, width=16)


def test_a_flag_that_is_not_given_leaves_what_is_there(recipe) -> None:
    config = build(recipe=recipe("epochs: 3\nstrict: true"), epochs=None, strict=None)
    assert (config.training.epochs, config.strict) == (3, True)
    assert build(seed=0, recipe=recipe("seed: 7")).seed == 0  # zero is given


def test_flags_of_nested_keys_leave_their_neighbours_alone(recipe) -> None:
    flags = {**NEEDED, "canonicalizer.size": 24}
    config = build_config(flags, [], recipe("canonicalizer: {width: 8}"))
    assert config.canonicalizer == ConsensusSettings(size=24, width=8)


def test_set_adds_to_the_arguments_of_a_recipe(recipe) -> None:
    config = build("model_args.drop_rate=0.5", recipe=recipe("model_args: {num_classes: 9}"))
    assert config.network.model_args == {"num_classes": 9, "drop_rate": 0.5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("2.5e3", 2500.0),
        ("-1e2", -100.0),
        ("0.1", 0.1),
        ("7", 7),
        ("true", True),
        ("false", False),
        ("null", None),
        ("same", "same"),
        ("'7'", "7"),
        ("e4", "e4"),
        ("1e", "1e"),
        ("a=b", "a=b"),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
@pytest.mark.parametrize("flag", ["--set", "--model-arg"])
def test_values_on_the_command_line_are_read_as_people_write_them(flag: str, text: str, value: object) -> None:
    key, found = parse_pair(f"key={text}", flag)
    assert key == "key"
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["2020-13-45", "!!int x", "!!timestamp x", "[" * 600, "9" * 5000, "a: b: c"])
def test_what_yaml_has_no_value_for_is_no_internal_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"--set .*: the value is not valid YAML"):
        parse_pair(f"key={text}", "--set")
    (tmp_path / "mine.yaml").write_text(f"key: {text}")
    with pytest.raises(UsageError, match=r"--recipe .*mine\.yaml: not a valid YAML file"):
        load_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("settings", "key", "value"),
    [
        (["learning_rate=1e-4"], "training.learning_rate", 1e-4),
        (["training.weight_decay=0"], "training.weight_decay", 0.0),
        (["training={weight_decay: 0}"], "training.weight_decay", 0.0),
        (["mean=[0.1, 0.2, 0.3]"], "network.mean", (0.1, 0.2, 0.3)),
        (["checkpoint=null"], "network.checkpoint", None),
        (["group=c8"], "group", "c8"),
        (["model_args={num_classes: 9, drop_rate: 1e-1}"], "network.model_args", {"num_classes": 9, "drop_rate": 0.1}),
        (["network.model_args.num_classes=9"], "network.model_args", {"num_classes": 9}),
        (["head=none"], "task.head", "none"),
        (["task=classification"], "task.kind", "classification"),
        (["task.prompts=/p.txt"], "task.prompts", "/p.txt"),
        (["canonicalizer=equivariant"], "canonicalizer.kind", "equivariant"),
        (["policy=mean"], "policy.kind", "mean"),
        (["policy={kind: mean, of: logits}"], "policy.of", "logits"),
        (["rotate=input"], "evaluation.rotate", "input"),
        (["reencode=jpeg:75"], "evaluation.reencode", "jpeg:75"),
        (["split_seed=3"], "split.seed", 3),
        (["split.seed=3"], "split.seed", 3),
        (["seed=3"], "split.seed", 3),
        (["seed=3", "split_seed=null"], "split.seed", 3),
    ],
    ids=str,
)
def test_any_setting_can_be_set(settings: list[str], key: str, value: object) -> None:
    assert attrgetter(key)(build(*settings)) == value


def test_scientific_notation_is_a_number_in_recipes_too(recipe) -> None:
    config = build(recipe=recipe("learning_rate: 1e-4\nmodel_args: {drop_rate: 1e-1}"))
    assert config.training.learning_rate == 1e-4
    assert config.network.model_args == {"drop_rate": 0.1}


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("lerning_rate=1", "lerning_rate"),
        ("canonicalizer.widht=8", "canonicalizer.widht"),
        ("canonicaliser.width=8", "canonicaliser"),
        ("canonicalizer_size=32", "canonicalizer_size"),
        ("modelargs.num_classes=9", "modelargs"),
        ("training.epoch=9", "training.epoch"),
        ("trainings.epochs=9", "trainings"),
    ],
)
def test_an_unknown_key_is_named_with_a_known_one_that_works(setting: str, key: str) -> None:
    message = error_of(setting)
    assert f"unknown key '{key}'" in message
    nearest = re.search(r"Did you mean '([\w.]+)'", message)
    assert nearest is not None
    value = "{}" if nearest[1] in ("canonicalizer", "model_args", "training") else "32"
    build(f"{nearest[1]}={value}")


_UNKNOWN = ["epochz: 3", "canonicalizer: {widht: 8}", "training: {epochz: 1}", "1: 2", "null: 2", "true: 2"]


@pytest.mark.parametrize("text", [*_UNKNOWN, "average: none"])
def test_unknown_keys_of_a_recipe_are_named(recipe, text: str) -> None:
    assert "unknown key" in error_of(recipe=recipe(text))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=-1", ["epochs = -1: must be 0 or more"]),
        ("epochs=2.5", ["epochs = 2.5: must be a whole number"]),
        ("training.epochs=0", ["training.epochs = 0"]),
        ("training={epochs: 0}", ["training.epochs = 0"]),
        ("training=3", ["training = 3", "training.train_base"]),
        ("split_seed=-1", ["split_seed = -1"]),
        ("split.seed=-1", ["split.seed = -1"]),
        ("train_base=maybe", ["train_base = 'maybe'"]),
        ("task=sounds", ["--task sounds: no such task", "classification"]),
        ("task.heads=none", ["unknown key 'task.heads' of --task classification", "Did you mean 'task.head'"]),
        ("policy=always", ["policy = 'always'", "'one', 'mean' or 'gate'"]),
        ("rotate=both", ["rotate = 'both'", "'file' or 'input'"]),
        ("reencode=jpeg", ["--reencode jpeg: must be jpeg:QUALITY"]),
        ("evaluation={reencode: jpeg:75, rotate: input}", ["--reencode jpeg:75", "--rotate input"]),
        ("average=logits", ["unknown key 'average'", "policy=mean", "policy.of"]),
        ("epochs=many", ["epochs = 'many': must be a whole number"]),
        ("epochs=", ["epochs = None"]),
        ("learning_rate=0", ["learning_rate = 0", "must be more than 0"]),
        ("learning_rate=.nan", ["learning_rate = nan"]),
        ("learning_rate=.inf", ["learning_rate = inf"]),
        ("prior_weight=.inf", ["prior_weight = inf"]),
        ("prior_weight=-1", ["prior_weight = -1"]),
        ("validation_fraction=1", ["validation_fraction = 1", "must be less than 1"]),
        ("test_fraction=0", ["test_fraction = 0"]),
        ("canonicalizer.width=3", ["canonicalizer.width = 3", "must be 4 or more"]),
        ("canonicalizer=32", ["canonicalizer = 32", "canonicalizer.kind"]),
        ("canonicalizer=", ["canonicalizer = None", "canonicalizer.kind"]),
        ("canonicalizer.size.x=3", ["canonicalizer.size"]),
        ("model_args=", ["model_args = None"]),
        ("model_args.layers=[1, 2]", ["model_args.layers = [1, 2]"]),
        ("epochs.x=1", ["epochs"]),
        ("mean=[0.5, 0.5]", ["mean"]),
        ("mean=0.5,0.5", ["mean = '0.5,0.5'", "three numbers"]),
        ("std=[0, 0, 0]", ["std"]),
        ("std=[-1, 1, 1]", ["std"]),
        ("group=q4", ["group", "q4"]),
        ("group=4", ["--group 4: not a group"]),
        ("head=never", ["head = 'never'", "'auto', 'none' or 'new'"]),
        ("device=gpu", ["device = 'gpu'"]),
        ("strict=maybe", ["strict = 'maybe'"]),
        ("seed=-1", ["seed = -1"]),
        ("image_size=4", ["image_size = 4"]),
        ("group=so3", ["so3", "points in space"]),
        ("padding=wrap", ["padding = 'wrap'", "'reflect'"]),
        ("canonicalizer.kind=optimised", ["--canonicalizer optimised", "Did you mean 'optimized'"]),
        ("canonicalizer.kind=3", ["--canonicalizer 3", "equivariant"]),
        ("canonicalizer.kind=[1]", ["--canonicalizer [1]"]),
        ("canonicalizer.kind={a: 1}", ["--canonicalizer {'a': 1}"]),
        ("canonicalizer.kind=", ["--canonicalizer None"]),
        (
            "canonicalizer.kind=steerable",
            ["--canonicalizer steerable: not for --group c4", "takes consensus, optimized, equivariant, energy"],
        ),
        ("canonicalizer={kind: equivariant, size: 64}", ["--canonicalizer-size 64", "take 65"]),
        (
            "canonicalizer={kind: equivariant, network: conv}",
            ["canonicalizer.network = 'conv'", "'gwrn' or 'escnn'"],
        ),
        ("canonicalizer={kind: energy, size: 64}", ["unknown key 'canonicalizer.size'"]),
        ("prior=r45", ["prior", "--prior r45: no pose of c4", "r90"]),
        ("prior=r0m", ["--prior r0m: no pose of c4"]),
        ("prior=r0 r90", ["--prior r0 r90: no pose of c4"]),
        ("prior=upright", ["--prior upright"]),
        ("prior=[90]", ["--prior 90"]),
        ("prior=90", ["--prior", "r0,r180"]),
        ("prior=true", ["--prior", "r0,r180"]),
        ("prior={r0: 0.5, r90: 0.4}", ["add up to 0.9, not to 1"]),
        ("prior={r0: x}", ["--prior", "number from 0 to 1"]),
        ("prior={r0: }", ["--prior", "number from 0 to 1"]),
        ("prior={r0: .nan}", ["--prior", "number from 0 to 1"]),
        ("prior={r0: 1.5, r90: -0.5}", ["--prior", "number from 0 to 1"]),
        ("prior={r0: 0.5, r45: 0.5}", ["--prior r45: no pose of c4"]),
        ("prior=none.yaml", ["--prior ", "none.yaml: cannot be read"]),
        ("prior_weight=0", ["nothing is learned"]),
        ("artifact_weight=1", ["c4 permutes pixels"]),
        ("artifact_weight=-1", ["artifact_weight = -1"]),
        ("contrast_weight=-1", ["contrast_weight = -1"]),
        ("task_weight=-1", ["task_weight = -1"]),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_would_fit(setting: str, words: list[str]) -> None:
    message = error_of(setting)
    for word in words:
        assert word in message
    assert "Value error" not in message and ".bool" not in message


def test_a_key_is_one_setting_however_it_is_written(recipe) -> None:
    mine = recipe("epochs: 3\ntraining: {batch_size: 5, learning_rate: 0.5}")
    training = build("training.epochs=4", "learning_rate=0.25", recipe=mine, batch_size=6).training
    assert (training.epochs, training.batch_size, training.learning_rate) == (4, 6, 0.25)
    assert build(recipe=recipe("epochs: 3\ntraining: {epochs: 3}")).training.epochs == 3
    assert build("epochs=3", "epochs=4").training.epochs == 4
    for two in (
        {"settings": ["epochs=3", "training.epochs=4"]},
        {"recipe": recipe("epochs: 3\ntraining: {epochs: 4}")},
    ):
        message = error_of(*two.get("settings", []), recipe=two.get("recipe"))
        assert "epochs = 3 and training.epochs = 4 are one setting" in message


def test_a_fault_of_several_settings_names_them_as_they_were_written() -> None:
    assert "training.prior_weight and task_weight are both 0" in error_of("training.prior_weight=0")
    assert "policy: so2 has infinitely many poses" in error_of("policy=mean", "group=so2")
    assert "policy.kind: so2 has infinitely many poses" in error_of("policy.kind=mean", "group=so2")


def test_a_flat_recipe_is_the_same_as_one_in_sections(recipe) -> None:
    flat = build(
        recipe=recipe("model_args: {num_classes: 9}\nhead: none\nepochs: 3\ntest_fraction: 0.5\nrotate: input")
    )
    whole = "network: {model_args: {num_classes: 9}}\ntask: {head: none}\ntraining: {epochs: 3}\n"
    assert flat == build(recipe=recipe(whole + "split: {test_fraction: 0.5}\nevaluation: {rotate: input}"))


@pytest.mark.parametrize("setting", ["epochs", "=3", "", "epochs=[1", "epochs=@", "epochs={"])
def test_what_is_no_pair_is_told(setting: str) -> None:
    assert error_of(setting).startswith(f"--set {setting}: ")


@pytest.mark.parametrize(
    ("flags", "missing"), [({"data": "photos"}, "--model"), ({"model": "test_resnet"}, "DATA"), ({}, "DATA")]
)
def test_data_and_model_are_asked_for(flags: dict[str, str], missing: str) -> None:
    assert f"{missing} is missing" in error_of(flags=flags)


def test_an_empty_path_is_not_the_working_directory() -> None:
    """As from `equicli adapt "$PHOTOS"` where the variable is not set."""
    assert "data" in error_of(flags={**NEEDED, "data": ""}).lower()


def test_variables_and_the_home_folder_are_expanded_in_paths(monkeypatch) -> None:
    monkeypatch.setenv("EQUICLI_TEST_FOLDER", "/mnt/photos")
    monkeypatch.setenv("HOME", "/home/me")
    config = build(
        "canonicalizer.network=resnet18",
        "canonicalizer.checkpoint=${EQUICLI_TEST_FOLDER}/c.pth",
        data="${EQUICLI_TEST_FOLDER}/x",
    )
    assert (config.data, config.canonicalizer.checkpoint) == ("/mnt/photos/x", "/mnt/photos/c.pth")
    assert build(checkpoint="~/w.pth").network.checkpoint == "/home/me/w.pth"
    assert expand_path("photos/../x") == str(Path.cwd() / "photos/../x")  # a run can be used from anywhere


def test_variables_are_expanded_in_nothing_but_paths(monkeypatch) -> None:
    monkeypatch.setenv("EQUICLI_TEST_FOLDER", "/mnt/photos")
    assert build(model="${EQUICLI_TEST_FOLDER}").network.model == "${EQUICLI_TEST_FOLDER}"


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_is_named(monkeypatch, value: str | None) -> None:
    monkeypatch.delenv("EQUICLI_TEST_FOLDER", raising=False)
    if value is not None:
        monkeypatch.setenv("EQUICLI_TEST_FOLDER", value)
    assert "EQUICLI_TEST_FOLDER" in error_of("data=${EQUICLI_TEST_FOLDER}/x", flags={"model": "test_resnet"})


def test_the_home_folder_of_nobody_is_told() -> None:
    assert "~nobody-at-all" in error_of(flags={**NEEDED, "data": "~nobody-at-all/x"})


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_recipe_is_valid(monkeypatch, name: str) -> None:
    monkeypatch.setenv("EQUICLI_TEST_DATA", "/dummy")
    said = load_recipe(name)
    model = said.get("model") or said.get("network", {}).get("model", "python:module:factory")
    flags = {"data": None if "data" in said else "photos", "model": model if names_code(model) else None}
    config = build_config(flags, [], name)
    assert config.network.model and not config.data.startswith("$")


def test_the_quickstart_recipe_lacks_only_the_data() -> None:
    config = build_config({"data": "digits"}, [], "quickstart")
    assert (config.network.model, config.network.model_args, config.canonicalizer.network) == (
        "test_resnet",
        {"num_classes": 9},
        "conv",
    )
    assert "DATA is missing" in error_of(recipe="quickstart", flags={})


def test_a_recipe_that_is_not_shipped_is_a_wrong_command_line() -> None:
    assert "Did you mean 'quickstart'?" in error_of(recipe="quikstart")
    for name in ("systems/equitunning", "equituning"):
        assert "Did you mean 'systems/equituning'?" in error_of(recipe=name)
    assert all(name in error_of(recipe="zzz") for name in RECIPES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1\n- 2",
        b"just words",
        b"a: [1",
        b"\xff\xfe\x00",
        b"a: 1\n\tb: 2",
        b"!!python/object/apply:os.getcwd []",
    ],
)
def test_a_file_that_is_no_recipe_is_named(recipe, content: bytes) -> None:
    path = recipe(content)
    assert error_of(recipe=path).startswith(f"--recipe {path}: ")


def test_code_in_a_recipe_is_not_run(recipe, tmp_path: Path) -> None:
    error_of(recipe=recipe(f"data: !!python/object/apply:os.mkdir ['{tmp_path / 'sprung'}']"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["none.yaml", "folder.yaml"])
def test_a_recipe_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert f"--recipe {tmp_path / name}: cannot be read" in error_of(recipe=str(tmp_path / name))


def test_a_resolved_configuration_is_itself_a_recipe(recipe) -> None:
    config = build("mean=[0.1, 0.2, 0.3]", "canonicalizer.size=24", "learning_rate=1e-7", checkpoint="w.pth")
    again = build_config({}, [], recipe(yaml.safe_dump(config.model_dump(mode="json"))))
    assert again == config


def test_a_configuration_does_not_change_once_built() -> None:
    config = build()
    with pytest.raises(ValidationError):
        config.seed = 3
    with pytest.raises(ValidationError):
        config.training.epochs = 3
    with pytest.raises(ValidationError):
        config.canonicalizer.size = 3


def test_building_leaves_flags_and_environment_as_they_were() -> None:
    flags, environment = dict(NEEDED), dict(os.environ)
    build_config(flags, ["canonicalizer.size=24"], "quickstart")
    assert (flags, dict(os.environ)) == (NEEDED, environment)
