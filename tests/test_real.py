"""The shipped recipes on real photos: counts that others measured, reproduced to the image."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from equicli.prediction.checkpoint import read_weights

# Correct images at 0°, 90°, 180° and 270°, as the data's README records them.
VANILLA = {
    "cifar10-resnet56-c4": [926, 339, 409, 383],
    "imagenette-squeezenet-c4": [1182, 542, 634, 571],
    "imagenette-mobilenetv2-c4": [1509, 735, 780, 750],
}
OWN_CODE = {"cifar10-resnet56-c4": ("--model", "python:tests.benchmarks.cifar_resnet:resnet56")}
CHECKPOINTS = {
    "cifar10-resnet56-c4": "resnet56-4bfd9763.th",
    "imagenette-squeezenet-c4": "squeezenet1_1.safetensors",
    "imagenette-mobilenetv2-c4": "mobilenetv2_100_same.safetensors",
}
ROOT = Path(__file__).parents[1]


@pytest.mark.real
@pytest.mark.parametrize(
    "recipe", [name if name.startswith("cifar") else pytest.param(name, marks=pytest.mark.slow) for name in VANILLA]
)
def test_a_recipe_reproduces_vanilla_counts_and_gains_ten_points(run_cli, real_data, tmp_path, recipe: str) -> None:
    run = tmp_path / "run"
    # One epoch is enough for the claim and keeps the test short; the README's table is the recipe as it is.
    own = OWN_CODE.get(recipe, ())
    adapted = run_cli("adapt", "--recipe", recipe, *own, "--epochs", "1", "--output", str(run), cwd=ROOT, timeout=1800)
    assert adapted.returncode == 0, adapted.stderr
    evaluated = run_cli("evaluate", str(run), "--json", *own, cwd=ROOT, timeout=1800)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads(evaluated.stdout)
    counts = {name: [e["correct"] for e in metrics[name]["per_element"]] for name in ("vanilla", "adapted")}
    assert counts["vanilla"] == VANILLA[recipe]
    assert max(counts["adapted"]) - min(counts["adapted"]) <= metrics["adapted"]["ties"]
    assert metrics["adapted"]["avg_acc"] > metrics["vanilla"]["avg_acc"] + 0.10

    original = read_weights(real_data / "checkpoints" / CHECKPOINTS[recipe])
    stored = load_file(run / "model.safetensors")
    assert all(torch.equal(stored[f"prediction_network.{name}"], value) for name, value in original.items())
