"""PointNet on the airborne-LiDAR objects: systems side by side in the literature's scenarios, by cross-validation.

    python -m tests.benchmarks.lidar_objects --folds 1 --output /tmp/lidar

Trains a PointNet upright at random headings (z) and one on all rotations (SO(3)) for each fold, then compares. Where it
was interrupted, the same command goes on. RESULTS.md has what it prints.
"""

import argparse
import json
import os
import random
from pathlib import Path
from statistics import mean

import torch

from equicli.cli.output import Output
from equicli.comparison.plan import plan
from equicli.comparison.systems import parse_systems
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.clouds.folders import open_clouds
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.files import write_tensors
from equicli.groups import parse_group
from equicli.pipeline import compare
from equicli.prediction.points.source import create
from equicli.quickstart.shapes import pretrain

FOLDS = 5
COLUMNS = (("untouched", "acc"), ("z/z", "z_acc"), ("z/SO(3)", "so3_acc"), ("class mean", "so3_class_acc"))


def make_fold(source: Path, folder: Path, fold: int) -> None:
    """Link train/<class>/… and test/<class>/… of one fold of all objects."""
    for kind in sorted(path for path in source.iterdir() if path.is_dir()):
        files = sorted(kind.rglob("*.xyz"))
        random.Random(0).shuffle(files)
        for index, file in enumerate(files):
            part = folder / ("test" if index % FOLDS == fold else "train") / kind.name
            part.mkdir(parents=True, exist_ok=True)
            link = part / file.name
            if not link.exists():
                link.symlink_to(file)


def train_network(data: Path, weights: Path, points: int, epochs: int, group: str, out: Output) -> None:
    if weights.is_file():
        return
    samples, decoder, preprocess = open_clouds(data).train, CloudDecoder(), CloudPreprocess(points)
    clouds = preprocess.batch([decoder.read(sample.path) for sample in samples], torch.device("cpu"))
    network = create("pointnet", {"classes": 5})
    torch.manual_seed(0)
    targets = torch.tensor([sample.target for sample in samples])
    pretrain(network, clouds, targets, epochs, parse_group(group), out)
    write_tensors(weights, network.state_dict())


def run_fold(source: Path, root: Path, fold: int, options: argparse.Namespace, out: Output) -> dict[str, dict]:
    folder = root / f"fold{fold}"
    make_fold(source, folder / "data", fold)
    found = {}
    for group, systems in (("so2z", options.systems), ("so3", "vanilla")):
        weights = folder / f"pointnet-{group}.safetensors"
        train_network(folder / "data", weights, options.points, options.epochs, group, out)
        flags = {"data": str(folder / "data"), "checkpoint": str(weights)}
        recipe = folder / f"{group}.yaml"
        recipe.write_text(
            f"task: {{kind: points, points: {options.points}, head: none}}\n"
            "network: {model: pointnet, model_args: {classes: 5}}\n"
            f"group: so3\nprior: upright\ntraining: {{epochs: {options.system_epochs}, batch_size: 32}}\n"
        )
        parts, notes = plan(parse_systems(systems), 1, flags, [], str(recipe))
        for note in notes:
            out.say(note)
        document, _ = compare(
            parts, str(folder / f"compare-{group}"), rotations=None, reference=None, overwrite=False, progress=out
        )
        for row in document["systems"]:
            name = row["title"] if group == "so2z" else f"{row['title']}, network trained on SO(3)"
            found[name] = row["mean"] | {"n": document["n"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=FOLDS, help="of five, how many are run")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--system-epochs", type=int, default=30, help="of what is trained for a system")
    parser.add_argument("--systems", default="points")
    parser.add_argument("--output", default="runs/lidar-objects")
    options = parser.parse_args()
    source, out = Path(os.environ["EQUICLI_TEST_DATA"]) / "lidar-objects", Output(json=False, quiet=False)
    folds = [run_fold(source, Path(options.output), fold, options, out) for fold in range(options.folds)]
    n = sum(next(iter(fold.values()))["n"] for fold in folds)
    epochs = f"networks {options.epochs} epochs, systems {options.system_epochs}"
    print(f"\n{options.folds} of {FOLDS} folds, {n} test clouds, {options.points} points; {epochs}\n")
    names = [name for name, _ in COLUMNS]
    print(f"| | {' | '.join(names)} | identity rate | passes |\n|{' --- |' * (len(names) + 3)}")
    for title in folds[0]:
        values = [mean(fold[title][key] for fold in folds) for _, key in COLUMNS]
        rates = [fold[title]["identity_rate"] for fold in folds if fold[title].get("identity_rate") is not None]
        rate = f"{100 * mean(rates):.1f}" if rates else ""
        passes = mean(fold[title]["passes"] for fold in folds)
        print(f"| {title} | {' | '.join(f'{100 * value:.1f}' for value in values)} | {rate} | {passes:.3g} |")
    (Path(options.output) / "lidar.json").write_text(json.dumps(folds, indent=2))


if __name__ == "__main__":
    main()
