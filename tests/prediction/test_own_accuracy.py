"""A checkpoint of a plain Lightning module is as right through equicli as in its own framework, to the image."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import equicli
from equicli import artifact, pipeline
from equicli.config import build_config
from equicli.errors import EquicliError
from equicli.progress import Silent
from equicli.runs import Run
from tests.prediction.tiny import State, pickled, same

MODEL = f"python:{__name__}:network"
CLASSES = ("east", "north", "west")


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 3 * 3, len(CLASSES)))


class Module(nn.Module):
    """A LightningModule, as far as its state goes."""

    def __init__(self, attribute: str) -> None:
        super().__init__()
        setattr(self, attribute, network())
        self.criterion = nn.CrossEntropyLoss(torch.ones(len(CLASSES)))
        self.attribute = attribute

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.attribute)(x)


def pictures(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 16)):
        for number, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.normal(110, 60, (16, 16, 3))
                pixels[:, 5 * number : 5 * number + 5] += 10
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


def prepare(path: Path) -> Tensor:
    """What torchvision's ToTensor and Normalize do."""
    pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pixels - mean) / std


def read(folder: Path) -> tuple[Tensor, Tensor]:
    files = [(path, CLASSES.index(path.parent.name)) for path in sorted(folder.glob("*/*.png"))]
    return torch.stack([prepare(path) for path, _ in files]), torch.tensor([label for _, label in files])


def trained(data: Path, attribute: str) -> Module:
    torch.manual_seed(0)
    module = Module(attribute)
    images, labels = read(data / "train")
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        module.criterion(module(images), labels).backward()
        optimizer.step()
    return module.eval()


def checkpoint(state: State, **entries: object) -> bytes:
    hyper_parameters = {"hparams": argparse.Namespace(lr=3e-3), "act": nn.ReLU}
    beside = {
        "epoch": 20,
        "global_step": 20,
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": hyper_parameters,
    }
    loops = {"loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}, "optimizer_states": [{"state": {}}]}
    return pickled({**beside, **loops, "state_dict": state, **entries})


def adapt(data: Path, file: Path, folder: Path, **flags: object) -> Run:
    run = Run(folder)
    run.folder.mkdir()
    given = {"data": str(data), "model": MODEL, "checkpoint": str(file), "group": "c4", "head": "none", **flags}
    config = build_config(given, ["canonicalizer=none"], None)
    pipeline.adapt(config, run, Silent())
    return run


@pytest.mark.parametrize("attribute", ["model", "net"])
def test_a_lightning_module_is_as_right_as_in_its_own_framework(tmp_path: Path, attribute: str) -> None:
    data = pictures(tmp_path / "data")
    module = trained(data, attribute)
    images, labels = read(data / "test")
    with torch.inference_mode():
        right = int((module(images).argmax(1) == labels).sum())
    assert len(labels) / len(CLASSES) < right < len(labels)
    file = tmp_path / "epoch=19-step=20.ckpt"
    file.write_bytes(checkpoint(module.state_dict()))
    run = adapt(data, file, tmp_path / "run")
    metrics, _ = pipeline.evaluate(str(run.folder), network=network(), progress=Silent())
    assert metrics["vanilla"]["per_element"][0]["correct"] == right
    assert metrics["n"] == len(labels)


def test_which_weights_were_taken_is_recorded_and_an_adapter_takes_them_again(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    torch.manual_seed(0)
    plain = {f"model.{key}": value for key, value in network().state_dict().items()}
    average = {key: value + 1 for key, value in plain.items()}
    file = tmp_path / "both.ckpt"
    file.write_bytes(checkpoint(plain, model_ema=average))
    for ema, recorded, expected in (("auto", "yes", average), ("no", "no", plain)):
        run = adapt(data, file, tmp_path / f"run-{ema}", ema=ema)
        config = artifact.read_config(run.model)
        assert config.provenance["ema"] == recorded
        assert run.read_settings()["network"]["ema"] == ema
        model = equicli.load(run.model, network=network())
        adapter = tmp_path / f"{ema}.safetensors"
        artifact.write_artifact(adapter, model, config, adapter_only=True)
        again = equicli.load(adapter, network=network(), checkpoint=file)
        own = {key.removeprefix("model."): value for key, value in expected.items()}
        assert same(model.prediction_network, own) and same(again.prediction_network, own)


@pytest.mark.parametrize(
    ("written", "ema"), [("ema=no", "no"), ("ema=false", "no"), ("ema=yes", "yes"), ("ema=auto", "auto")]
)
def test_yes_and_no_may_be_written_as_yaml_reads_them(written: str, ema: str) -> None:
    config = build_config({"data": "x", "model": MODEL, "checkpoint": "y"}, [written], None)
    assert config.network.ema == ema


def test_ema_says_nothing_without_a_checkpoint(tmp_path: Path) -> None:
    from equicli.prediction.load import load_network

    with pytest.raises(EquicliError, match=r"--ema yes: .* add --checkpoint"):
        load_network("test_resnet", ema="yes")
