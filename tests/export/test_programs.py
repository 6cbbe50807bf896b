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
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.decode import read_picture
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.data.resampling import KERNELS, shrink_by_products, weights
from equicli.data.small_view import shrink
from equicli.errors import EquicliError, UsageError
from equicli.export.export import check_program, write_program
from equicli.export.graph import ImagesGraph, predict
from equicli.export.parity import Case, compare
from equicli.export.picture_graph import OnePicture
from equicli.groups import parse_group
from equicli.policy import Gate
from equicli.prediction.inputs import Pictures
from equicli.progress import Silent
from equicli.sharing import _some_pictures
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
    pictures = [read_picture(file) for file in sorted((served / "photos").rglob("*.png"))[:2]]
    given = {"image_size": None, "with_preprocessing": False, "half": False, "opset": None, "new": True}
    model, config = equicli.load(served / "run"), equicli.read_config(served / "run")
    return write_program(
        path, change(model), config, form, pictures=pictures, **{**given, **options}, progress=Silent()
    )


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

    graph = ImagesGraph(equicli.load(served / "run"))

    def other(x: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            said = graph(x)
        return {**said, "logits": said["logits"] + 1}

    monkeypatch.setattr(export, "trace", lambda *arguments: None)
    monkeypatch.setattr(export, "write_torch", lambda program, path, metadata: path.touch())
    monkeypatch.setattr(export, "torch_run", lambda path: other)
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


def test_clouds_have_no_program(served: Path) -> None:
    model = equicli.load(served / "run")
    check_program(model, "onnx")
    model.preprocess = CloudPreprocess()
    with pytest.raises(UsageError, match="--format onnx: is for networks of pictures"):
        check_program(model, "onnx")


def test_what_is_left_out_of_pictures_to_compare_on_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "notes.txt").touch()
    told = Told()
    assert len(_some_pictures(None, str(tmp_path), told)) == 1
    assert any("left out" in line and ".txt" in line for line in told.lines)
    assert any(line.startswith("1 of 2 pictures to compare on are unreadable") for line in told.lines)
