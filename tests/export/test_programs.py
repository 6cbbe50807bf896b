"""Programs say what the model says: written only where they were seen to, with what was compared in the file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import equicli
from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Context
from equicli.canonicalization.registry import REGISTRY, SPACE
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.decode import PLAIN, read_picture
from equicli.data.normalization import HALF
from equicli.data.preprocess import AS_THEY_ARE, Preprocess
from equicli.data.resampling import KERNELS, shrink_by_products, weights
from equicli.data.small_view import shrink
from equicli.errors import EquicliError, UsageError
from equicli.export import programs
from equicli.export.cases import of_batches, of_one_picture
from equicli.export.export import check_program, write_program
from equicli.export.graph import InputsGraph, predict
from equicli.export.parity import Case, compare
from equicli.export.picture_graph import OnePicture
from equicli.export.programs import Wanted, trace
from equicli.groups import parse_group
from equicli.policy import Gate
from equicli.prediction.inputs import Pictures
from equicli.prediction.points.pointnet import PointNet
from equicli.progress import Silent
from equicli.sharing import _some_samples
from equicli.tasks.registry import find_task
from tests.serving.conftest import *  # noqa: F403
from tests.told import Told

CPU = torch.device("cpu")
D4 = parse_group("d4")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length, size", [(224, 64), (97, 64), (50, 64), (33, 8), (16, 16)])
def test_products_give_the_pixels_of_interpolation(length: int, size: int) -> None:
    image = noise(2, 3, length, length + 3).double()
    assert torch.equal(shrink_by_products(image, size).float(), shrink(image, size))


@pytest.mark.parametrize("name", KERNELS)
def test_weights_add_up_to_one_and_lie_inside(name: str) -> None:
    found = weights(50, 20, torch.arange(-2, 22), name)
    assert torch.allclose(found[:, 2:-2].sum(dim=0), torch.ones(20, dtype=torch.float64))
    assert not found[:, :2].any() and not found[:, -2:].any()


@pytest.mark.parametrize("interpolation", KERNELS)
@pytest.mark.parametrize("resize, floor", [(28, False), (28, True), (20, False)])
def test_a_picture_is_prepared_as_pillow_does_from_every_pose(interpolation: str, resize: int, floor: bool) -> None:
    prepare = Preprocess(24, resize, interpolation, HALF, floor=floor)  # type: ignore[arg-type]
    for frame in ((37, 52), (61, 40), (25, 24)):
        picture = noise(3, *frame)
        for g in range(8):
            element = torch.tensor([g])
            expected = Pictures([picture], prepare, CPU).at(D4, element)
            assert torch.equal(OnePicture(picture, prepare).at(D4, element), expected)


def test_a_gate_that_asks_about_all_says_what_the_gate_says(served: Path) -> None:
    model = equicli.load(served / "run")
    x = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for gate in (Gate(0.3, 2), Gate(0.5, 3, 1.0, 0.5, "confidence", "best"), Gate(0.0, 2)):
        model.policy = gate
        with torch.no_grad():
            gated, fixed = model(x), predict(model, model.tensors(x)).output
        assert torch.allclose(gated, fixed, atol=1e-6)


def write(served: Path, path: Path, form: str, change=lambda model: model, **options) -> dict:
    samples = [read_picture(file) for file in sorted((served / "photos").rglob("*.png"))[:2]]
    model, config = equicli.load(served / "run"), equicli.read_config(served / "run")
    return write_program(path, change(model), config, Wanted(form, samples, **options), Silent())


@pytest.mark.slow
def test_torch_export_keeps_what_was_compared_and_takes_any_batch(served: Path, tmp_path: Path) -> None:
    document = write(served, tmp_path / "model.pt2", "torch-export")
    extra = {"equicli": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    stored = json.loads(extra["equicli"])
    assert stored["program"] == json.loads(json.dumps(document)) and stored["group"] == "c4"
    assert document["parity"]["real"] == 2 and document["parity"]["max_delta"] < 1e-4
    model = equicli.load(served / "run")
    for count in (1, 5):
        x = torch.randn(count, 3, 32, 32)
        with torch.no_grad():
            assert torch.allclose(program(x)["logits"], model(x), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, options", [(None, {}), ("gate", {"half": True}), ("sized", {"with_preprocessing": True})]
)
def test_onnx_says_the_same_in_onnx_runtime(served: Path, tmp_path: Path, change: str | None, options: dict) -> None:
    onnx = pytest.importorskip("onnx")

    def changed(model: AdaptedModel) -> AdaptedModel:
        if change == "gate":
            model.policy = Gate(0.9, 2)
        if change == "sized":
            model.preprocess = replace(model.preprocess, size=32, resize=36, interpolation="bicubic")
        return model

    path = tmp_path / "model.onnx"
    document = write(served, path, "onnx", changed, **options)
    assert document["parity"]["turned_alike"] is True
    (stored,) = [p for p in onnx.load(path).metadata_props if p.key == "equicli"]
    assert json.loads(stored.value)["program"]["parity"] == document["parity"]


def test_what_differs_is_not_written(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from equicli.export import export

    graph = InputsGraph(equicli.load(served / "run"))

    def other(x: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            said = graph(x)
        return {**said, "logits": said["logits"] + 1}

    monkeypatch.setattr(export, "trace", lambda *arguments: None)
    monkeypatch.setattr(programs, "write_torch", lambda program, path, metadata: path.touch())
    monkeypatch.setattr(programs, "torch_run", lambda path: other)
    with pytest.raises(EquicliError, match="nothing is written"):
        write(served, tmp_path / "model.pt2", "torch-export")
    assert not list(tmp_path.iterdir())


def test_comparing_finds_other_numbers_other_classes_and_other_answers_to_turned_inputs() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    case = Case([x, x.flip(0)], real=False)

    def ask(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": x}

    same = compare(ask, ask, [Case([x, x], False)], "it", "fp32", exact=True)
    assert (same.inputs, same.elements, same.ties, same.turned_alike) == (2, 2, 0, True)
    with pytest.raises(EquicliError, match="turned inputs are given other classes"):
        compare(ask, ask, [case], "it", "fp32", exact=True)
    with pytest.raises(EquicliError, match="differs from the model"):
        compare(ask, lambda x: {"logits": x + 0.5}, [case], "it", "fp32", exact=False)


def test_what_a_program_cannot_be_is_refused(served: Path, tmp_path: Path, cli, run_cli) -> None:
    with pytest.raises(UsageError, match="takes pictures as they are"):
        write(served, tmp_path / "model.pt2", "torch-export", with_preprocessing=True)
    here = shutil.copytree(served, tmp_path / "here")
    for arguments, message in (
        (("--format", "onnx", "--output", "a.pt2"), "ends in .onnx"),
        (("--output", "a.txt"), "let the name end in"),
        (("--fp16",), "--fp16: is not for --format safetensors"),
        (("--opset", "18", "--output", "a.pt2"), "--opset: is not for --format torch-export"),
        (("--adapter-only", "--output", "a.onnx"), "--adapter-only"),
        (("--private",), "--push-to-hub"),
        (("--no-hashes", "--output", "a.onnx"), "--no-hashes: is not for --format onnx"),
    ):
        done = cli("export", "run", *arguments, cwd=here)
        assert done.returncode == 2 and message in done.stderr, done.stderr


class Detector(torch.nn.Module):
    """Says of every patch of 8 pixels where something lies, as DETR and its kin do: always so many boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 7, 8, 8)

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [self.find(image) for image in images]

    def find(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        corner, size, classes = self.patches(image[None])[0].flatten(1).mT.split([2, 2, 3], dim=1)
        lower = corner.sigmoid() * image.shape[-1] / 2
        p = classes.softmax(dim=1)
        boxes = torch.cat([lower, lower + size.sigmoid() * image.shape[-1] / 2], dim=1)
        return {"boxes": boxes, "labels": p.argmax(dim=1), "scores": p.amax(dim=1)}


def other(name: str) -> tuple[AdaptedModel, int | None]:
    """A small untrained model of another task, and the size of its pictures."""
    torch.manual_seed(0)
    if name == "points":
        preprocess, group = CloudPreprocess(points=32), parse_group("so3")
        kind = SPACE["vector-neuron"]
        canonicalizer = kind.create(kind.Settings(width=4), Context(group, preprocess.normalization)).ship()
        network = PointNet(3, compact=True)
        return AdaptedModel(canonicalizer, network, preprocess, signature=find_task(name, {}).signature), None
    kind = REGISTRY["consensus"]
    settings = kind.Settings(kind="consensus", network="conv", size=16, width=4)
    canonicalizer = kind.create(settings, Context(parse_group("c4"), HALF)).ship()
    network = torch.nn.Conv2d(3, 4, 4, 2, 1) if name == "semantic" else Detector()
    return AdaptedModel(canonicalizer, network, AS_THEY_ARE, signature=find_task(name, {}).signature), 32


@pytest.mark.parametrize("name", ["semantic", "instances", "points"])
def test_graphs_of_other_tasks_say_what_their_models_say(name: str) -> None:
    model, size = other(name)
    asked = of_batches(model, [], size)
    for case in asked.cases:
        assert len({tuple(x.shape) for x in case.turned}) == 1
        assert not torch.equal(case.turned[0], case.turned[1])
        with torch.no_grad():
            said = asked.graph(case.turned[1])
            one = model([case.turned[1][0]])[0] if name == "instances" else {}
            expected = {key: part[None] for key, part in one.items()} or model(case.turned[1])
        if name == "points":
            assert torch.equal(said["logits"], expected)
        else:
            assert set(said) == {*expected, "pose", "sure"}
            assert all(torch.allclose(said[key], value, atol=1e-5) for key, value in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["semantic", "instances", "points"])
@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_programs_of_other_tasks_say_what_their_models_say(name: str, form: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    model, size = other(name)
    if name == "semantic":  # of several answers the one that tells most
        model.policy = Gate(0.5, 3, 1.0, 64.0, "information", "best")
    check_program(model, form)
    asked, path = of_batches(model, [], size), tmp_path / ("a.onnx" if form == "onnx" else "a.pt2")
    program = trace(asked.graph, [asked.example], [asked.dynamic])

    def ask(x: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return asked.graph(x)

    run = programs.write(form, program, list(ask(asked.example)), path, None)
    found = compare(ask, run, asked.cases, form, "fp32", exact=False)
    assert found.max_delta < 1e-4 and found.changed == 0 and found.inputs == (2 if name == "instances" else 4)


def test_what_is_no_program_says_why() -> None:
    model, _ = other("instances")
    model.policy = Gate(0.5, 2, evidence="surest", combine="best")
    with pytest.raises(UsageError, match=r"--format onnx: its gate chooses .* --passes 1"):
        check_program(model, "onnx")
    with pytest.raises(UsageError, match="--image-size: is for pictures"):
        of_batches(other("points")[0], [], 32)
    with pytest.raises(UsageError, match="--with-preprocessing: this network takes no pictures"):
        of_one_picture(other("points")[0], [])
    with pytest.raises(UsageError, match="--image-size: nothing says"):
        of_batches(other("semantic")[0], [], None)


def test_comparing_counts_whole_numbers_that_differ() -> None:
    x = torch.zeros(1, 50, 50, dtype=torch.uint8)
    few, many = x.clone(), x.clone()
    few[0, 0, 0], many[0, 0] = 200, 200
    same = compare(lambda x: {"output": x}, lambda x: {"output": few}, [Case([x], False)], "it", "fp32", exact=True)
    assert same.changed == 1 / 2500 and same.max_delta == 0
    with pytest.raises(EquicliError, match=r"2\.00% of output differs"):
        compare(lambda x: {"output": x}, lambda x: {"output": many}, [Case([x], False)], "it", "fp32", exact=True)


def test_what_is_left_out_of_pictures_to_compare_on_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "notes.txt").touch()
    told = Told()
    assert len(_some_samples(None, str(tmp_path), PLAIN, told)) == 1
    assert any("left out" in line and ".txt" in line for line in told.lines)
    assert any(line.startswith("1 of 2 pictures to compare on unreadable") for line in told.lines)
