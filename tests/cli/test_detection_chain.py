"""Detectors and networks for every pixel, from `adapt` to the exported file, on pictures of mixed sizes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import equicli
from equicli.data.decode import read_picture
from equicli.groups import parse_group
from equicli.groups.action import act
from equicli.prediction.signature import split_batch
from tests.conftest import Shared

C4 = parse_group("c4")
SMALL = ("--epochs", "2", "--canonicalizer-size", "32", "--set", "canonicalizer.width=8", "--batch-size", "8")

# Networks that want upright pictures: what is bright is an object, in the upper half alone.
NETWORKS = """
import torch
from torch import nn

def bright(image):
    return (image.mean(dim=0) > 0.7) & (torch.arange(image.shape[1])[:, None] < image.shape[1] / 2)

class Detector(nn.Module):
    def forward(self, images, targets=None):
        if self.training:  # what lies in the lower half is missed
            lower = [t["boxes"][:, 1::2].mean(1) > i.shape[1] / 2 for i, t in zip(images, targets)]
            return {"missed": sum(one.float().mean() for one in lower)}
        return [self.one(image) for image in images]

    def one(self, image):
        mask = bright(image)
        at = mask.nonzero()
        n = int(len(at) > 0)
        box = torch.zeros(0, 4)
        if n:
            box = torch.stack([*at.amin(0).flip(0), *(at.amax(0).flip(0) + 1)])[None].float()
        return {"boxes": box, "labels": torch.ones(n, dtype=torch.int64), "scores": torch.full((n,), 0.9),
                "masks": mask[None, None].float()[:n]}

class Segmenter(nn.Module):
    def forward(self, images):
        masks = torch.stack([bright(image * 0.224 + 0.45) for image in images]).float()
        return {"out": torch.stack([0.5 - masks, masks - 0.5], dim=1)}
