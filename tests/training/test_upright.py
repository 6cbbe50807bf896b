"""`--upright`: more pictures for the canonicalizer's training, and for nothing else."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from equicli.artifact import read_pictures_seen
from equicli.claims import find_run
from equicli.data.decode import PLAIN, read_picture
from equicli.data.fingerprint import fingerprint
from equicli.data.folders import Sample
from equicli.data.normalization import HALF
from equicli.data.small_view import SmallView
from equicli.errors import EquicliError, UsageError
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.progress import Silent
from equicli.training import loop, teaching
from equicli.training.upright import read_upright
from tests.told import Told
from tests.training.small_runs import configuration, resume, run_adapt
from tests.training.test_loop import Killed, Killing


@pytest.fixture
def more(workplace):
    """Twelve pictures in class folders, in folders within them and beside them, and what is none."""
    for index, name in enumerate(("0.png", "cat/1.png", "cat/2.png", "dog/young/3.png") * 3):
        path = workplace / "more" / name.replace(".", f"-{index}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(100 + index).integers(0, 255, (20 + index, 30, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    (workplace / "more" / "notes.txt").write_text("no picture")
    return workplace / "more"


def pictures(folder):
    return {fingerprint(path) for path in folder.rglob("*.png")}


def read(samples, folder, known=(), test=(), turn=lambda x: x, strict=False, progress=None):
    return read_upright(
        samples,
        known,
        test,
        view=SmallView(12, HALF),
        turn=turn,
        folder=folder,
        decoder=PLAIN,
        strict=strict,
        progress=progress or Silent(),
    )


def samples_of(folder):
    return [Sample(path) for path in sorted(folder.rglob("*.png"))]


def trained_on(monkeypatch):
    """How many training and validation images each training was given."""
    counts, fit = [], loop.fit

    def counting(canonicalizer, train, validation, *rest, **options):
        counts.append((len(train), len(validation)))
        return fit(canonicalizer, train, validation, *rest, **options)

    monkeypatch.setattr(teaching, "fit", counting)
    return counts


def test_every_picture_below_is_trained_on_and_counts_as_seen_and_none_is_validated_or_tested_on(more, monkeypatch):
    counts, told = trained_on(monkeypatch), Told()
    alone, _ = run_adapt("alone")
    run, adapted = run_adapt("out", told, upright="more")
    assert counts == [(14, 2), (26, 2)]
    assert run.read_split() == alone.read_split()
    assert all("more" not in sample.path.parts for sample in adapted.validation)
    assert adapted.config.labels == {"ant": 0, "bee": 1}
    seen, before = read_pictures_seen(run.model), read_pictures_seen(alone.model)
    assert seen == before | pictures(more) and len(seen) == len(before) + 12
    assert f"upright: 12 more images to train the canonicalizer on, from {more}" in told.lines
    assert "left out: 1 file other than pictures (.txt)" in told.lines
    assert not torch.equal(*(load_file(r.model)["canonicalizer.network.0.weight"] for r in (alone, run)))
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "config.json", "log.jsonl", "model.safetensors", "resolved.yaml", "split.json"
    ]  # fmt: skip


def test_several_folders_are_taken_and_recorded(more, monkeypatch):
    counts = trained_on(monkeypatch)
    run, _ = run_adapt("out", upright=["more/cat", "more/dog"])
    assert counts == [(14 + 9, 2)]
    assert run.read_settings()["upright"] == [str(more / "cat"), str(more / "dog")]


def test_copies_of_any_picture_of_the_run_are_left_out_and_told(more, workplace, monkeypatch):
    first, _ = run_adapt("first")
    split = first.read_split()
    tested = workplace / "photos" / split["test"][0]
    Image.fromarray(np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)).save(tested)  # like no other
    originals = pictures(more)
    for part in ("train", "validation", "test"):
        shutil.copy(workplace / "photos" / split[part][0], more / f"copy-of-{part}.png")
    shutil.copy(next(more.glob("0-*.png")), more / "twice.png")
    counts, told = trained_on(monkeypatch), Told()
    run, _ = run_adapt("out", told, upright="more")
    assert counts == [(26, 2)]
    assert "upright: 4 left out, as copies of images of DATA or of one another" in told.lines
    assert read_pictures_seen(run.model) == read_pictures_seen(first.model) | originals
    assert fingerprint(tested) not in read_pictures_seen(run.model)


def test_only_copies_are_refused(more, workplace):
    shutil.copytree(workplace / "photos" / "ant", workplace / "copy")
    with pytest.raises(EquicliError, match="--upright: all 10 images are copies of DATA's; leave it out"):
        run_adapt("out", upright="copy")


@pytest.mark.parametrize("where", [("reading upright", 0), ("epoch 1/2",), ("keeping",)])
def test_a_killed_run_resumes_to_the_same_artifact(more, where):
    whole, _ = run_adapt("whole", upright="more")
    with pytest.raises(Killed):
        run_adapt("out", Killing(*where), upright="more")
    resume("out", upright="more")
    assert find_run("out").model.read_bytes() == whole.model.read_bytes()


def test_other_pictures_than_the_run_was_begun_with_are_refused(more):
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"), upright="more")
    next(more.glob("0-*.png")).unlink()
    with pytest.raises(EquicliError, match="--resume out: the images of --upright changed since"):
        resume("out", upright="more")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (["more", "more/cat"], "more/cat: lies in --upright"),
        ("nowhere", "nowhere: no such folder"),
        ("weights.safetensors", "weights.safetensors: is a file"),
        ("empty", "empty: no images here or below"),
        ("photos", "photos: is DATA"),
        ("photos/ant", "photos/ant: lies in DATA"),
        ("link", "link: lies in DATA"),
        (".", "holds DATA"),
    ],
)
def test_a_folder_that_adds_nothing_is_refused_before_anything_is_written(workplace, more, name, words):
    (workplace / "empty").mkdir()
    (workplace / "link").symlink_to(workplace / "photos" / "bee")
    with pytest.raises(UsageError, match=r"^--upright ") as caught:
        run_adapt("out", upright=name)
    assert words in str(caught.value)
    assert not (workplace / "out").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_base": True}, "have no labels, which task_weight trains on"),
        ({"task_weight": 1.0}, "have no labels, which task_weight trains on"),
        ({"canonicalizer": "energy"}, "nothing is trained on these images"),
        ({"prior": {"r0": 0.9, "r90": 0.1}}, "shares of poses do not hold; name poses with --prior"),
    ],
)
def test_what_cannot_use_them_is_refused(changes, words):
    with pytest.raises(UsageError, match=f"^--upright: .*{words}"):
        configuration(upright="more", **changes)


def test_views_are_those_of_training_and_lie_in_a_file_that_nobody_sees(more, workplace):
    samples = samples_of(more)
    (workplace / "out").mkdir()
    found = read(samples, workplace / "out")
    assert list((workplace / "out").iterdir()) == []
    view = SmallView(12, HALF)
    for row in (0, 7, 11):
        picture = read_picture(samples[row].path)
        taken = found.images.take(torch.tensor([row]))
        assert torch.equal(taken.pixels[0], view.pixels(picture).round().to(torch.uint8))
        assert taken.aspects[0] == torch.tensor(picture.shape[-1] / picture.shape[-2])


def test_upright_pictures_are_turned_to_the_pose_of_the_training_images(more, monkeypatch):
    given = []

    def keeping(samples, known, test, *, turn, **options):
        given.append(turn)
        return read_upright(samples, known, test, turn=turn, **options)

    monkeypatch.setattr(teaching, "read_upright", keeping)
    run_adapt("out", upright="more", prior="r90,r270")
    picture = torch.randint(256, (3, 4, 6), dtype=torch.uint8)
    assert torch.equal(given[0](picture), act(parse_group("c4"), 1, picture))


def test_what_cannot_be_read_is_told_or_stops_a_strict_run(more, workplace):
    (more / "broken.png").write_bytes(b"no picture")
    told = Told()
    assert len(read(samples_of(more), workplace, progress=told).images) == 12
    assert any("broken.png" in line for line in told.lines)
    with pytest.raises(EquicliError, match=r"broken\.png"):
        read(samples_of(more), workplace, strict=True)


def test_the_log_says_which_pictures_these_were(more):
    run, _ = run_adapt("out", upright="more")
    (entry,) = [e["upright"] for e in map(json.loads, run.log.read_text().splitlines()) if "upright" in e]
    assert entry["images"] == 12 and len(entry["sha256"]) == 64
