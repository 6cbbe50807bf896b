"""`equicli.adapt` in Python, and the README's lines of it, on a module of the user's own."""

import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import equicli
from equicli.data.decode import to_pixels
from equicli.errors import EquicliError, UsageError
from tests.told import Told
from tests.training.small_runs import SIDE

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SMALL = {"epochs": 2, "canonicalizer.network": "conv", "canonicalizer.size": 16, "canonicalizer.width": 4}


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 3))


def test_it_adapts_and_leaves_numbers_generators_and_files_alone(workplace: Path) -> None:
    own, before = network(), sorted(workplace.rglob("*"))
    weights, state = {k: v.clone() for k, v in own.state_dict().items()}, torch.get_rng_state()
    model = equicli.adapt(own, "photos", group="c4", size=SIDE, settings=SMALL)
    assert torch.equal(torch.get_rng_state(), state) and sorted(workplace.rglob("*")) == before
    assert all(torch.equal(value, weights[key]) for key, value in own.state_dict().items())
    assert model.prediction_network is own and not model.training
    picture = equicli.open_image("photos/ant/00.png")
    upright, turned = model.predict([picture]), model.predict([picture.rotate(90)])
    assert torch.equal(upright.output, turned.output)
    assert turned.pose.element.item() == (upright.pose.element.item() + 1) % 4


def test_a_list_of_pictures_and_a_loader_are_as_good_as_a_folder(workplace: Path) -> None:
    paths = sorted(Path("photos").rglob("*.png"))
    pictures = [equicli.open_image(path) for path in paths]
    by_list = equicli.adapt(network(), pictures, size=SIDE, settings=SMALL)
    by_path = equicli.adapt(network(), paths, size=SIDE, settings=SMALL)
    pixels = torch.stack([to_pixels(picture) for picture in pictures])
    loader = DataLoader(TensorDataset(pixels.float() / 255, torch.zeros(len(paths))), batch_size=6)
    by_loader = equicli.adapt(network(), loader, size=SIDE, settings=SMALL)
    first = by_list.canonicalizer.state_dict()
    for other in (by_path, by_loader):
        assert all(torch.equal(value, first[key]) for key, value in other.canonicalizer.state_dict().items())


@pytest.mark.parametrize(
    "images, error, message",
    [
        (torch.zeros(2, 3, 8, 8), UsageError, "a folder, a list of pictures or a DataLoader"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], EquicliError, "give two or more"),
        (DataLoader(torch.randn(4, 3, 8, 8), batch_size=2), UsageError, "not normalized"),
        (DataLoader(torch.zeros(4, 8), batch_size=2), UsageError, "no images"),
        ("nowhere", UsageError, "nowhere"),
    ],
)
def test_other_images_are_refused_in_one_line(images, error, message) -> None:
    with pytest.raises(error, match=message):
        equicli.adapt(network(), images, size=8, settings=SMALL)


def test_settings_are_those_of_recipes() -> None:
    with pytest.raises(UsageError, match="unknown key 'epoch'"):
        equicli.adapt(network(), [], settings={"epoch": 1})
    with pytest.raises(UsageError, match="--group c0"):
        equicli.adapt(network(), [], group="c0")


@pytest.mark.parametrize("settings", [{"policy": "mean"}, {"strict": True}, {"group": "c8"}, {"rotate": "input"}])
def test_settings_that_would_do_nothing_are_refused(settings) -> None:
    with pytest.raises(UsageError, match="settings: takes those of training, canonicalizer"):
        equicli.adapt(network(), [], settings=settings)


def test_what_learns_nothing_comes_back_as_ready_as_what_learns() -> None:
    model = equicli.adapt(network().train(), [], settings={"canonicalizer": "none"})
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_it_warns_that_the_canonicalizer_starts_untrained_where_it_is_silent() -> None:
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 20
    settings = {"epochs": 1, "canonicalizer.width": 4, "canonicalizer.size": 8}
    with pytest.warns(UserWarning, match="conv, which starts untrained"):
        equicli.adapt(network(), pictures, size=SIDE, settings=settings)
    equicli.adapt(network(), pictures, size=SIDE, settings=settings, progress=Told())


def test_a_folder_is_a_path_too_and_what_is_left_out_of_it_is_told(workplace: Path) -> None:
    Path("photos/ant/notes.txt").touch()
    told = Told()
    equicli.adapt(network(), Path("photos"), size=SIDE, settings={**SMALL, "epochs": 1}, progress=told)
    assert any("left out" in line and ".txt" in line for line in told.lines)


def test_the_readmes_lines_run_on_a_module_of_ones_own(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "equicli.adapt(" in block]
    assert len(code.replace("\n\n", "\n").splitlines()) <= 14
    Path("photos/ant/00.png").rename("scan.jpg")
    own, real = timm.create_model("test_resnet", num_classes=3), equicli.adapt
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: own)
    monkeypatch.setattr(equicli, "adapt", lambda *a, **k: real(*a, **k, settings=SMALL), raising=False)
    names: dict[str, object] = {}
    exec(code, names)
    logits, pose = names["logits"], names["pose"]
    assert logits.shape == (1, 3) and pose.element.shape == (1,)
