"""The embedded default for point clouds: shapes made by the program, and a PointNet that knows them upright."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from equicli.data.clouds.decode import CloudDecoder
from equicli.data.clouds.folders import open_clouds
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.files import write_tensors
from equicli.groups import MatrixGroup
from equicli.groups.action import act
from equicli.groups.continuous import CONTINUOUS
from equicli.prediction.points.source import create
from equicli.progress import Progress
from equicli.training.clouds import vary_clouds

PER_CLASS, TEST_SHARE, POINTS = 60, 0.25, 256
EPOCHS, BATCH, LEARNING_RATE = 12, 32, 2e-3

Array = NDArray[np.float64]


def prepare_shapes(folder: Path, progress: Progress, *, per_class: int = PER_CLASS, epochs: int = EPOCHS) -> None:
    """Write `data/` (train/<shape>/…, test/<shape>/…) and `network.safetensors` into a folder."""
    write_shapes(folder / "data", per_class)
    progress.say(f"wrote {folder}/data: point clouds of {', '.join(SHAPES)}, made by the program, upright")
    data = open_clouds(folder / "data")
    decoder, preprocess = CloudDecoder(), CloudPreprocess(POINTS)
    clouds = preprocess.batch([decoder.read(sample.path) for sample in data.train], torch.device("cpu"))
    torch.manual_seed(0)
    network = create("pointnet", {"classes": len(SHAPES)})
    targets = torch.tensor([sample.target for sample in data.train])
    pretrain(network, clouds, targets, epochs, CONTINUOUS["so2z"], progress)
    write_tensors(folder / "network.safetensors", network.state_dict())
    progress.say(f"wrote {folder}/network.safetensors: a PointNet, trained on them upright, at any heading")


def pretrain(
    network: nn.Module,
    clouds: Tensor,
    targets: Tensor,
    epochs: int,
    group: MatrixGroup,
    progress: Progress,
    *,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> None:
    """Train a network of point clouds as the literature does, in place, on clouds turned by random elements of a group.

    Args:
        clouds: (n, points, 3), prepared. targets: int64 (n,). Both are where the network is.
        group: SO(2) about z for the scenarios z/·, SO(3) for SO(3)/SO(3).
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    batches = max(1, len(clouds) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=epochs * batches)
    network.train()
    for _ in progress.track(range(epochs), "pretraining", epochs):
        for drawn in torch.randperm(len(clouds), generator=generator).split(BATCH)[:batches]:
            indices = drawn.to(clouds.device)
            x = vary_clouds(clouds[indices], generator, mirror=True)
            x = act(group, group.sample(len(x), generator).to(x.device), x, "points")
            loss = nn.functional.cross_entropy(network(x), targets[indices], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


def write_shapes(folder: Path, per_class: int = PER_CLASS) -> None:
    """Write point clouds as text, at random sizes, places and headings, z up; the last of each shape to test on."""
    for name, make in SHAPES.items():
        for index in range(per_class):
            generator = np.random.default_rng((len(name), index, *map(ord, name)))
            points = make(generator)
            points *= generator.uniform(0.8, 1.25, 3) * generator.uniform(0.5, 20)
            turn = generator.uniform(0, 2 * np.pi)
            c, s = np.cos(turn), np.sin(turn)
            points = points @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + generator.uniform(-50, 50, 3)
            path = folder / ("test" if index >= per_class * (1 - TEST_SHARE) else "train") / name / f"{index:03}.xyz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(path, points, fmt="%.4f")


def _box(generator: np.random.Generator, count: int, low: tuple[float, ...], high: tuple[float, ...]) -> Array:
    """Points on the surface of a box."""
    points = generator.uniform(low, high, (count, 3))
    axis = generator.integers(0, 3, count)
    side = np.where(generator.random(count) < 0.5, np.take(low, axis), np.take(high, axis))
    points[np.arange(count), axis] = side
    return points


def _tube(generator: np.random.Generator, count: int, radius: Callable[[Array], Array], height: float) -> Array:
    """Points on a surface around z whose radius depends on the height."""
    z, turn = generator.uniform(0, height, count), generator.uniform(0, 2 * np.pi, count)
    return np.stack([radius(z) * np.cos(turn), radius(z) * np.sin(turn), z], axis=1)


def _cone(generator: np.random.Generator) -> Array:
    return _tube(generator, 600, lambda z: 0.5 * (1 - z), 1.0)


def _table(generator: np.random.Generator) -> Array:
    legs = [_box(generator, 80, (x, y, 0), (x + 0.08, y + 0.08, 0.7)) for x in (-0.6, 0.5) for y in (-0.4, 0.3)]
    return np.concatenate([_box(generator, 300, (-0.65, -0.45, 0.7), (0.65, 0.45, 0.78)), *legs])


def _mug(generator: np.random.Generator) -> Array:
    turn = generator.uniform(-np.pi / 2, np.pi / 2, 120)
    handle = np.stack([0.4 + 0.25 * np.cos(turn), np.zeros(120), 0.5 + 0.3 * np.sin(turn)], axis=1)
    floor = np.concatenate([generator.uniform(-0.28, 0.28, (100, 2)), np.zeros((100, 1))], axis=1)
    return np.concatenate([_tube(generator, 400, lambda z: np.full_like(z, 0.4), 1.0), floor, handle])


def _chair(generator: np.random.Generator) -> Array:
    legs = [_box(generator, 60, (x, y, 0), (x + 0.05, y + 0.05, 0.5)) for x in (-0.3, 0.25) for y in (-0.3, 0.25)]
    seat = _box(generator, 180, (-0.3, -0.3, 0.5), (0.3, 0.3, 0.56))
    return np.concatenate([seat, _box(generator, 180, (-0.3, 0.25, 0.56), (0.3, 0.3, 1.2)), *legs])


SHAPES: dict[str, Callable[[np.random.Generator], Array]] = {
    "chair": _chair,
    "cone": _cone,
    "mug": _mug,
    "table": _table,
}
