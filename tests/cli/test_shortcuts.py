"""No shortcut: poses are found from what pictures show, not from traces that saving or resizing left in them."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import equicli
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.optimized import OptimizedCanonicalizer, OptimizedSpec
from equicli.data.decode import read_picture
from equicli.data.normalization import HALF
from equicli.data.reencode import Encoding
from equicli.prediction.network import NetworkSpec
from tests.shortcuts import C4, LOSSLESS, POINT, WAYS, gaps, poses_found

ROOT = Path(__file__).parents[2]
SIDE = 36  # no multiple of 8, so that a JPEG's blocks lie otherwise when it is turned


def test_the_quickstarts_canonicalizer_finds_poses_as_well_however_pictures_were_turned(quickstart) -> None:
    paths = sorted((quickstart.folder / "data" / "test").rglob("*.png"))[::2]
    pictures = [Encoding("jpeg", 75)(read_picture(path)) for path in paths]
    canonicalizer = equicli.load(quickstart.folder / "model.safetensors").canonicalizer
    assert poses_found(canonicalizer, pictures, LOSSLESS).double().mean() > 0.9
    found = gaps(canonicalizer, pictures)
    assert max(map(abs, found.values())) <= POINT, found


@pytest.mark.real
@pytest.mark.slow
def test_poses_of_photos_are_found_as_well_however_they_were_turned(cli, real_data, tmp_path) -> None:
    """On the validation photos, which training has not seen."""
    command = ("adapt", "--recipe", "imagenette-squeezenet-c4", "--epochs", "2", "--output", tmp_path / "run")
    adapted = cli(*command, cwd=ROOT)
    assert adapted.returncode == 0, adapted.stderr
    held_out = json.loads((tmp_path / "run" / "split.json").read_text())["validation"]
    photos = [read_picture(real_data / "imagenette" / name) for name in held_out]
    canonicalizer = equicli.load(tmp_path / "run" / "model.safetensors").canonicalizer
    assert poses_found(canonicalizer, photos, LOSSLESS).double().mean() > 0.7
    found = gaps(canonicalizer, photos)
    assert max(map(abs, found.values())) <= POINT, found


class ReadsBlocks(nn.Module):
    """A cheat: how much more pixels differ across the borders of a JPEG's blocks, counted from top left."""

    def forward(self, x):
        down, right = (x.diff(dim=axis).abs().transpose(axis, -1).mean(dim=(1, 2)) for axis in (-2, -1))
        steps = down + right  # (b, SIDE - 1)
        return evidence(steps[:, 7::8].mean(dim=1) - steps.mean(dim=1))


class ReadsInterpolation(nn.Module):
    """A cheat: how near every second row is to the mean of its neighbours, as in pictures whose rows were doubled."""

    def forward(self, x):
        rows = (x[..., 2:, :] + x[..., :-2, :] - 2 * x[..., 1:-1, :]).abs().mean(dim=(1, 3))
        return evidence(rows[:, 1::2].mean(dim=1) - rows[:, ::2].mean(dim=1))


def evidence(amount):
    """Vectors (b, 2) that are the more like (1, 0), the larger a small number is."""
    return torch.stack([amount.sin(), amount.cos()], dim=1)


def cheating(network: nn.Module) -> OptimizedCanonicalizer:
    """A canonicalizer like those that are trained, with a network that looks at no content."""
    spec = OptimizedSpec(NetworkSpec("python", type(network).__name__), HALF, SIDE, 2)
    module = OptimizedCanonicalizer(spec, Context(C4, HALF), network).eval()
    module.reference.copy_(torch.tensor([1.0, 0.0]))
    return module


def soft(height: int) -> list[torch.Tensor]:
    """Soft colours with a grain, which say nothing of a pose."""
    generator = torch.Generator().manual_seed(0)
    colours = 255 * torch.rand(30, 3, 6, 6, generator=generator)
    pictures = nn.functional.interpolate(colours, (height, SIDE), mode="bicubic")
    grain = 8 * torch.randn(pictures.shape, generator=generator)
    return list((pictures + grain).clamp(0, 255).round().to(torch.uint8))


def doubled(picture: torch.Tensor) -> torch.Tensor:
    """Pixels with a row between each two, the mean of both."""
    rows = picture.float()
    between = (rows + torch.cat([rows[:, 1:], rows[:, -1:]], dim=1)) / 2
    return torch.stack([rows, between], dim=2).flatten(1, 2).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("network", "pictures", "betrayed"),
    [
        (ReadsBlocks(), [Encoding("jpeg", 30)(picture) for picture in soft(SIDE)], WAYS),
        (ReadsInterpolation(), [doubled(picture) for picture in soft(SIDE // 2)], ("jpeg:75", "jpeg:50")),
    ],
    ids=["of compression", "of interpolation"],
)
def test_a_canonicalizer_that_reads_traces_is_found_out(network, pictures, betrayed) -> None:
    cheat = cheating(network)
    assert poses_found(cheat, pictures, LOSSLESS).double().mean() > 0.8
    found = gaps(cheat, pictures)
    assert all(found[name] < -0.1 for name in betrayed), found
