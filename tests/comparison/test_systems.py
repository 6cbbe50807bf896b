"""Which runs a comparison is made of."""

import pytest

from equicli.comparison.plan import plan
from equicli.comparison.systems import EVERY, ORACLE, TITLES, Part, choose_reference, parse_systems
from equicli.errors import UsageError
from equicli.recipes import load_recipe, recipe_folder

FLAGS = {"data": "data", "model": "test_resnet", "group": "c4"}
JOINT = {"augmentation", "learned-joint", "equiadapt-joint", "equioptadapt-joint", "equituning", "lambda-equitune"}


def parts_of(systems: str | None = None, *settings: str, seeds: int = 1, **options) -> list[Part]:
    flags = {**FLAGS, **options.pop("flags", {})}
    return plan(parse_systems(systems), seeds, flags, settings, options.pop("recipe", None), **options)[0]


def test_every_system_is_a_recipe_and_every_recipe_a_system() -> None:
    shipped = {path.stem for path in (recipe_folder() / "systems").glob("*.yaml")}
    assert shipped == set(EVERY) - {ORACLE}


def test_every_system_is_one_complete_configuration() -> None:
    parts = {part.system: part.config for part in parts_of()}
    assert list(parts) == [name for name in TITLES if name != ORACLE]
    assert {name for name, config in parts.items() if config.training.train_base} == JOINT
    for name in parts:
        first_line = (recipe_folder() / "systems" / f"{name}.yaml").read_text().splitlines()[0]
        assert first_line.startswith("# ") and first_line.endswith(".")


def test_words_stand_for_several_systems_in_the_order_of_the_table() -> None:
    assert parse_systems(None) == parse_systems("all") == list(TITLES)
    assert parse_systems("energy") == ["vanilla", "oracle", "energy"]
    assert set(TITLES) - set(parse_systems("frozen")) == JOINT
    assert parse_systems("frozen,equituning")[-1] == "equituning"
    with pytest.raises(UsageError, match="Did you mean 'equiadapt'"):
        parse_systems("equiadpat")


def test_what_is_random_is_run_with_every_seed_and_all_share_the_split() -> None:
    parts = parts_of("energy,equioptadapt", seeds=3)
    assert [(p.system, p.config.seed) for p in parts] == [
        ("vanilla", 0),
        *(("equioptadapt", seed) for seed in range(3)),
        ("energy", 0),
    ]
    assert {p.config.split.seed for p in parts} == {0}
    assert len({p.folder for p in parts}) == len(parts)
    assert {p.config.split.seed for p in parts_of("energy", "split_seed=3")} == {3}


def test_settings_reach_the_systems_that_take_them() -> None:
    parts = {p.system: p.config for p in parts_of("energy,equiadapt", "canonicalizer.width=8", "prior_weight=5")}
    assert parts["equiadapt"].canonicalizer.width == 8 and parts["equiadapt"].training.prior_weight == 5
    assert parts["energy"].training.prior_weight == 5 and parts["vanilla"].training.prior_weight == 0
    with pytest.raises(UsageError, match=r"canonicalizer\.vector_size=9.*no system compared"):
        parts_of("energy", "canonicalizer.vector_size=9")
    with pytest.raises(UsageError, match="epochs"):
        parts_of("energy", "epochs=-1")


@pytest.mark.parametrize(
    ("setting", "reached"),
    [
        ("task_weight=0.5", {"learned", "augmentation", "equiadapt"}),
        ("artifact_weight=0.1", {"learned", "equiadapt"}),
        ("crop=zoom", {"vanilla", "learned", "augmentation", "equiadapt", "energy"}),
    ],
)
def test_settings_pass_by_those_that_they_would_do_nothing_for(setting: str, reached: set[str]) -> None:
    key, _, value = setting.partition("=")
    parts = parts_of("learned,augmentation,equiadapt,energy", setting, flags={"group": "c8"})
    found = {p.system for p in parts if str(getattr(p.config.training, key)) == value}
    assert found == reached - ({"learned"} if key == "task_weight" else set())  # its recipe says 1


