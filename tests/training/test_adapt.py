import json
import shutil
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from equicli.artifact import load, read_config, read_pictures_seen
from equicli.canonicalization.prior import Prior
from equicli.claims import find_run, find_unfinished
from equicli.config import build_config
from equicli.data.decode import read_picture
from equicli.data.fingerprint import fingerprint
from equicli.data.normalization import HALF
from equicli.errors import EquicliError, UsageError
from equicli.evaluation.images import Batches
from equicli.evaluation.run import evaluate_images
from equicli.groups import parse_group
from equicli.progress import Silent
from equicli.tasks.registry import make_task
from equicli.training import images
from tests.told import Told
from tests.training.small_runs import SIDE, VIEWS, configuration, resume, run_adapt, write_images
from tests.training.test_loop import Killed, Killing


def pictures_of(adapted):
    return [sample.path for sample in adapted.validation]


def test_adapting_leaves_an_artifact_with_the_networks_weights_untouched(workplace):
    run, adapted = run_adapt("out")
    stored, given = load_file(run.model), load_file(workplace / "weights.safetensors")
    others = {key for key in stored if not key.startswith("canonicalizer.")} - {"training_pictures"}
    assert others == {f"prediction_network.{key}" for key in given}
    assert all(torch.equal(stored[f"prediction_network.{key}"], value) for key, value in given.items())
    assert adapted.config.to_json() == read_config(run.model).to_json()
    assert adapted.config.labels == {"ant": 0, "bee": 1}
    assert adapted.data.classes == ("ant", "bee")
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(load(run.model)(x), adapted.model(x))


def test_a_finished_run_records_what_it_was_made_from(workplace):
    run, _ = run_adapt("out")
    assert find_run(str(run.folder)).trained
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "config.json", "log.jsonl", "model.safetensors", "resolved.yaml", "split.json"
    ]  # fmt: skip
    assert configuration() == build_config({}, [], run.read_settings())
    split = run.read_split()
    files = {p.relative_to(workplace / "photos").as_posix() for p in (workplace / "photos").rglob("*.png")}
    assert sorted(chain.from_iterable(split.values())) == sorted(files)
    entries = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [entry["epoch"] for entry in entries if "epoch" in entry] == [1, 2]
    assert json.loads((run.folder / "config.json").read_text()) == json.loads(read_config(run.model).to_json())


@pytest.mark.parametrize("text", ["epoch 1/2", "epoch 2/2", "keeping"])
def test_a_killed_run_resumes_to_the_same_artifact(workplace, text):
    whole, _ = run_adapt("whole")
    with pytest.raises(Killed):
        run_adapt("out", Killing(text))
    torch.manual_seed(77)
    resume("out")
    assert find_run("out").model.read_bytes() == whole.model.read_bytes()
    assert not find_run("out").state.exists()


def test_a_killed_run_resumes_with_a_fitted_head_too(workplace, monkeypatch):
    for name in ("cow", "dog"):
        write_images(workplace / "photos" / name, 10)
    whole, adapted = run_adapt("whole")
    assert adapted.config.prediction_network.head_outputs == 4
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"))
    assert find_unfinished("out").features.is_file()
    monkeypatch.setattr(images, "_features", lambda *_: pytest.fail("the network is not needed again"))
    resume("out")
    assert find_run("out").model.read_bytes() == whole.model.read_bytes()
    assert not find_run("out").features.exists() and not whole.features.exists()


def test_a_resumed_run_does_not_take_features_of_other_images(workplace):
    for name in ("cow", "dog"):
        write_images(workplace / "photos" / name, 10)
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"))
    first = find_unfinished("out").read_split()["train"][0]
    (workplace / "photos" / first).write_bytes(b"damaged since")
    with pytest.raises(EquicliError, match="--resume: some images"):
        resume("out")


def test_images_that_came_since_do_not_change_the_split_of_a_resumed_run(workplace):
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"))
    recorded = find_unfinished("out").read_split()
    write_images(workplace / "photos" / "ant", 30)
    adapted = resume("out")
    assert find_run("out").read_split() == recorded
    assert pictures_of(adapted) == [adapted.data.root / name for name in recorded["validation"]]


