"""Point clouds of airborne LiDAR: systems side by side in the literature's scenarios, by cross-validation.

    python -m tests.benchmarks.lidar_objects --output /tmp/lidar
    python -m tests.benchmarks.lidar_objects --network dgcnn --model-arg k=10 --points 512 --fold 0 --output /tmp/dgcnn

Trains a network upright at random headings (z) and one on all rotations (SO(3)) for each fold, then compares. Where it
was interrupted, the same command goes on, and folds that are done are not run again; so several processes can share
the folds. RESULTS.md has what it prints.
"""

import argparse
import json
import os
import random
import sys
from pathlib import Path
from statistics import mean

import torch

from equicli.cli.output import Output
from equicli.comparison.plan import plan
from equicli.comparison.systems import parse_systems
from equicli.data.clouds.decode import CloudDecoder
from equicli.data.clouds.folders import open_clouds
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.devices import find_device
from equicli.files import write_tensors
from equicli.groups import parse_group
from equicli.pipeline import compare
from equicli.prediction.points.source import create
from equicli.quickstart.shapes import pretrain

FOLDS = 5
COLUMNS = (("untouched", "acc"), ("·/z", "z_acc"), ("·/SO(3)", "so3_acc"), ("class mean", "so3_class_acc"))


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


def train_network(data: Path, weights: Path, group: str, options: argparse.Namespace, out: Output) -> None:
    if weights.is_file():
        return
    samples, decoder, preprocess = open_clouds(data).train, CloudDecoder(), CloudPreprocess(options.points)
    device = find_device("auto")
    clouds = preprocess.batch([decoder.read(sample.path) for sample in samples], device)
    torch.manual_seed(0)
    network = create(options.network, options.arguments).to(device)
    targets = torch.tensor([sample.target for sample in samples], device=device)
    epochs = options.epochs if group == "so2z" else options.so3_epochs
    pretrain(network, clouds, targets, epochs, parse_group(group), out)
    write_tensors(weights, network.state_dict())


def run_fold(source: Path, root: Path, fold: int, options: argparse.Namespace, out: Output) -> dict[str, dict]:
    """What was measured of each system on one fold, as a finished run left it or measured now."""
    folder = root / f"fold{fold}"
    done, asked = folder / "figures.json", {**vars(options), "fold": fold, "output": None}
    if done.is_file():
        kept = json.loads(done.read_text())
        if kept["options"] != asked:
            sys.exit(f"{done}: of other options ({kept['options']}); name another --output.")
        return kept["systems"]
    make_fold(source, folder / "data", fold)
    found = {}
    for group, systems in (("so2z", options.systems), ("so3", "vanilla")):
        if group == "so3" and not options.so3_epochs:
            continue
        weights = folder / f"{options.network}-{group}.safetensors"
        train_network(folder / "data", weights, group, options, out)
        flags = {"data": str(folder / "data"), "checkpoint": str(weights)}
        recipe = folder / f"{group}.yaml"
        recipe.write_text(
            f"task: {{kind: points, points: {options.points}, head: none}}\n"
            f"network: {{model: {options.network}, model_args: {json.dumps(options.arguments)}}}\n"
            f"group: so3\nprior: upright\ntraining: {{epochs: {options.system_epochs}, batch_size: 32}}\n"
        )
        parts, notes = plan(parse_systems(systems), 1, flags, [], str(recipe))
        for note in notes:
            out.say(note)
        compared = str(folder / f"compare-{group}")
        document, _ = compare(
            parts, compared, rotations=options.rotations, reference=None, overwrite=False, progress=out
        )
        for row in document["systems"]:
            name = row["title"] if group == "so2z" else f"{row['title']}, network trained on SO(3)"
            found[name] = row["mean"] | {"n": document["n"]}
    done.write_text(json.dumps({"options": asked, "systems": found}, indent=2))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="pointnet", help="or dgcnn")
    parser.add_argument("--model-arg", action="append", default=[], metavar="KEY=N", help="of the network: k=10")
    parser.add_argument(
        "--fold", type=int, action="append", choices=range(FOLDS), help="number of one; may be repeated; default: all"
    )
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=30, help="of the network trained upright")
    parser.add_argument("--so3-epochs", type=int, default=30, help="of that trained on all rotations; 0: none")
    parser.add_argument("--system-epochs", type=int, default=30, help="of what is trained for a system")
    parser.add_argument("--systems", default="points")
    parser.add_argument("--rotations", type=int, default=5, help="of each test cloud, about z and of all")
    parser.add_argument("--output", default="runs/lidar-objects")
    options = parser.parse_args()
    given = dict(text.split("=", 1) for text in options.model_arg)
    options.arguments = {"classes": 5, **{key: int(value) for key, value in given.items()}}
    source, out = Path(os.environ["EQUICLI_TEST_DATA"]) / "lidar-objects", Output(json=False, quiet=False)
    folds = [run_fold(source, Path(options.output), fold, options, out) for fold in options.fold or range(FOLDS)]
    n = sum(next(iter(fold.values()))["n"] for fold in folds)
    print(f"\n{' '.join(sys.argv[1:])}\n{len(folds)} of {FOLDS} folds, {n} test clouds\n")
    names = [name for name, _ in COLUMNS]
    print(f"| | {' | '.join(names)} | identity rate | passes |\n|{' --- |' * (len(names) + 3)}")
    for title in folds[0]:
        values = [mean(fold[title][key] for fold in folds) for _, key in COLUMNS]
        rates = [fold[title]["identity_rate"] for fold in folds if fold[title].get("identity_rate") is not None]
        rate = f"{100 * mean(rates):.1f}" if rates else ""
        passes = mean(fold[title]["passes"] for fold in folds)
        print(f"| {title} | {' | '.join(f'{100 * value:.1f}' for value in values)} | {rate} | {passes:.3g} |")


if __name__ == "__main__":
    main()
