"""PennFudan's pedestrians at every angle of C4: boxes, masks and pixels, by canonicalizers of three seeds.

    python -m tests.benchmarks.penn_fudan_c4 FOLDER WORK --start-from runs/lite0 --network penn.pt --segmenter lraspp.pt

FOLDER has PNGImages and PedMasks; the networks are those of `penn_fudan`. Photographs with even numbers train the
canonicalizers, by `equicli adapt`; all with odd ones are evaluated. WORK gets data, runs, and `table.md`.

What lies between two systems is told with a paired bootstrap: photographs are drawn anew, each with all its turns and
what every system says of it.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equicli import artifact
from equicli.evaluation.cache import OutputCache
from equicli.evaluation.evaluate import Evaluation
from equicli.evaluation.images import Batches, find_samples
from equicli.evaluation.run import record_images
from equicli.groups import PlanarGroup
from equicli.progress import Silent
from equicli.runs import Run
from equicli.tasks.instances.figures import pools_of
from equicli.tasks.registry import find_task
from equicli.tasks.resampling import drawn_weights, interval
from equicli.tasks.semantic.confusion import Matrix
from tests.benchmarks.penn_fudan import is_trained_on, network, segmenter

C4 = PlanarGroup(4)
SEEDS = (0, 1, 2)
ANGLES = ("0°", "90°", "180°", "270°")
TRAINING = ("--epochs", "1", "--batch-size", "16", "--set", "learning_rate=2e-4", "--passes", "1")


def split_folder(folder: Path, work: Path) -> Path:
    """The photographs and their masks as `train` and `test`."""
    data = work / "data"
    for picture in sorted((folder / "PNGImages").glob("*.png")):
        part = data / ("train" if is_trained_on(picture) else "test")
        for file in (picture, folder / "PedMasks" / f"{picture.stem}_mask.png"):
            copy = part / file.parent.name / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return data


def adapt(*arguments: str, output: Path) -> None:
    """Run `equicli adapt`, unless it was run."""
    if not (output / "README.md").exists():
        command = [sys.executable, "-m", "equicli", "adapt", "--overwrite", "--output", str(output), *arguments]
        print("equicli", *command[3:], flush=True)
        subprocess.run(command, check=True)


def record(output: Path, made: nn.Module, cache: OutputCache | None) -> Evaluation:
    """What every system says of the test photographs at every turn.

    Args:
        cache: what the network said before; None asks anew at every turn.
    """
    config = artifact.read_config(output / "model.safetensors")
    model = artifact.load(output / "model.safetensors", network=made)
    task = find_task(config.task, config.task_settings)
    images = find_samples(task, None, Run(output), Silent())
    targets = task.targets(images.samples, images.data, config.labels)
    batches = Batches(model, images.samples, None, "file")
    systems = ("vanilla", "adapted", "oracle")
    found, _ = record_images(
        model,
        config,
        task,
        batches,
        targets,
        C4,
        systems=systems,
        cache=cache,
        device=torch.device("cpu"),
        precision="fp32",
        progress=Silent(),
    )
    return found


def precision_of(kind: str) -> Callable[[Any, Tensor], Tensor]:
    """COCO's AP at every turn of each resampled set, (r, 4)."""
    return lambda records, weights: torch.stack([pool.mean(weights) for pool in pools_of(records[kind])], dim=1)


def overlap(records: Any, weights: Tensor) -> Tensor:
    """mIoU at every turn of each resampled set, (r, 4)."""
    turns = [Matrix(turn) for turn in zip(*records["confusion"], strict=True)]
    return torch.stack([turn.overlaps(weights).nanmean(dim=1) for turn in turns], dim=1)


