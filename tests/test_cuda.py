"""adapt, evaluate and export where a CUDA device is present."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import equicli
from tests.canonicalization.examples import adapt, create, pictures

pytestmark = pytest.mark.cuda


def own_network(folder: Path) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location("net", folder / "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make()


@pytest.fixture(scope="module")
def run(run_cli, digits, tmp_path_factory):
    here = tmp_path_factory.mktemp("cuda")
    (here / "net.py").write_text(
        "import torch.nn as nn\n"
        "def make():\n"
        "    layers = nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 9)\n"
        "    return nn.Sequential(*layers)\n"
    )
    torch.save(own_network(here).state_dict(), here / "net.pth")
    arguments = ("--model", "python:net:make", "--checkpoint", "net.pth", "--epochs", "2", "--output", "run")
    done = run_cli("adapt", str(digits), *arguments, "--device", "cuda", cwd=here)
    assert done.returncode == 0, done.stderr
    return here


def test_adapt_on_cuda_finds_most_poses(run) -> None:
    metrics = json.loads((run / "run" / "metrics.json").read_text())
    assert metrics["adapted"]["identity_rate"] > 0.5
    assert metrics["provenance"]["device"] != "cpu"


def test_evaluate_on_cuda_is_exact_at_90_degrees(run, run_cli) -> None:
    done = run_cli("evaluate", "run", "--device", "cuda", "--json", "--model", "python:net:make", cwd=run)
    adapted = json.loads(done.stdout)["adapted"]
    assert adapted["ties"] > 0 or adapted["invariance_residual"] == 0


def test_an_artifact_made_on_cuda_is_exported_and_runs_there(run, run_cli) -> None:
    done = run_cli("export", "run", "-o", "model.safetensors", "--model", "python:net:make", cwd=run)
    assert done.returncode == 0, done.stderr
    model = equicli.load(run / "model.safetensors", network=own_network(run)).cuda()
    assert model(torch.zeros(2, 3, 32, 32, device="cuda")).is_cuda
    assert model.predict(pictures((40, 30), (31, 47))).output.is_cuda


@pytest.mark.parametrize(("kind", "group"), [("optimized", "d4"), ("optimized", "c8"), ("steerable", "so2")])
def test_pictures_of_any_size_are_predicted_on_cuda_as_on_the_cpu(kind, group) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    model, shown = adapt(create(kind, group, size=17, width=4), network), pictures((40, 30), (31, 47), (33, 33))
    expected, found = model.predict(shown), model.cuda().predict(shown)
    assert found.output.is_cuda and found.pose.element.is_cuda
    torch.testing.assert_close(found.output.cpu(), expected.output, atol=1e-2, rtol=0)
    again = model.predict([picture.cuda() for picture in shown]).pose.element  # shrunk there, which rounds otherwise
    torch.testing.assert_close(again, found.pose.element, atol=1e-5, rtol=0)


def test_tensor_float_32_which_cuda_allows_by_default_decides_no_pose() -> None:
    torch.manual_seed(0)
    model = adapt(create("optimized", "c4", size=65, width=32), torch.nn.Flatten()).cuda()
    inputs = model.tensors(torch.rand(64, 3, 65, 65).cuda() * 2 - 1)
    small, allowed = inputs.small(model.canonicalizer.view), torch.backends.cudnn.allow_tf32
    try:
        with torch.inference_mode():
            torch.backends.cudnn.allow_tf32 = False
            exact = model.canonicalizer(small).scores
            torch.backends.cudnn.allow_tf32 = True
            rounded, found = model.canonicalizer(small).scores, model.find_pose(inputs).scores
            assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    assert (found - exact).abs().max() < 1e-5 < (rounded - exact).abs().max()
