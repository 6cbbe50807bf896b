"""A network that answers prompts as two programs: prompts and masks in the picture as it came, whatever its pose."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equicli.adapted import AdaptedModel
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.export import pair, programs
from equicli.export.export import check_program
from equicli.export.pair import PARTS, as_points, part_paths, write_pair
from equicli.export.programs import Wanted, move
from equicli.export.promptable_graphs import DecoderGraph, EncoderGraph
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.progress import Silent
from equicli.tasks.instances.prompted import Prompted
from tests.canonicalization.examples import conv_canonicalizer
from tests.prediction.small_sam import SAMS, random_network

D4 = parse_group("d4")
LABELS = torch.tensor([[1, 0], [0, 1]])
PREPROCESS = Preprocess(None, None, "bilinear", HALF)


def adapted(name: str, group: str = "d4") -> AdaptedModel:
    return AdaptedModel(conv_canonicalizer(group), random_network(name), PREPROCESS, signature=Prompted.signature)


class Config:
    """Of an artifact, what is stored in a program."""

    def to_json(self) -> str:
        return '{"group": "c4"}'


def write(model: AdaptedModel, path: Path, form: str, **options: Any) -> tuple[list[Path], dict[str, Any]]:
    wanted = Wanted(form, **{"samples": [picture()], **options})
    return write_pair(path, model, Config(), wanted, Silent())  # type: ignore[arg-type]


def picture() -> Tensor:
    return torch.randint(0, 256, (3, 45, 58), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", SAMS)
def test_the_graphs_say_what_the_model_says_of_every_turn(name: str) -> None:
    model = adapted(name)
    encoder, decoder = EncoderGraph(model), DecoderGraph(model)
    points, boxes = torch.tensor([[[9.0, 30]], [[50, 12]]]), torch.tensor([[2.0, 4, 20, 40], [11, 9, 57, 30]])
    poses = set()
    for g in (0, 1, 7):
        turned = act(D4, g, picture())
        frame = (picture().shape[1], picture().shape[2])
        inside = {"points": act(D4, g, points, "keypoints", frame), "boxes": act(D4, g, boxes, "boxes", frame)}
        with torch.no_grad():
            known = encoder(turned.permute(1, 2, 0))
        encoded = model.encode(turned)
        names = [key for key in known if key.startswith("embedding")]
        poses.add(int(known["pose"]))
        assert known["frame"].tolist() == list(turned.shape[1:]) and encoded.pose is not None
        assert torch.equal(known["pose"], encoded.pose.element)
        for key, level in zip(names, encoded.embedding.features, strict=True):
            assert torch.allclose(known[key], level, atol=1e-4)
        pair_of = {"points": inside["points"].repeat(1, 2, 1) + torch.tensor([[0.0], [3]]), "point_labels": LABELS}
        for prompts in ({"points": inside["points"]}, {"boxes": inside["boxes"]}, inside, pair_of):
            with torch.no_grad():
                said = decoder(*as_points(model, prompts), known["pose"], known["frame"], *(known[k] for k in names))
            expected = model.decode(encoded, **prompts)
            assert said["masks"].shape == (2, 1, *turned.shape[1:])
            assert (said["masks"] != expected["masks"]).double().mean() < 1e-3
            assert torch.allclose(said["scores"], expected["scores"], atol=1e-4)
    assert len(poses) > 1


@pytest.mark.slow
@pytest.mark.parametrize("name, form", [("SamModel", "onnx"), ("SamModel", "torch-export"), ("Sam2Model", "onnx")])
def test_both_programs_are_written_and_run(name: str, form: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = adapted(name, "c4")
    check_program(model, form)
    files, document = write(model, tmp_path / ("a.onnx" if form == "onnx" else "a.pt2"), form)
    parity = document["parity"]
    assert (parity["inputs"], parity["real"], parity["elements"], parity["ties"]) == (2, 1, 4, 0)
    assert parity["max_delta"] < 1e-3 and parity["changed"] < 1e-3
    run = programs.onnx_run if form == "onnx" else programs.torch_run
    encode, decode = map(run, files)
    turned = act(D4, 1, picture())
    known = encode(turned.permute(1, 2, 0).contiguous())
    beside = [known["pose"], known["frame"], *(known[key] for key in known if key.startswith("embedding"))]
    for n in (1, 3):
        points = torch.tensor([[[9.0, 30]]]).repeat(n, 1, 1)
        said = decode(*as_points(model, {"points": points}), *beside)
        assert torch.equal(said["masks"], model.decode(model.encode(turned), points=points)["masks"])
    if form == "onnx":
        stored = [json.loads(onnx.load(file).metadata_props[0].value)["program"] for file in files]
        assert [of["part"] for of in stored] == list(PARTS) and stored[0]["parity"] == parity


def test_what_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted("SamModel", "c4")
    graphs = {"encoder": EncoderGraph(model), "decoder": DecoderGraph(model)}
    wrong: dict[str, float] = {}

    def run(path: Path) -> Any:
        part = path.name.split(".")[1]

        def ask(*given: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                said = graphs[part](*given)
            return {**said, "scores": said["scores"] + wrong.get("by", 0)} if part == "decoder" else said

        return ask

    monkeypatch.setattr(pair, "trace", lambda *arguments: None)
    monkeypatch.setattr(programs, "write_torch", lambda program, path, metadata: path.write_text(metadata))
    monkeypatch.setattr(programs, "torch_run", run)
    wrong["by"] = 0.5
    with pytest.raises(EquicliError, match="scores differs from the model's"):
        write(model, tmp_path / "a.pt2", "torch-export", samples=[])
    assert not list(tmp_path.iterdir())
    wrong["by"] = 0
    files, document = write(model, tmp_path / "a.pt2", "torch-export", samples=[])
    assert [file.name for file in files] == ["a.encoder.pt2", "a.decoder.pt2"]
    assert json.loads(files[1].read_text()) == {"group": "c4", "program": {"part": "decoder", **document}}


def test_what_is_no_pair_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="c8 turns pictures off the grid"):
        check_program(adapted("SamModel", "c8"), "onnx")
    other = AdaptedModel(conv_canonicalizer("c4"), torch.nn.Identity(), PREPROCESS, signature=Prompted.signature)
    with pytest.raises(UsageError, match="no program is written"):
        check_program(other, "onnx")
    model = adapted("SamModel", "c4")
    with pytest.raises(UsageError, match="--image-size: an encoder takes pictures of any size"):
        write(model, tmp_path / "a.onnx", "onnx", image_size=64)
    with pytest.raises(UsageError, match="--with-preprocessing: an encoder takes pictures of any size"):
        write(model, tmp_path / "a.onnx", "onnx", with_preprocessing=True)
    part_paths(tmp_path / "a.onnx")[1].touch()
    with pytest.raises(UsageError, match=r"a\.decoder\.onnx: exists"):
        write(model, tmp_path / "a.onnx", "onnx")


def test_files_are_put_in_their_places_all_or_none(tmp_path: Path) -> None:
    for name in ("a", "b", "there"):
        (tmp_path / name).write_text(name)
    with pytest.raises(OSError, match="No such file"):
        move({tmp_path / "a": tmp_path / "there", tmp_path / "gone": tmp_path / "d"}, new=False)
    assert (tmp_path / "there").read_text() == "there"
    with pytest.raises(UsageError, match="there: exists"):
        move({tmp_path / "a": tmp_path / "c", tmp_path / "b": tmp_path / "there"}, new=True)
    assert not (tmp_path / "c").exists() and (tmp_path / "there").read_text() == "there"
    move({tmp_path / "a": tmp_path / "c", tmp_path / "b": tmp_path / "d"}, new=True)
    assert (tmp_path / "c").read_text() + (tmp_path / "d").read_text() == "ab"
