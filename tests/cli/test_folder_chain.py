"""The most dangerous folders, from adapt to evaluate."""

import io
import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

WEIGHTS = "network.safetensors"
TINY = (
    "--checkpoint",
    WEIGHTS,
    "--model",
    "test_resnet",
    "--preprocess",
    "none",
    "--canonicalizer",
    "energy",
    "--group",
    "c4",
)


def fill(root: Path, folders: dict[str, int], each: int = 4, noise: int = 0, seed: int = 0) -> None:
    """Pictures whose colour is that of their class."""
    generator = np.random.default_rng(seed)
    for name, number in folders.items():
        (root / name).mkdir(parents=True)
        colour = np.array([20 * number, 255 - 20 * number, 90 * (number % 3)])
        for i in range(each):
            pixels = colour + generator.normal(0, noise, (32, 32, 3)) + generator.normal(0, noise, 3)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{i}.png")


def untrained(folder: Path) -> None:
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), folder / WEIGHTS)


def answer(cli, here: Path, *arguments: object) -> dict:
    result = cli(*arguments, "--json", cwd=here)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> tuple[Path, int, int]:
    """Numbered folders, a network of timm's trained on them as timm reads them, and what timm counts on test."""
    from timm.data import create_transform
    from timm.data.readers.reader_image_folder import find_images_and_targets

    here = tmp_path_factory.mktemp("numbered")
    fill(here / "data" / "train", {str(i): i for i in range(12)}, noise=30)
    fill(here / "data" / "test", {str(i): i for i in range(12)}, noise=30, seed=1)
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=12).eval()
    config = timm.data.resolve_data_config({}, model=network)
    transform = create_transform((3, 32, 32), mean=config["mean"], std=config["std"], crop_pct=1.0)

    def read(part: str) -> tuple[torch.Tensor, torch.Tensor]:
        pairs, _ = find_images_and_targets(str(here / "data" / part))
        images = []
        for path, _ in pairs:
            with Image.open(path) as image:
                images.append(transform(image.convert("RGB")))
        return torch.stack(images), torch.tensor([target for _, target in pairs])

    with torch.no_grad():
        images, targets = read("train")
        features = network.forward_head(network.forward_features(images), pre_logits=True)
        mean, scale = features.mean(dim=0), features.std(dim=0) + 1e-3
        scaled = (features - mean) / scale
        one_hot = torch.eye(12)[targets] - 1 / 12
        weight = torch.linalg.solve(scaled.T @ scaled + torch.eye(scaled.shape[1]), scaled.T @ one_hot).T / scale
        network.get_classifier().weight.copy_(weight)
        network.get_classifier().bias.copy_(-weight @ mean)
        images, targets = read("test")
        right = int((network(images).argmax(dim=1) == targets).sum())
    save_file(network.state_dict(), here / WEIGHTS)
    return here, right, len(targets)


def test_numbered_folders_are_counted_as_timm_counts_them(cli, numbered) -> None:
    here, right, n = numbered
    given = (*TINY, "--model-arg", "num_classes=12")
    adapted = cli("adapt", "data", *given, "-o", "run", cwd=here)
    assert adapted.returncode == 0 and "natural order (timm's: 2 before 10)" in adapted.stderr, adapted.stderr
    metrics = answer(cli, here, "evaluate", "run")
    assert metrics["vanilla"]["per_element"][0]["correct"] == right and metrics["n"] == n
    assert 3 / 12 < right / n < 1


def test_split_names_are_no_classes(cli, tmp_path: Path) -> None:
    untrained(tmp_path)
    colours = {"cat": 1, "dog": 5, "owl": 9}
    for part in ("Training", "Testing"):
        fill(tmp_path / "data" / part, colours)
    adapted = cli("adapt", "data", *TINY, "-o", "run", cwd=tmp_path)
    assert adapted.returncode == 0, adapted.stderr
    assert "Training for train, Testing for test" in adapted.stderr and "in 3 classes" in adapted.stderr
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert {name.partition("/")[0] for name in split["test"]} == {"Testing"}
    assert answer(cli, tmp_path, "evaluate", "run")["n"] == 12
    again = answer(cli, tmp_path, "evaluate", "run", "--test-split", "Training", "-o", "on_training")
    assert again["n"] == 12


ODD = [os.fsdecode(b"caf\xe9"), "a\nb", "[red] {x} %s 🐱", "-x"]


def test_any_name_and_any_litter_go_from_the_folder_itself_to_every_report(cli, tmp_path: Path) -> None:
    here = tmp_path / "[data] %s"
    fill(here, {name: 3 * number for number, name in enumerate(ODD)}, each=6)
    untrained(here)
    for folder in ("__MACOSX/x", "@eaDir", "lost+found", "annotations", "empty"):
        (here / folder).mkdir(parents=True)
    (here / "annotations" / "a.xml").write_text("<x/>")
    (here / "__MACOSX" / "x" / "._0.png").write_bytes(b"x")
    adapted = cli("adapt", ".", *TINY, cwd=here)
    assert adapted.returncode == 0, adapted.stderr
    assert "in 4 classes" in adapted.stderr and "empty" in adapted.stderr
    (next_command,) = re.findall(r"(equicli evaluate.*)", adapted.stderr)
    for command in ([*shlex.split(next_command)[1:]], ["export", "-o", "model.safetensors"], ["inspect"]):
        result = cli(*command, cwd=here)
        assert result.returncode == 0, result.stderr
    run = (here / "runs" / "latest").resolve()
    for name in ("config.json", "split.json", "metrics.json"):
        json.loads((run / name).read_text(encoding="utf-8"))
    assert r"caf\xe9" in (run / "README.md").read_text(encoding="utf-8", errors="surrogateescape")
    split = json.loads((run / "split.json").read_text(encoding="utf-8"))
    assert all((here / name).is_file() for part in split.values() for name in part)
    (here / ODD[1] / "broken\n.png").write_bytes(b"x")
    refused = cli("evaluate", "--data", ".", "--test-split", ODD[1], "--strict", cwd=here)
    assert refused.returncode == 1 and len(errors := refused.stderr.splitlines()) >= 1 and r"broken\n.png" in errors[-1]


def test_a_terminal_of_ascii_shows_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from equicli.cli.output import Output

    written = [io.TextIOWrapper(io.BytesIO(), "ascii", errors=errors) for errors in ("replace", "backslashreplace")]
    monkeypatch.setattr("sys.stdout", written[0])
    monkeypatch.setattr("sys.stderr", written[1])
    out = Output()
    for name in ODD:
        out.say(f"data: {name}")
        out.result(name, {})
    for stream in written:
        stream.flush()
        assert len(stream.buffer.getvalue().splitlines()) >= len(ODD)
