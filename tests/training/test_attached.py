"""A canonicalizer that exists, attached to another network as it is, or trained further."""

import shutil

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from equicli import pipeline
from equicli.artifact import load, read_config, read_pictures_seen, write_artifact
from equicli.claims import find_run, find_unfinished
from equicli.config import build_config
from equicli.data.fingerprint import fingerprint
from equicli.data.loading import Loader
from equicli.errors import EquicliError, UsageError
from equicli.prediction.checkpoint_files import sha256_of
from equicli.progress import Silent
from equicli.resume import resume_config
from equicli.training import loop
from equicli.training.adapt import train_canonicalizer
from tests.told import Told
from tests.training.small_runs import VIEWS, new_run, run_adapt, write_images
from tests.training.test_loop import Killed, Killing


@pytest.fixture
def source(workplace):
    """A run, another network's weights, and another folder, of three sorts."""
    run, _ = run_adapt("source", epochs=1)
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit", num_classes=2, img_size=32).state_dict(), workplace / "vit.safetensors")
    for name in ("ant", "bee"):
        write_images(workplace / "others" / name, 12, frames=((40, 30),))
    return run


def attach(output, start_from="source", progress=None, *, resume=False, **changes):
    settings = {
        "data": "others",
        "model": "test_vit",
        "checkpoint": "vit.safetensors",
        "model_args": {"num_classes": 2, "img_size": 32},
        "image_size": 32,
        "epochs": 0,
        "batch_size": 8,
        "device": "cpu",
        "start_from": start_from,
        "policy": "one",
    }
    config = build_config({**settings, **changes}, [], None)
    run = find_unfinished(output) if resume else new_run(output, "m", config.group, overwrite=False)
    return run, train_canonicalizer(config, run, progress or Silent(), resume=resume)


def canonicalizer_of(run):
    return {key: value for key, value in load_file(run.model).items() if key.startswith("canonicalizer.")}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def test_attached_as_it_is_no_picture_is_read_but_one_and_no_weight_changes(source, monkeypatch):
    monkeypatch.setattr(Loader, "__iter__", lambda *_: pytest.fail("no pictures are needed"))
    told = Told()
    run, adapted = attach("out", progress=told)
    assert same(canonicalizer_of(run), canonicalizer_of(source))
    assert read_config(run.model).canonicalizer.spec == read_config(source.model).canonicalizer.spec
    assert adapted.config.prediction_network.architecture == "test_vit"
    assert dict(read_config(run.model).canonicalizer.source) == {
        "name": "source",
        "sha256": sha256_of(source.model),
        "trained_for": "c4",
    }
    assert read_pictures_seen(run.model) == adapted.seen == read_pictures_seen(source.model)
    assert read_config(run.model).identity_rate == read_config(source.model).identity_rate is not None
    assert "attached as it is, without training (epochs=0)" in told.lines
    assert not run.start.exists() and not any("epoch" in entry for entry in run.read_log())
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load(run.model)(x), adapted.model(x))


def test_an_adapter_is_enough_and_its_network_is_not_needed(source, workplace):
    write_artifact(workplace / "adapter.safetensors", load(source.model), read_config(source.model), adapter_only=True)
    (workplace / "weights.safetensors").unlink()
    run, _ = attach("out", "adapter.safetensors")
    assert same(canonicalizer_of(run), canonicalizer_of(source))
    assert read_pictures_seen(run.model) is None  # as the adapter says nothing of pictures


def test_trained_further_it_begins_with_those_weights_and_has_seen_both_folders(source, workplace):
    told = Told()
    run, _ = attach("out", epochs=1, learning_rate=1e-12, progress=told)
    before, after = canonicalizer_of(source), canonicalizer_of(run)
    learned = [key for key in before if "running" not in key and "num_batches" not in key]
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in learned)
    assert not same(before, after)
    split = run.read_split()
    own = {fingerprint(workplace / "others" / name) for part in ("train", "validation") for name in split[part]}
    assert read_pictures_seen(run.model) == read_pictures_seen(source.model) | own
    assert any(line.startswith("canonicalizer: that of source (sha256 ") for line in told.lines)


def test_it_may_look_at_larger_pictures_than_it_was_trained_on(source):
    told = Told()
    run, adapted = attach("larger", progress=told, **{"canonicalizer.size": 40})
    assert any(line.startswith("it looks at 40 pixels, and was trained at") for line in told.lines)
    assert same(canonicalizer_of(run), canonicalizer_of(source))
    before, after = (read_config(of.model).canonicalizer.spec for of in (source, run))
    assert {**before, "size": 40} == after and adapted.model.canonicalizer.view.size == 40
    assert load(run.model).canonicalizer.view.size == 40


def test_it_may_be_given_a_glance(source):
    told = Told()
    run, adapted = attach("glancing", progress=told, **{"canonicalizer.glance": 12})
    assert "it looks at 12 pixels first; look at the identity rate" in told.lines
    assert same(canonicalizer_of(run), canonicalizer_of(source))
    assert adapted.model.canonicalizer.spec.glance == load(run.model).canonicalizer.spec.glance == 12
    with pytest.raises(UsageError, match=r"^canonicalizer\.glance = 16: must be from 8 to 15, or 0 for none"):
        attach("out", **{"canonicalizer.glance": 16})
    larger, _ = attach("without", "glancing", progress=told, **{"canonicalizer.size": 24})
    assert "it looks once, without its first look at 12 pixels" in told.lines
    assert load(larger.model).canonicalizer.spec.glance is None  # which was for another size