def test_the_recipe_that_all_share_decides_the_split_and_no_crop(tmp_path) -> None:
    shared = tmp_path / "shared.yaml"
    shared.write_text("split: {seed: 3}\ncrop: zoom\n")
    parts = {p.system: p.config for p in parts_of("augmentation,equiadapt", recipe=str(shared))}
    assert {config.split.seed for config in parts.values()} == {3}
    assert (parts["augmentation"].training.crop, parts["equiadapt"].training.crop) == ("shift", "zoom")
    shared.write_text("canonicalizer: 7\n")
    with pytest.raises(UsageError, match="holds further keys"):
        parts_of("equiadapt", recipe=str(shared))


def test_all_are_counted_on_pictures_that_are_turned_alike() -> None:
    assert {p.config.evaluation.rotate for p in parts_of("energy,equiadapt")} == {"file"}
    assert {p.config.evaluation.rotate for p in parts_of("energy,equiadapt", flags={"rotate": "input"})} == {"input"}


def test_what_makes_a_system_is_its_own() -> None:
    parts = {p.system: p.config for p in parts_of("learned,equiadapt-gwrn", "prior_weight=5", "canonicalizer.width=8")}
    assert parts["learned"].training.prior_weight == 0 and parts["equiadapt-gwrn"].canonicalizer.network == "gwrn"
    for own in ("train_base=true", "policy=mean", "policy.of=logits", "canonicalizer.kind=energy"):
        with pytest.raises(UsageError, match="no system compared"):
            parts_of("learned", own)


@pytest.mark.parametrize("name", ["quickstart", "cifar10-resnet50-c4", "compare-cifar10-resnet20"])
def test_any_recipe_can_be_shared(name: str, monkeypatch) -> None:
    monkeypatch.setenv("EQUICLI_TEST_DATA", "/data")
    shared = load_recipe(name)
    parts = {p.system: p.config for p in parts_of("vanilla,equiadapt,equioptadapt,augmentation", recipe=name)}
    assert {config.training.epochs for config in parts.values()} == {shared["training"]["epochs"]}
    assert {config.evaluation.rotate for config in parts.values()} == {"file" if name == "quickstart" else "input"}
    assert not parts["vanilla"].training.train_base and parts["augmentation"].training.train_base
    assert parts["equiadapt"].canonicalizer.kind == "equivariant" and parts["equiadapt"].training.prior_weight == 1
    assert parts["equioptadapt"].canonicalizer.kind == "optimized"


@pytest.mark.parametrize(
    ("sweep", "systems", "values"),
    [
        ("canonicalizer.width=8,16", "energy,equioptadapt", {"equioptadapt": ["8", "16"]}),
        (
            "prior_weight=0,1,10,100,1000",
            "vanilla,learned,equiadapt,equiadapt-joint",
            {"equiadapt": ["1", "10", "100", "1000"], "equiadapt-joint": ["0", "1", "10", "100", "1000"]},
        ),
        ("epochs=1,2", "energy,equiadapt", {"equiadapt": ["1", "2"]}),
        (
            "learning_rate=0.1,0.2",
            "augmentation,equiadapt,equiadapt-joint",
            {"equiadapt": ["0.1", "0.2"], "equiadapt-joint": ["0.1", "0.2"]},
        ),
        ("base_learning_rate=0.1,0.2", "augmentation,equiadapt", {"augmentation": ["0.1", "0.2"]}),
    ],
)
def test_a_sweep_makes_each_system_that_trains_and_takes_it_anew(sweep: str, systems: str, values) -> None:
    parts = parts_of(systems, sweep=sweep, flags={"epochs": 5})
    found = {
        name: [p.settings[0].partition("=")[2] for p in parts if p.system == name and p.settings] for name in TITLES
    }
    assert {name: of for name, of in found.items() if of} == values
    key = sweep.partition("=")[0]
    for part in parts:
        assert "/" not in part.folder and " " not in part.folder
        if part.settings and key in ("prior_weight", "epochs"):
            assert getattr(part.config.training, key) == float(part.settings[0].partition("=")[2])


@pytest.mark.parametrize(("setting", "flag"), [("group=d4", "--group"), ("seed=5", "--seeds"), ("data=x", "DATA")])
def test_what_all_share_is_named_by_its_flag(setting: str, flag: str) -> None:
    with pytest.raises(UsageError, match=f"--set {setting}: use {flag}"):
        parts_of("frozen", setting)


