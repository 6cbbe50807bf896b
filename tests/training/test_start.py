"""What training starts from."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from equicli.config import build_config
from equicli.data.folders import Dataset
from equicli.runs import Run
from equicli.tasks.task import Task
from equicli.training.start import open_data
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
