"""A task of one's own, as the contributing text shows it: one file and one line, and no edit anywhere else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import equicli
from equicli.data.decode import read_picture
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.tasks.registry import TASKS

C4 = parse_group("c4")
CODE = (Path(__file__).parents[2] / "equicli" / "README.md").read_text(encoding="utf-8")

# A network that finds the brightest pixel of a photo, and likes what is near the top: it wants upright photos.
NETWORK = """
import torch
from torch import nn

class Pointer(nn.Module):
    def forward(self, images):
        height, width = images.shape[-2:]
        liked = images.mean(dim=1) - torch.linspace(0, 2, height)[:, None]
        at = liked.flatten(1).argmax(dim=1)
        return torch.stack([at % width + 0.5, at // width + 0.5], dim=-1)[:, None]
"""


@pytest.fixture
def keypoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the task that equicli/README.md shows."""
    section = CODE.partition("# equicli/tasks/keypoints.py")
    names: dict[str, object] = {"__name__": "keypoints"}
    exec((section[1] + section[2]).partition("```")[0], names)
    line = re.search(r"# in TASKS of equicli/tasks/registry.py.*?\n(.*?)```", CODE, re.S)
    assert line is not None
    for name, task in eval("{" + line[1] + "}", names).items():
        monkeypatch.setitem(TASKS, name, task)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Unlabelled photos of mixed sizes, brighter at the top, and the network beside them."""
    (tmp_path / "pointer.py").write_text(NETWORK)
    generator = np.random.default_rng(0)
    for index, (width, height) in enumerate([(40, 28), (27, 44), (33, 33), (51, 30), (30, 39), (28, 28)] * 5):
        noise = generator.integers(0, 120, (height, width, 3))
        sky = np.linspace(120, 0, height).astype(int)[:, None, None]
        folder = tmp_path / "photos" / ("test" if index % 5 == 0 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((noise + sky).astype(np.uint8)).save(folder / f"{index:02}.png")
    return tmp_path / "photos"


def test_a_task_in_one_file_adapts_evaluates_and_exports_and_its_answers_turn_with_the_photo_to_the_pixel(
    cli, keypoints, photos: Path
) -> None:
    here = photos.parent
    network = ("--model", "python:pointer:Pointer")
    small = ("--epochs", "2", "--canonicalizer-size", "32", "--set", "canonicalizer.width=8", "--batch-size", "8")
    result = cli("adapt", "--task", "keypoints", *network, *small, "--output", "run", "photos", cwd=here)
    assert result.returncode == 0, result.stderr
    result = cli("evaluate", "run", "--rotations", "4", "--json", *network, cwd=here)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)
    adapted = metrics["adapted"]
    assert (metrics["task"], metrics["rotate"], metrics["n"]) == ("keypoints", "file", 6)
    assert "symmetrized" not in metrics
    assert adapted["invariance_residual"] == 0
    assert adapted["max_logit_delta"] == 0
    assert len({e["correct"] for e in adapted["per_element"]}) == 1
    assert metrics["vanilla"]["avg_found"] < 1  # it does not turn by itself
    assert metrics["oracle"]["avg_found"] == 1
    result = cli("export", "run", "--output", "model.safetensors", *network, cwd=here)
    assert result.returncode == 0, result.stderr

    import sys

    model = equicli.load(here / "model.safetensors", network=sys.modules["pointer"].Pointer())
    pictures = [read_picture(path) for path in sorted((photos / "test").iterdir())]
    found = model.predict(pictures)
    for g in range(1, 4):
        turned = model.predict([act(C4, g, picture) for picture in pictures])
        for picture, points, moved in zip(pictures, found.output, turned.output, strict=True):
            frame = (picture.shape[-2], picture.shape[-1])
            assert torch.equal(moved, act(C4, g, points, "keypoints", frame))


def test_what_cannot_be_averaged_is_refused_before_anything_is_read(cli, keypoints, photos: Path) -> None:
    flags = ("--task", "keypoints", "--model", "python:pointer:Pointer", "--set", "policy=mean")
    result = cli("adapt", *flags, "photos", cwd=photos.parent)
    assert result.returncode == 2
    assert "policy=one" in result.stderr
    assert not (photos.parent / "runs").exists()