@pytest.mark.parametrize("source", ["recipe", "setting"])
def test_more_upright_images_reach_what_is_trained_on_poses_alone(tmp_path, source: str) -> None:
    (tmp_path / "shared.yaml").write_text(f"upright: {tmp_path}\n")
    options = {"recipe": str(tmp_path / "shared.yaml")} if source == "recipe" else {}
    settings = () if options else (f"upright={tmp_path}",)
    parts = parts_of("energy,learned,equiadapt,equioptadapt,equioptadapt-joint", *settings, **options)
    taken = {part.system for part in parts if part.config.upright == (str(tmp_path),)}
    assert taken == {"equiadapt", "equioptadapt"}


def test_a_canonicalizer_to_start_from_is_none_of_a_comparison(tmp_path) -> None:
    (tmp_path / "shared.yaml").write_text("start_from: runs/a\n")
    parts, notes = plan(parse_systems("equiadapt"), 1, FLAGS, [], str(tmp_path / "shared.yaml"))
    assert notes == ["left out of --recipe, as systems have their own: start_from"]
    assert all(part.config.start_from is None for part in parts)
    with pytest.raises(UsageError, match=r"start_from=runs/a: no system compared can be run with it"):
        parts_of("equioptadapt,energy", "start_from=runs/a")


def test_what_is_left_out_of_a_recipe_is_told(tmp_path) -> None:
    (tmp_path / "shared.yaml").write_text("crop: zoom\nepochs: 3\n")
    _, notes = plan(parse_systems("equiadapt"), 1, FLAGS, [], str(tmp_path / "shared.yaml"))
    assert notes == ["left out of --recipe, as systems have their own: crop"]


def test_what_a_sweep_leaves_out_is_told() -> None:
    systems = parse_systems("augmentation,equiadapt,equiadapt-joint")
    parts, (missed, whole) = plan(systems, 2, FLAGS, [], None, "prior_weight=0,1")
    assert missed.startswith("equiadapt is not run with prior_weight=0: ") and "leave prior_weight at 1" in missed
    assert whole == "not swept: vanilla, augmentation"
    assert [(p.settings, p.config.seed) for p in parts if p.system == "augmentation"] == [((), 0), ((), 1)]


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ("width", "--sweep width"),
        ("seed=1,2", "is the same for all"),
        ("test_fraction=0.1,0.3", "is the same for all"),
        ("network.preprocess=checkpoint,none", "is the same for all"),
        ("rotate=file,input", "is the same for all"),
        ("policy=one,mean", "its own recipe says that"),
        ("padding=edge,zeros", "is the same for all"),
        ("model_args.drop_rate=0,1", "is the same for all"),
        ("foo=1", "foo"),
        ("prior_weight=10,", "empty"),
        ("base_learning_rate=1e-3,1e-2", "no network is trained"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(sweep: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parts_of("equiadapt", sweep=sweep)


def test_systems_that_a_group_has_not_are_left_out() -> None:
    parts, notes = plan(parse_systems("all"), 1, {**FLAGS, "group": "d4"}, [], None)
    assert notes == ["left out, as there is none for this group: frame"] and "frame" not in {p.system for p in parts}
    with pytest.raises(UsageError, match="finite group"):
        plan(parse_systems("frozen"), 1, {**FLAGS, "group": "so2"}, [], None)


def test_recipes_of_systems_name_neither_data_nor_model() -> None:
    for path in (recipe_folder() / "systems").glob("*.yaml"):
        recipe = load_recipe(f"systems/{path.stem}")
        assert set(recipe) <= {"canonicalizer", "policy", "training"} and "epochs" not in recipe.get("training", {})


def test_the_reference_is_named_before_anything_is_counted() -> None:
    assert choose_reference(parts_of(), None) == "equioptadapt"
    assert choose_reference(parts_of("frame"), None) == "vanilla"
    assert choose_reference(parts_of(), "frame") == "frame" and choose_reference(parts_of("frame"), ORACLE) == ORACLE
    with pytest.raises(UsageError, match=r"--reference energy: is not compared; name one of vanilla, frame, oracle"):
        choose_reference(parts_of("frame"), "energy")


def test_what_is_swept_is_no_reference() -> None:
    swept = parts_of("frame,equioptadapt", sweep="prior_weight=1,10")
    assert choose_reference(swept, None) == "vanilla"
    with pytest.raises(UsageError, match="--reference equioptadapt: is swept"):
        choose_reference(swept, "equioptadapt")
