"""Point clouds through the whole chain: adapt, evaluate, export, load, predict, compare."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import equicli
from equicli.progress import Silent
from equicli.quickstart.shapes import SHAPES, prepare_shapes

QUICK = ("--epochs", "2", "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def place(shared) -> Path:
    """Clouds of four shapes, and a PointNet that has seen them."""
    return shared("shapes", lambda folder: prepare_shapes(folder, Silent(), per_class=12, epochs=2))


@pytest.fixture(scope="module")
def run(place, cli, tmp_path_factory) -> Path:
    """A run of the recipe that CI has."""
    here = tmp_path_factory.mktemp("points")
    weights = ("--checkpoint", place / "network.safetensors")
    result = cli("adapt", "--recipe", "quickstart-points", *weights, *QUICK, "-o", "run", place / "data", cwd=here)
    assert result.returncode == 0, result.stderr
    return here / "run"


def test_what_is_evaluated_is_told_in_the_literatures_scenarios(run, cli):
    (run / "overlays.png").write_bytes(b"old")
    result = cli("evaluate", "run", "--rotations", "2", "--json", cwd=run.parent)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)
    adapted = metrics["adapted"]
    assert (metrics["task"], metrics["group"], metrics["n"], metrics["things"]) == ("points", "so3", 12, "clouds")
    assert [entry["element"] for entry in adapted["per_element"]] == ["r0", "so2z-1", "so2z-2", "so3-1", "so3-2"]
    assert adapted["acc"] == adapted["z_acc"] == adapted["so3_acc"] == adapted["avg_acc"]
    assert adapted["invariance_residual"] == 0 and adapted["max_logit_delta"] < 1e-2
    assert metrics["oracle"]["avg_acc"] == metrics["oracle"]["acc"] == metrics["vanilla"]["acc"]
    assert 0 <= adapted["identity_rate"] <= 1 and metrics["prior"] == ["upright"]
    low, high = metrics["vanilla"]["so3_acc_ci"]
    assert low <= metrics["vanilla"]["so3_acc"] <= high
    assert not (run / "overlays.png").exists()  # of an earlier evaluation
    report = (run / "report.md").read_text()
    assert "](clouds.png)" in report and "image" not in report and (run / "clouds.png").stat().st_size > 10_000
    assert "clouds (b, n, 3)" in (run / "README.md").read_text()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("predict", "run", "."), "predict: takes pictures; of clouds use model.predict(paths) in Python."),
        (("export", "run", "-o", "model.pt2", "--fp16"), "--fp16: is for networks of pictures"),
        (("export", "run", "-o", "model.pt2", "--data", "data"), "--data: is for pictures"),
    ],
)
def test_what_is_for_pictures_alone_says_so_in_one_line(run, cli, arguments, message):
    result = cli(*arguments, cwd=run.parent)
    assert result.returncode == 2 and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_exported_file_predicts_clouds_of_any_size_at_any_rotation(run, cli, place):
    result = cli("export", "run", "--output", "model.safetensors", cwd=run.parent)
    assert result.returncode == 0, result.stderr
    model = equicli.load(run.parent / "model.safetensors")
    path = next((place / "data" / "test" / "mug").iterdir())
    logits, pose = model.predict([path, np.random.default_rng(0).normal(size=(99, 4))])
    assert logits.shape == (2, len(SHAPES)) and torch.allclose(torch.linalg.det(pose.element), torch.ones(2))
    cloud = np.loadtxt(path)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned, _ = model.predict(cloud @ (turn * np.sign(np.linalg.det(turn))).T - 7)
    assert torch.allclose(turned, logits[:1], atol=1e-3)
    order = np.random.default_rng(2).permutation(256)
    prepared = model.preprocess(torch.from_numpy(cloud))[None]
    assert torch.allclose(model(prepared[:, order]), model(prepared), atol=1e-4)
    result = cli("inspect", "model.safetensors", cwd=run.parent)
    assert result.returncode == 0 and "pointnet" in result.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ("--canonicalizer", "optimized", "--set", "canonicalizer.width=4", "--passes", "2"),
        ("--canonicalizer", "frame", "--passes", "2"),
        pytest.param(
            ("--canonicalizer", "frame", "--set", "canonicalizer.choose=none", "--set", "policy=mean"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("--group", "so2z", "--prior", "r0"), marks=pytest.mark.slow),
        ("--canonicalizer", "none", "--train-base", "--set", "augment=true"),
        ("--set", "prior_weight=0", "--set", "task_weight=1"),
        ("--head", "new"),
    ],
    ids=" ".join,
)
def test_every_canonicalizer_and_policy_goes_through(flags, place, cli, tmp_path):
    weights = ("--checkpoint", place / "network.safetensors", "--epochs", "1", "--device", "cpu", "--quiet")
    common = ("--recipe", "quickstart-points", *weights, "-o", "run", place / "data")
    if flags[1] in ("frame", "none"):
        common = (*common, "--set", "task.points=32")
    result = cli("adapt", *common, *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    model = equicli.load(tmp_path / "run")
    assert model(torch.randn(2, 40, 3)).shape == (2, len(SHAPES))


def test_systems_are_compared_on_the_same_rotations(place, cli, tmp_path):
    flags = ("--recipe", "quickstart-points", "--checkpoint", place / "network.safetensors", "--rotations", "1")
    systems = "equioptadapt-gate,frame-mean,frame-gate,symmetrization"
    small = ("--epochs", "1", "--seeds", "1", "--systems", systems, "--json")
    result = cli("compare", *flags, *small, place / "data", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    systems = json.loads(result.stdout)["systems"]
    rows = {row["system"]: row["mean"] for row in systems}
    for row in systems:  # what is averaged are the rotations of space alone
        low, high = row["runs"][0]["avg_acc_ci"]
        assert low <= row["mean"]["so3_acc"] == row["mean"]["avg_acc"] <= high
    assert set(rows) == {"vanilla", "oracle", "equioptadapt-gate", "frame-mean", "frame-gate"}
    assert all(1 <= rows[name]["passes"] <= 4 for name in ("equioptadapt-gate", "frame-gate"))
    assert result.stderr.count("gate: asking the network about the 4 likeliest poses") == 2
    assert rows["frame-mean"]["passes"] == 4 and rows["oracle"]["so3_acc"] == rows["vanilla"]["acc"]
    assert "symmetrization" in result.stderr  # left out, and said


@pytest.mark.parametrize(
    "flags, told",
    [
        (("--group", "c4"), "point clouds take so3 or so2z"),
        (("--canonicalizer", "steerable"), "no such canonicalizer"),
        (("--mean", "0.5,0.5,0.5"), "--mean: is for pictures"),
        (("--group", "so2z", "--prior", "upright"), "every pose is upright"),
        (("--prior", "upright,r0"), "name it alone"),
        (("--upright", "data"), "put point clouds into DATA"),
        (("--passes", "2"), "take --canonicalizer optimized or frame"),
        (("--set", "task.points=0"), "must be 1 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_fit_clouds_is_refused_in_one_line(flags, told, place, cli, tmp_path):
    weights = ("--checkpoint", place / "network.safetensors")
    result = cli("adapt", "--recipe", "quickstart-points", *weights, *flags, place / "data", cwd=tmp_path)
    assert result.returncode in (1, 2) and told in result.stderr, result.stderr
    assert not (tmp_path / "runs").exists()


def test_groups_of_space_are_refused_for_pictures(cli, digits, tmp_path):
    result = cli("adapt", "--model", "test_resnet", "--group", "so3", digits, cwd=tmp_path)
    assert result.returncode == 2 and "--task points" in result.stderr


def test_recipes_of_modelnet40_take_its_meshes_and_its_classes(cli, tmp_path):
    import trimesh

    from equicli.prediction.points.source import create

    for name, mesh in (("chair", trimesh.creation.box((1, 2, 3))), ("night_stand", trimesh.creation.cone(1, 2))):
        for part, count in (("train", 4), ("test", 1)):
            for index in range(count):
                path = tmp_path / "ModelNet40" / name / part / f"{name}_{index:04}.off"
                path.parent.mkdir(parents=True, exist_ok=True)
                mesh.export(path)
    torch.manual_seed(0)
    torch.save(create("pointnet", {"classes": 40}).state_dict(), tmp_path / "weights.pth")
    flags = ("--recipe", "modelnet40-pointnet-so3", "--checkpoint", "weights.pth", "--epochs", "1")
    result = cli("adapt", *flags, "--set", "task.points=64", "-o", "run", "ModelNet40", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    labels = equicli.read_config(tmp_path / "run").labels
    assert labels == {"chair": 8, "night_stand": 23}


def test_labels_of_points_follow_the_points(cli, tmp_path):
    """A network that tells the upper from the lower half labels all points of a file, however it comes turned."""
    (tmp_path / "halves.py").write_text(
        "import torch\nclass Halves(torch.nn.Module):\n    def forward(self, clouds):\n"
        "        return torch.stack([-clouds[..., 2], clouds[..., 2]], dim=2)\n"
    )
    generator = np.random.default_rng(0)
    for index in range(12):
        points = generator.normal(size=(80, 3)) * (0.3, 0.3, 1.0) + np.array([0.0, 0.0, 0.2]) * generator.random(
            (80, 1)
        )
        part = (points[:, 2] > points[:, 2].mean()).astype(int)
        path = tmp_path / "data" / ("test" if index < 3 else "train") / f"{index}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, np.column_stack([points, part]), fmt="%.5f")
    for part in ("train", "test"):
        (tmp_path / "data" / part / "00.txt").write_text("damaged\n")
    network = ("--model", "python:halves:Halves")
    flags = ("--task", "point-parts", "--set", "task.points=64", "--prior", "upright", *QUICK, *network)
    result = cli("adapt", *flags, "-o", "run", "data", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    result = cli("evaluate", "run", "--rotations", "2", "--json", *network, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)
    assert metrics["n"] == 3
    assert metrics["oracle"]["iou"] > 0.7 and metrics["oracle"]["avg_iou"] == pytest.approx(
        metrics["oracle"]["iou"], abs=0.02
    )
    assert metrics["vanilla"]["avg_iou"] < metrics["vanilla"]["iou"]
    assert metrics["adapted"]["avg_iou"] == pytest.approx(metrics["adapted"]["iou"], abs=0.02)

    import sys

    model = equicli.load(tmp_path / "run", network=sys.modules["halves"].Halves())
    cloud = np.loadtxt(tmp_path / "data" / "test" / "0.txt")[:, :3]
    output, _ = model.predict(cloud)
    assert output.shape == (1, 80, 2)
    prepared = model.preprocess(torch.from_numpy(cloud))[None]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model(prepared[:, order]), model(prepared)[:, order], atol=1e-4)