def test_training_that_makes_it_no_better_is_not_kept(source, monkeypatch):
    told, scores = Told(), iter([loop.Scores(0.9, 0.1), loop.Scores(0.8, 0.2), loop.Scores(0.9, 0.2)])
    monkeypatch.setattr(loop, "measure", lambda *_, **__: next(scores))
    run, _ = attach("out", epochs=2, progress=told)
    assert same(canonicalizer_of(run), canonicalizer_of(source))
    assert any("keeping the weights that it started from, the best by its identity rate 90.0%" in x for x in told.lines)


def test_other_groups_get_a_model_of_their_own(source):
    source, _ = run_adapt("views", canonicalizer=VIEWS, epochs=1)
    told = Told()
    run, adapted = attach("out", "views", group="c8", progress=told)
    assert any("nothing was trained on poses that c4 has not, such as r45" in line for line in told.lines)
    assert (read_config(run.model).group, adapted.model.canonicalizer.group.order) == ("c8", 8)
    assert same(canonicalizer_of(run), canonicalizer_of(source))
    back, _ = attach("back", "out")
    assert dict(read_config(back.model).canonicalizer.source)["trained_for"] == "c4"


def test_one_that_tells_poses_apart_serves_the_groups_of_these(source):
    run, adapted = attach("out", group="c2")
    assert (read_config(run.model).group, adapted.model.canonicalizer.group.order) == ("c2", 2)
    assert same(canonicalizer_of(run), canonicalizer_of(source))
    with pytest.raises(UsageError, match="--group c8: --start-from source holds consensus for c4"):
        attach("never", group="c8")


@pytest.mark.parametrize("changes", [{"group": "c4"}, {"group": "so2"}], ids=str)
def test_kernels_are_attached_in_the_form_that_is_stored(workplace, source, changes):
    kind = "equivariant" if changes["group"] == "c4" else "steerable"
    first, _ = run_adapt("kernels", canonicalizer={"kind": kind, "size": 17, "width": 4}, epochs=1, **changes)
    run, _ = attach("out", "kernels")
    assert same(canonicalizer_of(run), canonicalizer_of(first))


@pytest.mark.parametrize(("text", "epochs"), [("attached", 0), ("epoch 1/2", 2)])
def test_a_killed_run_goes_on_without_what_it_started_from(source, text, epochs):
    whole, _ = attach("whole", epochs=epochs)
    with pytest.raises(Killed):
        attach("out", progress=Killing(text), epochs=epochs)
    shutil.rmtree("source")
    run = find_unfinished("out")
    config = resume_config(run, {})
    train_canonicalizer(config, run, Silent(), resume=True)
    assert find_run("out").model.read_bytes() == whole.model.read_bytes()
    assert not run.start.exists()


def test_a_head_is_fitted_and_its_pictures_are_seen(source, workplace):
    for name in ("cow", "dog"):
        write_images(workplace / "others" / name, 12)
    run, adapted = attach("out")
    assert adapted.config.prediction_network.head_outputs == 4
    assert adapted.seen is None and len(read_pictures_seen(run.model)) > len(read_pictures_seen(source.model))
    assert same(canonicalizer_of(run), canonicalizer_of(source))


def test_reports_say_that_the_folder_is_another_where_that_is_known(source, workplace):
    def report(output, **changes):
        config = build_config(
            {
                "data": "others", "model": "test_resnet", "checkpoint": "weights.safetensors",
                "model_args": {"num_classes": 2}, "preprocess": "none", "epochs": 0, "device": "cpu",
                "start_from": "source", **changes,
            },
            [],
            None,
        )  # fmt: skip
        run = new_run(output, "m", config.group, overwrite=False)
        return pipeline.adapt(config, run, Silent()), (run.folder / "report.md").read_text()

    words = "of a folder that the canonicalizer was not trained on"
    metrics, text = report("out")
    assert (metrics["elsewhere"], metrics["seen_in_training"]) == (True, 0) and text.count(words) == 1
    metrics, text = report("again", data="photos")
    assert (metrics["elsewhere"], metrics["seen_in_training"]) == (False, 2) and words not in text
    assert "2 of 2 images were trained on, or chose the epoch" in text
    metrics, _ = pipeline.evaluate("out", progress=Silent())
    assert metrics["elsewhere"]
    metrics, _ = pipeline.evaluate("source", progress=Silent())
    assert not metrics["elsewhere"]
    metrics, _ = pipeline.evaluate("source", data="others", progress=Silent())
    assert metrics["elsewhere"]


def test_what_changed_in_the_meantime_is_told(source, monkeypatch):
    with pytest.raises(Killed):
        attach("out", progress=Killing("epoch 1/2"), epochs=2)
    run = find_unfinished("out")
    run.start.unlink()
    shutil.rmtree("source")
    run_adapt("source", epochs=2)
    with pytest.raises(EquicliError, match="the canonicalization network changed since"):
        attach("out", resume=True, epochs=2)


def test_kernels_that_fail_on_an_image_are_told_like_any_other(source, monkeypatch):
    def fail(*_):
        raise RuntimeError("too small")

    kernels, _ = run_adapt("kernels", canonicalizer={"kind": "equivariant", "size": 17, "width": 4}, epochs=1)
    monkeypatch.setattr(type(load(kernels.model).canonicalizer), "forward", fail)
    with pytest.raises(EquicliError, match=r"fails \(too small\)\. Try another --canonicalizer-size\.$"):
        attach("out", "kernels")
