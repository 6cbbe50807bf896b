"""What training starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from equicli.config import build_config
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.decode import PLAIN
from equicli.data.folders import Dataset, Sample, Split
from equicli.errors import counted
from equicli.runs import Run
from equicli.tasks.task import Task
from equicli.training.start import open_data, tell_broken, tell_copies
from tests.told import Told


@pytest.mark.parametrize(("target", "unlabelled"), [(None, True), (0, False), (torch.zeros(2, 2), False)])
def test_whether_images_are_labelled_is_told_whatever_a_label_is(tmp_path: Path, target, unlabelled: bool) -> None:
    class Labelled(Task):
        name = "labelled"

        def open(self, root: Path) -> Dataset:
            return super().open(root).with_targets(lambda sample: target)

    for index in range(10):
        Image.new("RGB", (2, 2)).save(tmp_path / f"{index}.png")
    config, told = build_config({"data": str(tmp_path), "model": "m"}, [], None), Told()
    data, _ = open_data(config, Labelled(), Run(tmp_path / "run"), told, resume=False)
    assert len(data.samples) == 10 and any("unlabelled" in line for line in told.lines) == unlabelled


def test_copies_among_the_rows_of_h5_files_are_told(tmp_path: Path) -> None:
    import h5py

    clouds = np.random.default_rng(0).normal(size=(3, 8, 3))
    for name, rows in (("train", clouds[:2]), ("test", clouds[1:])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["data"] = rows
    train, test = (tuple(Sample(tmp_path / name / f"{row:06}") for row in (0, 1)) for name in ("train.h5", "test.h5"))
    decoder, told = CloudDecoder(), Told()
    read = {sample.path: decoder.fingerprint(sample.path) for sample in train}
    tell_copies(Split(train, (), test), read, decoder, told)
    assert len(told.lines) == 1 and "1 of 2 test images are copies" in told.lines[0]
    assert str(tmp_path / "test.h5" / "000000") in told.lines[0]


def test_test_pictures_that_cannot_be_opened_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    told = Told()
    for name in ("good.png", "bad.png"):
        tell_broken(Split((), (), (Sample(tmp_path / name),)), PLAIN, told)
    assert len(told.lines) == 1 and told.lines[0].startswith("1 of 1 test image cannot be opened, such as ")
    assert str(tmp_path / "bad.png") in told.lines[0]


@pytest.mark.parametrize(
    ("count", "things", "said"),
    [
        (1, "files", "1 file"),
        (1200, "pictures", "1,200 pictures"),
        (1, "batches", "1 batch"),
        (0, "images", "0 images"),
    ],
)
def test_counts_and_nouns_agree(count: int, things: str, said: str) -> None:
    assert counted(count, things) == said