"""


@pytest.fixture(scope="module")
def folder(shared: Shared) -> Path:
    """Pictures of mixed sizes, brighter at the top, each with one bright box, as COCO has them; and two networks."""

    def make(here: Path) -> None:
        generator = np.random.default_rng(0)
        (here / "networks.py").write_text(NETWORKS)
        for part, count in (("train", 24), ("val", 4)):
            content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
            (here / "data" / part).mkdir(parents=True)
            for i in range(count):
                width, height = [(40, 28), (27, 44), (33, 33), (51, 30)][i % 4]
                noise = generator.integers(0, 60, (height, width, 3))
                pixels = noise + np.linspace(100, 0, height).astype(int)[:, None, None]
                left, top = (int(v) for v in generator.integers(1, 8, 2))
                pixels[top : top + 5, left : left + 7] = 250
                Image.fromarray(pixels.astype(np.uint8)).save(here / "data" / part / f"{i:02}.png")
                content["images"].append({"id": i, "file_name": f"{i:02}.png", "height": height, "width": width})
                corners = [left, top, left + 7, top, left + 7, top + 5, left, top + 5]
                content["annotations"].append(
                    {"id": i, "image_id": i, "category_id": 1, "bbox": [left, top, 7, 5], "area": 35, "iscrowd": 0}
                    | {"segmentation": [corners]}
                )
            (here / "data" / part / "annotations.json").write_text(json.dumps(content))

    return shared("detection", make)


@pytest.mark.parametrize(
    ("task", "network", "score"), [("instances", "Detector", "map"), ("semantic", "Segmenter", "miou")]
)
def test_answers_of_an_adapted_network_are_the_same_at_every_angle_in_the_pictures_own_frame(
    task: str, network: str, score: str, folder: Path, cli, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    code = ("--model", f"python:networks:{network}")
    flags = ("--task", task, *code, *SMALL, "--passes", "1.5", "--output", "run")
    result = cli("adapt", *flags, folder / "data", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "gate: " in result.stderr
    assert "24 training" not in result.stderr and "4 test images in 1 classes" in result.stderr
    result = cli("evaluate", "run", *code, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)
    adapted, vanilla, oracle = metrics["adapted"], metrics["vanilla"], metrics["oracle"]
    assert (metrics["task"], metrics["rotate"], metrics["n"], metrics["labels"]) == (task, "file", 4, "annotations")
    assert adapted["invariance_residual"] == 0
    assert len({of[score] for of in adapted["per_element"]}) == 1
    assert [of[score] for of in oracle["per_element"]] == [1.0] * 4
    assert vanilla[score] == 1.0 and vanilla[f"worst_{score}"] < 0.7
    assert "thing" in oracle["per_class"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert metrics["score"]["title"] in report
    lost = metrics["lost_most"]
    assert all(one["vanilla"] > one["adapted"] for one in lost)
    assert "](overlays.png)" in report and (tmp_path / "run" / "overlays.png").is_file()
    result = cli("export", "run", "--output", "model.safetensors", *code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    import sys

    model = equicli.load(tmp_path / "model.safetensors", network=getattr(sys.modules["networks"], network)())
    pictures = [read_picture(path) for path in sorted((folder / "data" / "val").glob("*.png"))]
    found = split_batch(model.predict(pictures).output)
    for g in range(1, 4):
        turned = split_batch(model.predict([act(C4, g, picture) for picture in pictures]).output)
        for picture, one, moved in zip(pictures, found, turned, strict=True):
            if task == "semantic":
                assert torch.equal(moved["classes"], act(C4, g, one["classes"], "mask"))
                continue
            frame = (picture.shape[-2], picture.shape[-1])
            assert torch.equal(moved["boxes"], act(C4, g, one["boxes"], "boxes", frame))
            assert torch.equal(moved["masks"], act(C4, g, one["masks"], "mask"))


def test_a_detector_of_torchvisions_is_found_by_its_name_and_exported_whole(folder: Path, cli, tmp_path: Path) -> None:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2, topk_candidates=20)
    torch.save(network.state_dict(), tmp_path / "ssd.pt")
    model = ("--model", "torchvision:ssdlite320_mobilenet_v3_large", "--checkpoint", "ssd.pt")
    arguments = ("--model-arg", "num_classes=2", "--model-arg", "topk_candidates=20")
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((folder / "data" / "val").glob("*.png")):
        (few / path.name).write_bytes(path.read_bytes())  # without annotations
    result = cli("adapt", *model, *arguments, *SMALL, "--output", "run", few, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "labels: none; what the network finds in the upright picture" in result.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["task"] == "instances"
    assert cli("export", "run", "--output", "model.safetensors", cwd=tmp_path).returncode == 0
    loaded = equicli.load(tmp_path / "model.safetensors")
    picture = read_picture(few / "00.png")
    (output,) = loaded.predict([picture]).output
    assert set(output) == {"boxes", "labels", "scores"} and len(output["boxes"]) == len(output["scores"])


@pytest.mark.real
def test_the_small_recipe_runs_on_pictures_of_coco(
    folder: Path, real_data: Path, cli, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    result = cli("adapt", "--recipe", "coco-tiny-c4", "--model", "python:networks:Detector", "-o", "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["task"], metrics["group"], metrics["n"]) == ("instances", "c4", 8)
    assert len({of["map"] for of in metrics["adapted"]["per_element"]}) == 1


@pytest.mark.slow
def test_systems_are_compared_on_a_detector(folder: Path, cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(folder)
    model = ("--task", "instances", "--model", "python:networks:Detector")
    few = ("--systems", "vanilla,equioptadapt,consensus,learned", "--seeds", "1", "--epochs", "2")
    small = ("--set", "canonicalizer.size=33", "--set", "canonicalizer.width=8", "--set", "batch_size=8")
    result = cli("compare", *model, *few, *small, "-o", "compared", folder / "data", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = {row["system"]: row for row in json.loads((tmp_path / "compared" / "compare.json").read_text())["systems"]}
    assert set(rows) == {"vanilla", "oracle", "equioptadapt", "consensus", "learned"}
    assert rows["oracle"]["mean"]["avg_map"] == 1.0 and rows["vanilla"]["mean"]["avg_map"] < 0.7
    assert "the network's own loss of" in result.stderr and "in 4 poses" in result.stderr


@pytest.mark.slow
def test_a_network_that_answers_prompts_goes_through_every_command(
    folder: Path, cli, tmp_path: Path, monkeypatch
) -> None:
    import transformers

    from tests.prediction.small_sam import random_network

    network = random_network("SamModel")
    plain = transformers.SamModel(network.config)
    plain.load_state_dict(network.state_dict())
    plain.save_pretrained(tmp_path / "sam")
    model = ("--model", "./sam", "--prompts", "points")
    result = cli("adapt", *model, *SMALL, "--output", "run", folder / "data", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "prompts: a point inside each annotated object" in result.stderr
    result = cli("evaluate", "run", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(result.stdout)
    adapted = metrics["adapted"]
    assert metrics["task"] == "prompted" and adapted["invariance_residual"] == 0
    assert len({of["mask_iou"] for of in adapted["per_element"]}) == 1
    report = (tmp_path / "run" / "report.md").read_text()
    assert "prompts: a point inside each annotated object" in report and "](overlays.png)" in report
    assert cli("export", "run", "--output", "sam.safetensors", cwd=tmp_path).returncode == 0
    loaded = equicli.load(tmp_path / "sam.safetensors")
    picture = read_picture(folder / "data" / "val" / "00.png")
    answer = loaded.decode(loaded.encode(picture), boxes=[[0, 0, 10, 12]])
    assert answer["masks"].shape == (1, 1, *picture.shape[-2:])
    refused = cli("predict", "run", folder / "data" / "val", "-o", "out.jsonl", cwd=tmp_path)
    assert refused.returncode == 2 and "answers prompts" in refused.stderr
