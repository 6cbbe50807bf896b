"""Runs of adapt that take a second: two classes of small images, and a tiny network."""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from equicli.claims import find_unfinished, new_run
from equicli.config import build_config
from equicli.progress import Silent
from equicli.training.adapt import train_canonicalizer

SIDE = 32
# EquiOptAdapt, whose poses have vectors, and which serves any finite group.
VIEWS = {"kind": "optimized", "network": "conv", "size": 16, "width": 4, "vector_size": 8}


def write_images(folder, count, frames=((SIDE, SIDE),), faint=False):
    """Images that are brighter above than below, or only faintly so, of these heights and widths in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        height, width = frames[index % len(frames)]
        noise = np.random.default_rng(index).integers(0, 60, (height, width, 3))
        slope = np.linspace(*((110, 108) if faint else (190, 20)), height)[:, None, None]
        Image.fromarray((slope + noise).astype(np.uint8)).save(folder / f"{index:02}.png")


def make_workplace(folder: Path) -> None:
    """Two classes of ten images, `photos`, and a file of weights for two classes."""
    for name in ("ant", "bee"):
        write_images(folder / "photos" / name, 10)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), folder / "weights.safetensors")


def configuration(**changes):
    settings = {
        "data": "photos",
        "model": "test_resnet",
        "checkpoint": "weights.safetensors",
        "model_args": {"num_classes": 2},
        "preprocess": "none",
        "canonicalizer": {"network": "conv", "size": 16, "width": 4},
        "policy": "one",  # a gate takes passes that few tests are about
        "epochs": 2,
        "batch_size": 8,
        "device": "cpu",
    }
    return build_config({**settings, **changes}, [], None)


def run_adapt(output, progress=None, **changes):
    config = configuration(**changes)
    run = new_run(output, config.network.model, config.group, overwrite=False)
    return run, train_canonicalizer(config, run, progress or Silent())


def resume(output, progress=None, **changes):
    return train_canonicalizer(configuration(**changes), find_unfinished(output), progress or Silent(), resume=True)