def test_the_same_seed_gives_the_same_artifact_and_another_seed_another(workplace):
    files = [run_adapt(f"out{index}", seed=seed)[0].model.read_bytes() for index, seed in enumerate((0, 0, 1))]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_the_test_images_are_never_opened(workplace):
    run, _ = run_adapt("first")
    for name in run.read_split()["test"]:
        (workplace / "photos" / name).write_text("no image")
    again, _ = run_adapt("second", strict=True)
    assert again.model.read_bytes() == run.model.read_bytes()


def test_unlabelled_images_adapt_a_network_without_labels(workplace):
    write_images(workplace / "loose", 12)
    _, adapted = run_adapt("out", data="loose")
    assert adapted.config.labels == {}
    assert adapted.data.classes == ()
    assert adapted.model.predict(pictures_of(adapted)).output.shape == (len(adapted.validation), 2)


@pytest.mark.parametrize(
    "changes",
    [{"checkpoint": "nowhere.pth"}, {"data": "nowhere"}, {"model": "resnet18x"}, {"model_args": {"num_classes": 3}}],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_is_written_before_data_and_network_are_known_to_fit(workplace, changes):
    with pytest.raises(EquicliError):
        run_adapt("out", **changes)
    assert not (workplace / "out").exists()


def turn_folder(folder, quarters):
    for path in folder.rglob("*.png"):
        Image.fromarray(np.rot90(np.array(Image.open(path)), quarters).copy()).save(path)


EQUIVARIANT = {"kind": "equivariant", "size": 17, "width": 4}
STEERABLE = {"kind": "steerable", "size": 17, "width": 4}


def logged(run):
    return [json.loads(line) for line in run.log.read_text().splitlines()]


def test_a_turned_folder_with_its_prior_gives_upright_images_to_the_network(workplace):
    turn_folder(workplace / "photos", 1)
    _, adapted = run_adapt("out", prior="r90", epochs=8, learning_rate=0.01)
    assert adapted.config.prior == Prior(("r90",))
    x = HALF(torch.stack([read_picture(path) for path in pictures_of(adapted)]))
    upright = torch.rot90(x, -1, (-2, -1))
    with torch.inference_mode():
        same = (adapted.model.canonicalize(x) == upright).all(dim=(1, 2, 3))
    assert same.float().mean() > 0.7


def test_a_head_is_fitted_to_images_turned_back_to_the_pose_that_the_network_expects(workplace):
    for name in ("cow", "dog"):
        write_images(workplace / "photos" / name, 10)
    _, upright = run_adapt("upright")
    turn_folder(workplace / "photos", 1)
    _, turned = run_adapt("turned", prior="r90")
    head = upright.model.prediction_network.fc
    assert head.out_features == 4
    torch.testing.assert_close(turned.model.prediction_network.fc.weight, head.weight)


@pytest.mark.parametrize(
    "changes",
    [
        {"canonicalizer": EQUIVARIANT, "group": "c8", "task_weight": 0.5},
        {"canonicalizer": STEERABLE, "group": "o2", "task_weight": 0.5, "padding": "zeros"},
        {"prior": {"r0": 0.75, "r90": 0.25}},
    ],
    ids=str,
)
def test_a_killed_run_of_any_kind_resumes_to_the_same_artifact(workplace, changes):
    whole, adapted = run_adapt("whole", **changes)
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"), **changes)
    torch.manual_seed(77)
    resume("out", **changes)
    assert find_run("out").model.read_bytes() == whole.model.read_bytes()
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(load(whole.model)(x), adapted.model(x))


@pytest.mark.usefixtures("escnn")
def test_a_killed_run_with_a_network_of_escnns_layers_resumes_to_the_same_artifact(workplace):
    canonicalizer = {**EQUIVARIANT, "network": "escnn"}
    whole, _ = run_adapt("whole", canonicalizer=canonicalizer)
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"), canonicalizer=canonicalizer)
    torch.manual_seed(77)
    resume("out", canonicalizer=canonicalizer)
    assert find_run("out").model.read_bytes() == whole.model.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("escnn")
def test_a_network_of_escnns_layers_learns_the_pose_of_digits(workplace, digits):
    canonicalizer = {"kind": "equivariant", "network": "escnn", "size": 17, "width": 16}
    _, adapted = run_adapt("out", data=str(digits / "test"), canonicalizer=canonicalizer, mirror=False, epochs=8)
    found = adapted.model.predict(pictures_of(adapted)).pose.element
    assert (found == 0).float().mean() > 0.5  # by chance 0.25


def test_the_weights_of_the_network_are_untouched_by_a_task_loss(workplace):
    run, _ = run_adapt("out", prior_weight=0, task_weight=1, contrast_weight=0)
    stored, given = load_file(run.model), load_file(workplace / "weights.safetensors")
    assert all(torch.equal(stored[f"prediction_network.{key}"], value) for key, value in given.items())
    epochs = [entry for entry in logged(run) if "epoch" in entry]
    assert [entry.keys() for entry in epochs] == [{"epoch", "seconds", "loss", "task_loss", "validation"}] * 2


def test_only_the_losses_that_are_asked_for_are_logged(workplace):
    run, _ = run_adapt("out", canonicalizer=EQUIVARIANT)
    assert logged(run)[-1].keys() == {"epoch", "seconds", "loss", "prior_loss", "validation"}
    run, _ = run_adapt("off-grid", canonicalizer=VIEWS, group="c8", artifact_weight=0.5)
    assert logged(run)[-1].keys() == {
        "epoch",
        "seconds",
        "loss",
        "prior_loss",
        "contrast_loss",
        "artifact_loss",
        "validation",
    }


def test_energy_adapts_without_training_and_leaves_no_epoch(workplace):
    run, adapted = run_adapt("out", canonicalizer={"kind": "energy"})
    assert find_run("out").trained and not run.state.exists()
    assert not any("epoch" in entry for entry in logged(run))
    stored = load_file(run.model)
    network = {f"prediction_network.{key}" for key in load_file(workplace / "weights.safetensors")}
    assert stored.keys() - {"training_pictures"} == network
    assert pictures_of(adapted) == [adapted.data.root / name for name in run.read_split()["validation"]]


def report_of(adapted, rotate="file"):
    """The identity rate that a report tells of all validation images."""
    batches = Batches(adapted.model, adapted.validation, 32, rotate)
    metrics = evaluate_images(
        adapted.model,
        adapted.config,
        make_task(configuration().task),
        batches,
        None,
        parse_group("c4"),
        split="validation",
        seed=0,
        device=torch.device("cpu"),
        precision="fp32",
        progress=Silent(),
    )
    return metrics["adapted"]["identity_rate"]


RESIZED = {"preprocess": "checkpoint", "image_size": 24}


@pytest.mark.parametrize(
    ("rotate", "settings"),
    [
        ("file", RESIZED),
        ("input", {"task_weight": 1, **RESIZED}),
        pytest.param("input", RESIZED, marks=pytest.mark.slow),
        pytest.param("file", {"canonicalizer": EQUIVARIANT, "group": "c8"}, marks=pytest.mark.slow),
    ],
)
def test_the_rate_logged_for_the_kept_epoch_is_that_of_a_report_on_the_same_images(workplace, rotate, settings):
    for name in ("ant", "bee"):
        write_images(workplace / "photos" / name, 40, frames=((32, 44), (40, 33), (32, 32)), faint=True)
    told = Told()
    run, adapted = run_adapt("out", told, rotate=rotate, validation_fraction=0.5, epochs=3, **settings)
    (kept,) = [line for line in told.lines if line.startswith("keeping epoch")]
    rates = {entry["epoch"]: entry["validation"]["identity_rate"] for entry in logged(run) if "epoch" in entry}
    assert report_of(adapted, rotate) == rates[int(kept.split()[2].strip(","))]
    assert f"all {len(adapted.validation)} validation images" in kept


@pytest.fixture
def distinct(workplace):
    """The same, where no two images are one."""
    write_images(workplace / "photos" / "bee", 10, frames=((SIDE, SIDE + 1),))
    return workplace


def test_an_artifact_knows_the_pictures_that_training_saw(distinct):
    workplace, (run, _) = distinct, run_adapt("out")
    split = {part: [workplace / "photos" / name for name in names] for part, names in run.read_split().items()}
    seen = read_pictures_seen(run.model)
    assert seen == {fingerprint(path) for path in split["train"] + split["validation"]}
    assert not seen & {fingerprint(path) for path in split["test"]}
    run, _ = run_adapt("untrained", canonicalizer={"kind": "energy"})
    assert read_pictures_seen(run.model) == set()


def test_test_images_that_are_copies_of_training_images_are_told(distinct):
    workplace = distinct
    for part in ("train", "test"):
        shutil.copytree(workplace / "photos", workplace / "parted" / part)
    (workplace / "parted" / "test" / "bee" / "00.png").write_bytes(b"another picture")
    told = Told()
    run_adapt("out", told, data="parted")
    (line,) = [line for line in told.lines if "copies" in line]
    assert line.startswith("19 of 20 test images are copies of training or validation images, such as ")
    assert str(workplace / "parted" / "test" / "ant" / "00.png") in line
    told.lines.clear()
    run_adapt("other", told)
    assert not any("copies" in line for line in told.lines)


def test_energy_opens_one_training_image_only(workplace):
    run, _ = run_adapt("first", canonicalizer={"kind": "energy"})
    for name in run.read_split()["train"][1:]:
        (workplace / "photos" / name).write_text("no image")
    _, again = run_adapt("second", canonicalizer={"kind": "energy"}, strict=True)
    assert len(again.validation) > 0


def test_a_task_loss_is_refused_for_images_without_labels_and_nothing_is_written(workplace):
    write_images(workplace / "loose", 12)
    with pytest.raises(UsageError, match="task_weight: the task's loss needs labels"):
        run_adapt("out", data="loose", task_weight=1)
    assert not (workplace / "out").exists()


def test_a_recorded_prior_and_padding_are_those_of_the_configuration(workplace):
    run, _ = run_adapt("out", prior={"r0": 0.75, "r180": 0.25}, padding="reflect")
    config = read_config(run.model)
    assert (config.prior, config.padding) == (Prior(("r0", "r180"), (0.75, 0.25)), "reflect")
    assert load(run.model).padding == "reflect"


RECTANGLES = ((32, 32), (24, 40), (40, 24), (30, 33), (48, 20))


@pytest.fixture
def rectangles(workplace):
    """Two classes of ten pictures of several sizes and shapes."""
    for name in ("ant", "bee"):
        write_images(workplace / "rectangles" / name, 10, RECTANGLES)
    return workplace / "rectangles"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"preprocess": "checkpoint", "image_size": 32},
        {"group": "so2", "canonicalizer": STEERABLE},
        {"preprocess": "checkpoint", "image_size": 32, "task_weight": 0.5},
        pytest.param({"group": "d4", "canonicalizer": EQUIVARIANT}, marks=pytest.mark.slow),
        pytest.param({"group": "c8"}, marks=pytest.mark.slow),
        pytest.param({"canonicalizer": {"kind": "energy"}}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_pictures_of_any_size_and_shape_adapt_a_network(rectangles, changes):
    run, adapted = run_adapt("out", **{"data": "rectangles", "strict": True, **changes})
    loaded, model = load(run.model).predict(pictures_of(adapted)), adapted.model.predict(pictures_of(adapted))
    assert model.output.shape == (len(adapted.validation), 2) and model.output.isfinite().all()
    assert torch.equal(loaded.output, model.output) and torch.equal(loaded.pose.element, model.pose.element)


def test_rectangles_are_found_upright_and_turned_whatever_their_shape(rectangles):
    _, adapted = run_adapt("out", data="rectangles", epochs=12, learning_rate=0.01)
    pictures = [read_picture(sample.path) for sample in adapted.data.samples]
    assert len({picture.shape for picture in pictures}) > 1
    for quarters in range(4):
        turned = [torch.rot90(picture, quarters, (-2, -1)) for picture in pictures]
        found = adapted.model.predict(turned)
        assert (found.pose.element == quarters).float().mean() > 0.7


def test_a_head_is_fitted_to_rectangles(rectangles):
    for name in ("cow", "dog"):
        write_images(rectangles / name, 10, RECTANGLES)
    _, adapted = run_adapt("out", data="rectangles")
    assert adapted.config.prediction_network.head_outputs == 4


def test_a_task_loss_on_pictures_of_several_sizes_taken_as_they_are_is_refused_and_nothing_is_written(rectangles):
    with pytest.raises(EquicliError, match=r"task_weight.*--image-size N") as caught:
        run_adapt("out", data="rectangles", task_weight=1)
    assert "\n" not in str(caught.value)
    assert not rectangles.with_name("out").exists()
