import json
from itertools import chain

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from equicli.artifact import load, read_config
from equicli.config import AdaptConfig
from equicli.errors import EquicliError
from equicli.progress import Silent
from equicli.runs import find_run, find_unfinished, new_run
from equicli.training.adapt import adapt
from tests.training.test_loop import Killed, Killing

SIDE = 32


def write_images(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        noise = np.random.default_rng(index).integers(0, 60, (SIDE, SIDE, 3))
        slope = np.linspace(190, 20, SIDE)[:, None, None]
        Image.fromarray((slope + noise).astype(np.uint8)).save(folder / f"{index:02}.png")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with two classes of ten images and a file of weights for two classes."""
    monkeypatch.chdir(tmp_path)
    for name in ("ant", "bee"):
        write_images(tmp_path / "photos" / name, 10)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path


def configuration(**changes):
    settings = {
        "data": "photos",
        "model": "test_resnet",
        "checkpoint": "weights.safetensors",
        "model_args": {"num_classes": 2},
        "preprocess": "none",
        "canonicalizer": {"size": 16, "width": 4, "vector_size": 8},
        "epochs": 2,
        "batch_size": 8,
        "device": "cpu",
    }
    return AdaptConfig.model_validate({**settings, **changes})


def run_adapt(output, progress=None, **changes):
    config = configuration(**changes)
    run = new_run(output, config.model, config.group, overwrite=False)
    return run, adapt(config, run, progress or Silent())


def resume(output, progress=None, **changes):
    return adapt(configuration(**changes), find_unfinished(output), progress or Silent(), resume=True)


def test_adapting_leaves_an_artifact_with_the_networks_weights_untouched(workplace):
    run, adapted = run_adapt("out")
    stored, given = load_file(run.model), load_file(workplace / "weights.safetensors")
    assert {key for key in stored if not key.startswith("canonicalizer.")} == {f"prediction_network.{k}" for k in given}
    assert all(torch.equal(stored[f"prediction_network.{key}"], value) for key, value in given.items())
    assert adapted.config == read_config(run.model)
    assert adapted.config.labels == {"ant": 0, "bee": 1}
    assert adapted.classes == ("ant", "bee")
    x = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(load(run.model)(x), adapted.model(x))


def test_a_finished_run_records_what_it_was_made_from(workplace):
    run, _ = run_adapt("out")
    assert find_run(str(run.folder)).finished
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "config.json", "log.jsonl", "model.safetensors", "resolved.yaml", "split.json"
    ]  # fmt: skip
    assert configuration() == AdaptConfig.model_validate(run.read_settings())
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


def test_a_killed_run_resumes_with_a_fitted_head_too(workplace):
    for name in ("cow", "dog"):
        write_images(workplace / "photos" / name, 10)
    whole, adapted = run_adapt("whole")
    assert adapted.config.prediction_network.head_outputs == 4
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"))
    resume("out")
    assert find_run("out").model.read_bytes() == whole.model.read_bytes()


def test_images_that_came_since_do_not_change_the_split_of_a_resumed_run(workplace):
    with pytest.raises(Killed):
        run_adapt("out", Killing("epoch 1/2"))
    recorded = find_unfinished("out").read_split()
    write_images(workplace / "photos" / "ant", 30)
    adapted = resume("out")
    assert find_run("out").read_split() == recorded
    assert len(adapted.report_images) == len(recorded["validation"])


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
    assert adapted.classes == ()
    assert adapted.report_labels.unique().tolist() == [-1]


@pytest.mark.parametrize(
    "changes",
    [{"checkpoint": "nowhere.pth"}, {"data": "nowhere"}, {"model": "resnet18x"}, {"model_args": {"num_classes": 3}}],
    ids=lambda changes: next(iter(changes)),
)
def test_nothing_is_written_before_data_and_network_are_known_to_fit(workplace, changes):
    with pytest.raises(EquicliError):
        run_adapt("out", **changes)
    assert not (workplace / "out").exists()
