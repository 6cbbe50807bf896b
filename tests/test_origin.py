"""`--start-from`: what is found by a name, what it decides, and what is refused; see `training/test_attached`, too."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from equicli.config import build_config
from equicli.errors import EquicliError, UsageError
from equicli.files import open_tensors
from equicli.groups import parse_group
from equicli.origin import Origin, find_origin
from equicli.prediction.checkpoint_files import sha256_of
from equicli.resume import resume_config
from equicli.runs import Run
from equicli.settings import StartedSettings
from equicli.training.start import open_origin
from tests.training.small_runs import VIEWS, make_workplace, run_adapt

NEEDED = {"data": "photos", "model": "test_resnet"}


@pytest.fixture(scope="module")
def made(shared):
    """Runs with canonicalizers of several kinds and groups."""

    def make(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            make_workplace(folder)
            run_adapt("c4", epochs=1, canonicalizer=VIEWS)
            run_adapt("c8", epochs=1, canonicalizer=VIEWS, group="c8")
            run_adapt("kernels", epochs=1, canonicalizer={"kind": "equivariant", "size": 17, "width": 4})
            run_adapt("energy", canonicalizer="energy")

    return shared("origins", make)


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def build(name, *settings, recipe=None, **flags):
    return build_config({**NEEDED, "start_from": name, **flags}, list(settings), recipe)


def refused(*settings, recipe=None, **flags):
    with pytest.raises(UsageError) as caught:
        build(*settings, recipe=recipe, **flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_link_is_followed_at_once_as_the_run_that_starts_becomes_the_latest(here, tmp_path):
    (tmp_path / "latest").symlink_to(here / "c4")
    assert build(str(tmp_path / "latest")).start_from == str((here / "c4").resolve())


def test_a_run_and_a_file_are_known_by_their_names_and_bytes(here, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes((here / "c4" / "model.safetensors").read_bytes())
    for name, recorded in (("c4", "c4"), ("c4/model.safetensors", "c4"), (str(file), "mine.safetensors")):
        origin = find_origin(name)
        assert (origin.name, origin.sha256) == (recorded, sha256_of(file))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("acme/upright", "model.safetensors"),
        ("acme/upright@v1", "model.safetensors"),
        ("hf-hub:acme/upright", "model.safetensors"),
        ("hf-hub:acme/upright@v1/c4/adapter.safetensors", "c4/adapter.safetensors"),
    ],
)
def test_a_repository_on_the_hub_is_known_by_its_commit(here, hub, name, file):
    content = (here / "c4" / "model.safetensors").read_bytes()
    server = hub({"acme/upright": {name: {file: content} for name in ("main", "v1")}})
    origin = find_origin(name)
    assert origin.path.read_bytes() == content
    assert origin.name == f"hf-hub:acme/upright@{server.commit('acme/upright', 'v1')}/{file}"
    assert build(name).group == "c4"


def test_what_the_hub_has_not_is_told_by_the_flag(hub):
    hub({"acme/upright": {"main": {"README.md": b""}}})
    for name, words in (
        ("acme/upright", "no model.safetensors in this repository"),
        ("acme/none", "no such repository"),
        ("hf-hub:acme", "--start-from hf-hub:acme"),
    ):
        with pytest.raises(EquicliError, match=r"^--start-from ") as caught:
            find_origin(name)
        assert words in str(caught.value) and "--checkpoint" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "./acme/none", "runs/none", "none/model.safetensors", "photos"])
def test_a_path_is_not_looked_for_on_the_hub(here, name):
    with pytest.raises(UsageError, match=r"^--start-from .*(no such run folder|no such file|unfinished)"):
        find_origin(name)


def test_kind_group_and_all_else_come_from_the_file(here):
    for name, kind, group in (("c8", "optimized", "c8"), ("kernels", "equivariant", "c4")):
        config = build(name, epochs=0)
        assert (config.group, config.canonicalizer) == (group, StartedSettings(kind=kind))
        assert config.start_from == str(here / name)
        again = build_config({}, [], config.model_dump(mode="json"))
        assert again == config


def test_settings_beside_it_that_the_file_decides_are_refused_but_a_recipe_gives_way(here, tmp_path):
    assert "canonicalizer.width: comes from --start-from c4; leave it out" in refused("c4", "canonicalizer.width=32")
    assert "canonicalizer.network" in refused("c4", **{"canonicalizer.network": "resnet18"})
    assert "--canonicalizer equivariant: --start-from c4 holds optimized; leave --canonicalizer out" in refused(
        "c4", **{"canonicalizer.kind": "equivariant"}
    )
    # Kernels have one size; a network that scores views may look at larger ones.
    assert "canonicalizer.size: comes from --start-from kernels" in refused(
        "kernels", "canonicalizer.size=33", epochs=0
    )
    assert build("c4", "canonicalizer.size=48").canonicalizer == StartedSettings(kind="optimized", size=48)
    assert build("c4", "canonicalizer.glance=12").canonicalizer.look == {"glance": 12}
    assert build("c4", "canonicalizer.size=48").canonicalizer.look == {"size": 48, "glance": None}
    assert build("c4", "canonicalizer.glance=0").canonicalizer.look == {"glance": None}
    assert build("c4").canonicalizer.look == {}
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("canonicalizer: {kind: equivariant, size: 33}\nlearning_rate: 0.5\n")
    config = build("c4", recipe=str(recipe))
    assert (config.canonicalizer.kind, config.training.learning_rate) == ("optimized", 0.5)


def test_views_can_be_scored_for_any_finite_group_and_kernels_serve_their_own(here):
    for group in ("c8", "d4", "c4"):
        assert build("c4", group=group).group == group
    assert "--group so2: --start-from c4 holds optimized for c4, which cannot serve" in refused("c4", group="so2")
    assert "--group c8: --start-from kernels holds equivariant for c4" in refused("kernels", group="c8", epochs=0)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("energy", {}, "--start-from: --canonicalizer energy has learned nothing"),
        ("kernels", {}, "stored in its final form, which no training can go on with; add --epochs 0"),
        ("c4", {"epochs": 0, "train_base": True}, "epochs = 0: trains nothing, which --train-base asks for"),
        ("c4", {"epochs": 0, "upright": ["more"]}, "--upright: nothing is trained on these images"),
        (None, {"epochs": 0}, "epochs = 0: leaves --canonicalizer consensus untrained; add --start-from"),
        ("", {}, "start_from = '': an empty path"),
    ],
)
def test_what_makes_no_sense_is_refused(here, name, changes, words):
    assert words in refused(name, **changes)


def test_what_is_no_artifact_is_told(here, tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(EquicliError, match="not an equicli artifact, only weights"):
        build(str(tmp_path / "weights.safetensors"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header: header["canonicalizer"]["spec"].update(evil=1), "canonicalizer.spec"),
        (lambda header: header["canonicalizer"]["spec"]["network"]["arguments"].update(width=4096), "far larger"),
        (lambda header: header["canonicalizer"].update(source={"trained_for": "x"}), "trained_for"),
        (lambda header: header["canonicalizer"]["spec"]["network"].update(library="python"), "c4"),
    ],
)
def test_a_file_that_asks_for_anything_else_is_refused(here, tmp_path, change, words):
    path = here / "c4" / "model.safetensors"
    with open_tensors(path) as file:
        header = json.loads(file.metadata()["equicli"])
    change(header)
    save_file(load_file(path), tmp_path / "c4.safetensors", metadata={"equicli": json.dumps(header)})
    with pytest.raises(EquicliError, match=words):
        Origin(tmp_path / "c4.safetensors", "evil", "0" * 64).load(parse_group("c4"))


def test_poses_that_were_never_trained_are_told(here):
    c4, c8 = find_origin("c4"), find_origin("c8")
    (line,) = c4.remarks(parse_group("c4"))
    assert line == f"canonicalizer: that of c4 (sha256 {c4.sha256[:12]}…), trained for c4"
    assert "nothing was trained on poses that c4 has not, such as r45" in c4.remarks(parse_group("c8"))[1]
    assert "such as r0m" in c4.remarks(parse_group("d4"))[1]
    assert "for c8 it was shown the central discs" in c8.remarks(parse_group("c4"))[1]
    assert c4.source(parse_group("c8"), epochs=0)["trained_for"] == "c4"
    assert c4.source(parse_group("c8"), epochs=1)["trained_for"] == "c8"


def test_a_run_that_is_gone_on_with_takes_its_own_copy(here, tmp_path):
    config, run = build("c4", epochs=0), Run(tmp_path / "out")
    assert open_origin(config, run, resume=True) == find_origin("c4")  # it was killed before there was one
    run.folder.mkdir()
    run.start.write_bytes(b"")
    run.write("config.json", {"canonicalizer": {"source": {"name": "c4", "sha256": "00"}}})
    assert open_origin(config, run, resume=True) == Origin(run.start, "c4", "00")
    run.write_settings(config.model_dump(mode="json") | {"start_from": str(tmp_path / "gone")})
    assert resume_config(run, {}).start_from == str(tmp_path / "gone")
