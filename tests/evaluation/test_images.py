"""Which samples are evaluated on, and how they come: as pictures, or as tensors that are preprocessed."""

import json

import pytest
import torch
from PIL import Image

from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Sample
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.evaluation.images import Batches, find_samples
from equicli.prediction.inputs import Pictures, Tensors
from equicli.progress import Silent
from equicli.runs import Run
from tests.evaluation.handmade import CLASSIFICATION, SIDE, EdgeNetwork, bright, finding_top, framed, noise


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return Sample(path)


def saved(folder, images):
    return [save(folder / f"{index}.png", image) for index, image in enumerate(images)]


def model(**options):
    return finding_top(EdgeNetwork(), **options)


def test_pictures_come_untouched_and_in_order(tmp_path):
    images = framed(0, 1, 2, 3, 0)
    batches = Batches(model(), saved(tmp_path, images), 2, "file")
    found = list(batches)
    assert len(batches) == len(found) == 3
    assert [batch.indices.tolist() for batch in found] == [[0, 1], [2, 3], [4]]
    shown = [picture for batch in found for picture in batch.inputs.pictures]
    assert all(isinstance(batch.inputs, Pictures) for batch in found)
    assert all(torch.equal(a, b) for a, b in zip(shown, images, strict=True))


def test_tensors_come_preprocessed_and_normalized(tmp_path):
    (batch,) = Batches(model(), saved(tmp_path, noise(3)), 8, "input")
    assert isinstance(batch.inputs, Tensors)
    assert torch.equal(batch.inputs.value, HALF(noise(3)))


def test_pictures_of_any_size_become_tensors_of_one_where_the_network_is_shown_squares(tmp_path):
    resizing = model(preprocess=Preprocess(SIDE, SIDE, "bilinear", HALF))
    (batch,) = Batches(resizing, saved(tmp_path, framed(0, 1, 2, 3)), 8, "input")
    assert batch.inputs.value.shape == (4, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (((8, 8), (12, 12)), ("1.png: 12x12 pixels, but", "0.png has 8x8", "of one size")),
        (((8, 8), (8, 12)), ("1.png: 12x8 pixels", "square")),
        (((12, 8),), ("0.png: 8x12 pixels", "square")),
    ],
    ids=["sizes", "shapes", "no square"],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_tensors_of_several_sizes_or_not_square_are_refused_with_the_remedy(tmp_path, frames, words, batch_size):
    samples = saved(tmp_path, framed(*[0] * len(frames), frames=frames))
    with pytest.raises(EquicliError) as refused:
        list(Batches(model(), samples, batch_size, "input"))
    message = str(refused.value)
    assert all(word in message for word in words) and "\n" not in message
    assert "--rotate file" in message and "--preprocess checkpoint with --image-size" in message


@pytest.mark.parametrize("rotate", ["file", "input"])
def test_unreadable_files_are_set_aside_or_stop_a_strict_evaluation(tmp_path, rotate):
    samples = saved(tmp_path, bright(0, 1, 2))
    samples[1].path.write_text("no image")
    batches = Batches(model(), samples, 2, rotate)
    assert [batch.indices.tolist() for batch in batches] == [[0, 2]]
    assert batches.unreadable == {samples[1].path: "not an image"}
    with pytest.raises(UnreadableImageError):
        list(Batches(model(), samples, 2, rotate, strict=True))


class Told(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def folder(tmp_path):
    """Two classes, train and test."""
    for split, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee"):
            for index in range(count):
                save(tmp_path / "data" / split / name / f"{index}.png", bright(0)[0])
    return tmp_path / "data"


def run_of(tmp_path, data, test):
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run")
    run.settings.write_text(json.dumps({"data": str(data)}))
    (run.folder / "split.json").write_text(json.dumps({"train": [], "validation": [], "test": test}))
    return run


def names(found):
    return [f"{sample.path.parent.name}/{sample.path.name}" for sample in found.samples]


def test_of_a_runs_own_folder_the_images_that_it_held_out_are_tested(tmp_path, folder):
    run = run_of(tmp_path, folder, ["test/bee/1.png", "train/ant/0.png"])
    for data in (None, str(folder)):
        found = find_samples(CLASSIFICATION, data, run, Silent())
        assert (names(found), found.split) == (["bee/1.png", "ant/0.png"], "test")
        assert [sample.target for sample in found.samples] == [1, 0]


def test_of_another_folder_its_test_images_and_of_one_without_all_of_them_are_tested(tmp_path, folder):
    told, run = Told(), run_of(tmp_path, tmp_path / "elsewhere", [])
    found = find_samples(CLASSIFICATION, str(folder), run, told)
    assert (len(found.samples), found.split, told.lines) == (4, "test", [])
    found = find_samples(CLASSIFICATION, str(folder / "train"), None, told)
    assert (len(found.samples), found.split) == (6, "all")
    assert len(told.lines) == 1 and "no test split" in told.lines[0] and "all 6 images" in told.lines[0]


def test_an_exported_file_records_no_folder_and_a_run_may_have_held_out_nothing(tmp_path, folder):
    with pytest.raises(UsageError, match="--data"):
        find_samples(CLASSIFICATION, None, None, Silent())
    with pytest.raises(EquicliError, match="no test images"):
        find_samples(CLASSIFICATION, None, run_of(tmp_path, folder, []), Silent())


def moved(folder, tmp_path):
    """A run whose data folder is gone; its test images are some of what was once its training folder."""
    run = run_of(tmp_path, tmp_path / "gone", [])
    split = {"train": ["ant/0.png", "bee/0.png"], "validation": ["ant/1.png"], "test": ["bee/2.png", "ant/2.png"]}
    run.split.write_text(json.dumps(split))
    return run, folder / "train"


def test_of_a_run_whose_folder_was_moved_or_copied_the_recorded_test_images_are_tested(tmp_path, folder):
    run, data = moved(folder, tmp_path)
    told = Told()
    found = find_samples(CLASSIFICATION, str(data), run, told)
    assert (names(found), found.split) == (["bee/2.png", "ant/2.png"], "test")
    assert len(told.lines) == 1 and "its 2 test images" in told.lines[0]
    with pytest.raises(UsageError, match="gone; name where it lies now with --data"):
        find_samples(CLASSIFICATION, None, run, Silent())
    (data / "bee" / "2.png").unlink()  # what is left of them
    assert names(find_samples(CLASSIFICATION, str(data), run, Silent())) == ["ant/2.png"]


def test_another_folder_of_which_few_names_are_the_runs_is_tested_whole(tmp_path, folder):
    run, data = moved(folder, tmp_path)
    for name in ("ant/0.png", "bee/0.png", "ant/1.png"):
        (data / name).rename((data / name).with_stem("x" + name[-5]))
    found = find_samples(CLASSIFICATION, str(data), run, Silent())
    assert (len(found.samples), found.split) == (6, "all")