def rows(name: str, found: Sequence[Evaluation], measure: Callable[[Any, Tensor], Tensor]) -> list[str]:
    """A table's rows: the network alone, each seed adapted, the oracle, and what lies between the systems."""
    n = found[0].n
    weights = torch.cat([torch.ones(1, n, dtype=torch.float64), drawn_weights(n), drawn_weights(n, seed=1)])
    systems = {"vanilla": found[0].records["vanilla"], "oracle": found[0].records["oracle"]}
    systems |= {f"adapted, seed {seed}": one.records["adapted"] for seed, one in zip(SEEDS, found, strict=True)}
    values = {system: 100 * measure(records, weights) for system, records in systems.items()}
    adapted = torch.stack([value for system, value in values.items() if system.startswith("adapted")])
    values["**adapted, mean of 3**"] = adapted.mean(dim=0)
    order = ["vanilla", *(s for s in values if s.startswith("adapted")), "**adapted, mean of 3**", "oracle"]
    table = [
        f"| {name}: {system} | {values[system][0].mean():.2f} | {values[system][0].min():.2f} | "
        + " | ".join(f"{v:.2f}" for v in values[system][0])
        + " |"
        for system in order
    ]
    for seed, value in zip(SEEDS, adapted, strict=True):
        spread = float((value[0] - value[0, 0]).abs().max()) / 100
        table.append(f"{name}, seed {seed}: largest difference between two angles {spread:.1e}")
    mean = adapted.mean(dim=0)
    for words, difference in (
        ("adapted - vanilla, C4-Avg", mean.mean(dim=1) - values["vanilla"].mean(dim=1)),
        ("adapted - vanilla, 0°", mean[:, 0] - values["vanilla"][:, 0]),
        ("adapted - oracle, C4-Avg", mean.mean(dim=1) - values["oracle"].mean(dim=1)),
    ):
        low, high = interval(difference[1:])
        table.append(f"{name}, {words}: {difference[0]:+.2f} [{low:+.2f}, {high:+.2f}]")
    return table


def poses(found: Sequence[Evaluation]) -> str:
    rates = [f"{int(one.found.identity.sum())}" for one in found if one.found is not None]
    ties = [f"{int(one.found.ties.sum())}" for one in found if one.found is not None]
    changed = [f"{int(one.changed.any(dim=1).sum())}" for one in found]
    return (
        f"found upright, by seed: {', '.join(rates)} of {found[0].n}; ties: {', '.join(ties)}; pictures whose answer "
        f"changes under some turn: {', '.join(changed)}"
    )


def main(arguments: argparse.Namespace) -> None:
    work: Path = arguments.work
    data = str(split_folder(arguments.folder, work))
    runs = [work / "runs" / f"detector{seed}" for seed in SEEDS]
    detector = ("--model", "python:tests.benchmarks.penn_fudan:network", "--checkpoint", str(arguments.network))
    for seed, run in zip(SEEDS, runs, strict=True):
        origin = ("--start-from", str(arguments.start_from), "--seed", str(seed))
        adapt("--task", "instances", *detector, "--group", "c4", *origin, *TRAINING, data, output=run)
    lines = ["| | C4-Avg | worst | " + " | ".join(ANGLES) + " |", "| --- " * 7 + "|"]
    cache = OutputCache()
    # The first seed's network is asked anew at every turn; the others know what it said of equal pixels.
    found = [record(run, network(), cache if seed else None) for seed, run in zip(SEEDS, runs, strict=True)]
    for kind in ("boxes", "masks"):
        lines += rows(f"AP of {kind}", found, precision_of(kind))
    lines.append(poses(found))
    print("\n".join(lines), flush=True)
    if arguments.segmenter:
        shown = "--image-size 256 --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5 --set task.numbers=objects".split()
        model = ("--model", "python:tests.benchmarks.penn_fudan:segmenter", "--checkpoint", str(arguments.segmenter))
        attached = [work / "runs" / f"segmenter{seed}" for seed in SEEDS]
        for run, origin in zip(attached, runs, strict=True):
            begin = ("--start-from", str(origin), "--epochs", "0", "--passes", "1")
            adapt("--task", "semantic", *model, *shown, "--group", "c4", *begin, data, output=run)
        cache = OutputCache()
        found = [record(run, segmenter(), cache if seed else None) for seed, run in zip(SEEDS, attached, strict=True)]
        lines += [*rows("mIoU", found, overlap), poses(found)]
        print("\n".join(lines[-12:]), flush=True)
    (work / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--start-from", type=Path, required=True)
    parser.add_argument("--network", type=Path, required=True)
    parser.add_argument("--segmenter", type=Path)
    main(parser.parse_args())
