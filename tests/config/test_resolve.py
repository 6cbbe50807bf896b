"""Defaults that depend on other settings, and settings that do not go together."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from equicli.canonicalization.equivariant import EquivariantSettings
from equicli.canonicalization.steerable import SteerableSettings
from equicli.config import AdaptConfig, build_config, resolve
from equicli.errors import UsageError
from equicli.prediction.signature import Signature
from equicli.settings import Settings, TaskSettings
from equicli.tasks.classification.task import ClassificationSettings
from equicli.tasks.registry import TASKS
from equicli.tasks.task import Task
from equicli.tree import SECTIONS, merge
from tests.config.building import NEEDED, build, error_of


def settings_of(group: str, **given: Any) -> AdaptConfig:
    return build(group=group, **{key.replace("__", "."): value for key, value in given.items()})


@pytest.mark.parametrize(
    ("group", "kind", "prior", "contrast"),
    [
        ("c4", "consensus", ("r0",), 0),
        ("c8", "consensus", ("r0",), 0),
        ("d1", "consensus", ("r0",), 0),
        ("d4", "consensus", ("r0", "r0m"), 0),
        ("d8", "consensus", ("r0", "r0m"), 0),
        ("so2", "steerable", ("r0",), 0),
        ("o2", "steerable", ("r0", "r0m"), 0),
    ],
)
def test_defaults_fit_the_group(group: str, kind: str, prior: tuple[str], contrast: float) -> None:
    config = settings_of(group)
    assert (config.canonicalizer.kind, config.prior) == (kind, prior)
    training = config.training
    assert (training.prior_weight, training.contrast_weight, training.artifact_weight) == (1, contrast, 0)
    assert (training.task_weight, config.padding, training.crop) == (0, "edge", "zoom")


def test_smaller_crops_and_fewer_views_are_for_canonicalizers_that_can_train_on_them() -> None:
    training = settings_of("c4", canonicalizer="consensus", crop_size=0.8, views=1).training
    assert (training.crop_size, training.views) == (0.8, 1)
    assert "views: --canonicalizer optimized needs all views" in error_of("canonicalizer.kind=optimized", "views=1")
    for other in ("crop=shift", "canonicalizer.kind=equivariant", "task_weight=1"):
        assert "crop_size: only of zoomed crops" in error_of("crop_size=0.8", other)


def test_a_prediction_network_sees_no_blurred_crops_unless_asked() -> None:
    assert settings_of("c4", task_weight=1).training.crop == "shift"
    assert settings_of("c4", train_base=True).training.crop == "shift"
    assert settings_of("c4", train_base=True, crop="zoom").training.crop == "zoom"
    assert settings_of("c4", crop="shift").training.crop == "shift"


@pytest.mark.parametrize("kind", ["equivariant", "energy"])
def test_what_compares_no_views_has_no_contrast_and_wants_none(kind: str) -> None:
    assert settings_of("c4", canonicalizer__kind=kind).training.contrast_weight == 0
    assert settings_of("c4", canonicalizer__kind=kind, contrast_weight=0).training.contrast_weight == 0
    assert f"--canonicalizer {kind} compares no views" in error_of(f"canonicalizer.kind={kind}", "contrast_weight=0.1")


def test_each_kind_has_keys_of_its_own() -> None:
    assert settings_of("so2", canonicalizer__size=33).canonicalizer == SteerableSettings(size=33)
    gwrn = settings_of("c4", canonicalizer__kind="equivariant", canonicalizer__network="gwrn")
    assert gwrn.canonicalizer == EquivariantSettings(network="gwrn", size=65, width=32)
    message = error_of("canonicalizer.kind=equivariant", "canonicalizer.vectorsize=3")
    assert "unknown key 'canonicalizer.vectorsize'" in message and "vector_size" not in message


@pytest.mark.parametrize("kind", ["optimized", "equivariant", "energy"])
def test_a_kind_for_finite_groups_is_refused_for_so2_with_what_it_takes(kind: str) -> None:
    message = error_of("group=so2", f"canonicalizer.kind={kind}")
    assert f"--canonicalizer {kind}: not for --group so2, which takes steerable" in message


@pytest.mark.parametrize("value", ["r0,r180", "r0, r180", "[r0, r180]", "r0,r180,r0"])
def test_a_prior_of_several_poses_is_a_text_or_a_list(value: str) -> None:
    assert build(f"prior={value}").prior == ("r0", "r180")


@pytest.mark.parametrize(
    ("group", "label"), [("c4", "r90"), ("d4", "r270m"), ("c8", "r45"), ("c7", "r51.4286"), ("so2", "r12")]
)
def test_a_prior_is_a_pose_of_the_group(group: str, label: str) -> None:
    assert settings_of(group, prior=label).prior == (label,)


def test_shares_are_made_to_add_up_to_one() -> None:
    prior = build("prior={r0: 0.3333, r90: 0.3333, r180: 0.3333}").prior
    assert prior == pytest.approx(dict.fromkeys(["r0", "r90", "r180"], 1 / 3))


def test_a_distribution_is_read_from_a_yaml_file_and_recorded_whole(tmp_path: Path, recipe) -> None:
    path = tmp_path / "prior.yaml"
    path.write_text("r0: 0.75\nr180: 2.5e-1\n")
    config = build(prior=str(path))
    path.unlink()
    assert config.prior == {"r0": 0.75, "r180": 0.25}
    assert build_config({}, [], recipe(yaml.safe_dump(config.model_dump(mode="json")))) == config


@pytest.mark.parametrize(("text", "prior"), [("[r0, r180]", ("r0", "r180")), ("r90", ("r90",))])
def test_a_yaml_file_may_hold_a_set(tmp_path: Path, text: str, prior: tuple[str]) -> None:
    (tmp_path / "prior.yaml").write_text(text)
    assert build(prior=str(tmp_path / "prior.yaml")).prior == prior


@pytest.mark.parametrize("text", ["a: [1", "7", "r0: 0.5", "[r0, [r90]]", "r0: {r90: 1}"])
def test_a_yaml_file_that_is_no_prior_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "prior.yaml").write_text(text)
    assert "--prior" in error_of(flags={**NEEDED, "prior": str(tmp_path / "prior.yaml")})


@pytest.mark.parametrize("group", ["so2", "o2"])
def test_shares_need_a_finite_group(group: str) -> None:
    assert f"{group} has infinitely many poses" in error_of(f"group={group}", "prior={r0: 0.5, r90: 0.5}")


@pytest.mark.parametrize(
    "settings",
    [
        ("group=so2", "canonicalizer.width=8"),
        ("group=o2", "prior=r30"),
        ("canonicalizer.kind=energy",),
        ("group=d8", "canonicalizer={kind: equivariant, network: gwrn}", "padding=zeros", "artifact_weight=0.5"),
        ("prior={r0: 0.9, r90: 0.1}", "prior_weight=0", "task_weight=1"),
    ],
    ids=str,
)
def test_what_was_resolved_for_any_kind_is_a_recipe_that_resolves_to_the_same(recipe, settings) -> None:
    config = build(*settings)
    assert build_config({}, [], recipe(yaml.safe_dump(config.model_dump(mode="json")))) == config


def test_a_flag_for_another_task_leaves_out_what_the_recipe_set_for_its_own(recipe, monkeypatch) -> None:
    class Naming(TaskSettings):
        kind: Literal["naming"] = "naming"
        alphabet: str = "latin"

    class NamingTask(Task):
        name, Settings = "naming", Naming

    monkeypatch.setitem(TASKS, "naming", NamingTask)
    mine = recipe("head: none\nepochs: 3")
    assert build(recipe=mine).task == ClassificationSettings(head="none")
    config = build("alphabet=greek", recipe=mine, task="naming")
    assert (config.task, config.training.epochs) == (Naming(alphabet="greek"), 3)
    assert "unknown key 'head' of --task naming" in error_of("task=naming", "head=none")
    assert "unknown key 'alphabet' of --task classification" in error_of("alphabet=greek")


def test_what_another_task_cannot_do_is_refused_before_anything_is_read(monkeypatch) -> None:
    class Finding(Task):
        name = "finding"
        signature = Signature("image", "keypoints")
        has_loss = True  # but training crops and mirrors images, and does not move targets with them

    monkeypatch.setitem(TASKS, "finding", Finding)
    assert build("task=finding").task.kind == "finding"
    assert "only logits can be averaged" in error_of("task=finding", "policy=mean")
    assert "policy=one" in error_of("task=finding", "policy=mean")
    assert "only of logits, detections and classes of pixels it is known" in error_of("task=finding", "policy=gate")
    for settings in (("task_weight=1",), ("train_base=true",)):
        assert "the task finding has no loss to train with" in error_of("task=finding", *settings)
    assert "policy.of: says what a mean is of" in error_of("policy.of=logits")
    assert "policy.of: says what a mean is of" in error_of("policy=gate", "policy.of=logits")


def test_a_flag_for_another_canonicalizer_leaves_out_what_the_recipe_set_for_its_own(tmp_path) -> None:
    for flags in ({"group": "so2"}, {"canonicalizer.kind": "energy"}):
        config = build_config({**NEEDED, **flags}, [], "quickstart")
        assert config.canonicalizer.kind in ("steerable", "energy")
    config = build_config({**NEEDED, "group": "so2", "canonicalizer.size": 33}, [], "quickstart")
    assert config.canonicalizer.size == 33


def test_a_flag_for_another_canonicalizer_keeps_what_both_kinds_share(recipe) -> None:
    mine = recipe("canonicalizer: {kind: optimized, network: conv, size: 48}")
    chosen = build(recipe=mine, **{"canonicalizer.kind": "consensus"}).canonicalizer
    assert (chosen.kind, chosen.network, chosen.size) == ("consensus", "conv", 48)


def test_another_policy_than_the_recipes_leaves_out_what_the_mean_is_of(recipe) -> None:
    mine = recipe("policy: {kind: mean, of: logits}")
    assert build("policy.kind=mean", recipe=mine).policy.of == "logits"
    assert build("policy=one", recipe=mine).policy == build("policy=one").policy


def test_every_section_of_the_configuration_can_be_written() -> None:
    fields = {name: field.annotation for name, field in AdaptConfig.model_fields.items()}
    assert {name: kind for name, kind in fields.items() if name in SECTIONS} == SECTIONS
    assert all(not isinstance(getattr(build(), name), Settings) for name in set(fields) - set(SECTIONS))


def test_merging_again_is_merging_at_once() -> None:
    shared = {"epochs": 3, "canonicalizer": {"size": 48}}
    once = merge({**shared, "batch_size": 5}, ["learning_rate=1"], NEEDED)
    again = merge(merge(shared, flags=NEEDED | {"batch_size": 5}), ["learning_rate=1"])
    assert resolve(once) == resolve(again)
    assert merge(again, ["canonicalizer=equivariant"]).values["canonicalizer"] == {"kind": "equivariant"}


def test_a_prior_of_all_poses_is_refused() -> None:
    with pytest.raises(UsageError, match="leaves nothing to learn"):
        build("prior=r0,r90,r180,r270")


def test_a_gate_is_fitted_unless_it_cannot_be_or_another_policy_is_named() -> None:
    assert build().policy == build("policy=gate").policy == build("group=d4", "canonicalizer=equivariant").policy
    assert build("policy.passes=1.2").policy.kind == "gate"
    without = ("group=so2", "canonicalizer=energy", "canonicalizer=frame", "canonicalizer=none", "train_base=true")
    for setting in (*without, "task_weight=1", "policy=one"):
        assert build(setting).policy.kind == "one"
    assert build("policy=mean").policy.kind == "mean"


def test_a_gate_is_refused_where_it_can_do_nothing() -> None:
    assert build("policy=gate").policy.passes is None
    assert build("policy={kind: gate, passes: 1.2}").policy.passes == 1.2
    assert "policy.kind: so2 has infinitely many poses" in error_of("policy.kind=gate", "group=so2")
    assert "--canonicalizer none finds none" in error_of("policy=gate", "canonicalizer=none")
    assert "policy.passes: says how often a gate asks" in error_of("policy.passes=1.2", "canonicalizer=energy")
    assert "policy.passes = 1" in error_of("policy={kind: gate, passes: 1}")


def test_clouds_are_trained_in_float32_as_coordinates_have_few_places_in_bf16() -> None:
    assert build().training.precision == "auto"
    assert build(task="points", group="so3").training.precision == "fp32"
    assert build("precision=auto", task="points", group="so3").training.precision == "fp32"
    assert "precision = bf16: coordinates of clouds have too few" in error_of(
        "task=points", "group=so3", "precision=bf16"
    )


def test_with_the_networks_own_loss_no_glance_is_learned_and_so_none_is_taken() -> None:
    assert build().canonicalizer.glance is None  # what suits the network
    assert build("task_weight=1").canonicalizer.glance == 0
    assert not hasattr(build("task_weight=1", **{"canonicalizer.kind": "equivariant"}).canonicalizer, "glance")
    assert "canonicalizer.glance: with task_weight all images are shown at one size" in error_of(
        "task_weight=1", "canonicalizer.glance=32", "canonicalizer.size=64"
    )
