"""The embedded default: real handwritten digits as an image folder, and a small network that knows them upright."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from equicli.data.decode import read_picture
from equicli.data.folders import open_folder
from equicli.data.normalization import HALF
from equicli.files import write_tensors
from equicli.prediction.timm_source import create
from equicli.progress import Progress

SIDE = 32  # pixels; the digits come as 8x8
ARCHITECTURE, CLASSES = "test_resnet", 9
EPOCHS, BATCH, LEARNING_RATE = 5, 64, 3e-3


def prepare(folder: Path, progress: Progress) -> None:
    """Write `data/` (train/<digit>/…, test/<digit>/…) and `network.safetensors` into a folder."""
    write_digits(folder / "data")
    progress.say(f"wrote {folder}/data: scikit-learn's handwritten digits without 9, which is a turned 6")
    pretrain(folder / "data", folder / "network.safetensors", progress)
    progress.say(f"wrote {folder}/network.safetensors: timm's {ARCHITECTURE}, trained on upright digits")


def write_digits(folder: Path) -> None:
    """Write scikit-learn's digits (1,797 scans, here 0 to 8) as PNG files; every fifth is a test image."""
    from sklearn.datasets import load_digits  # which imports a good part of SciPy

    digits = load_digits()
    for index, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        if digit == 9:
            continue
        picture = Image.fromarray((pixels / 16 * 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        path = folder / ("test" if index % 5 == 0 else "train") / str(digit) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def pretrain(data: Path, weights: Path, progress: Progress) -> None:
    """Train the small network on the upright training images, as a stand-in for a network from the Hub."""
    samples = open_folder(data).train
    fast = torch.channels_last  # on a CPU convolutions take a third less time
    images = HALF(torch.stack([read_picture(sample.path) for sample in samples])).to(memory_format=fast)
    labels = torch.tensor([sample.target for sample in samples])
    torch.manual_seed(0)
    network = create(ARCHITECTURE, {"num_classes": CLASSES}).to(memory_format=fast)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    network.train()
    for _ in progress.track(range(EPOCHS), "pretraining", EPOCHS):
        for indices in torch.randperm(len(images)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(network(images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    write_tensors(weights, network.state_dict())
