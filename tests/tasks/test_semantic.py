"""Classes of pixels: one confusion matrix over the whole set, and answers back in the picture's own frame."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from equicli.adapted import AdaptedModel
from equicli.canonicalization.canonicalizer import Pose
from equicli.canonicalization.prior import Prior
from equicli.data.folders import Dataset
from equicli.data.normalization import HALF
from equicli.data.preprocess import AS_THEY_ARE, Preprocess
from equicli.errors import EquicliError
from equicli.evaluation.evaluate import InputBatch, record_systems
from equicli.groups import PlanarGroup
from equicli.groups.action import act
from equicli.policy import Gate
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.prediction.readers import classes, classes_and_information
from equicli.prediction.signature import asking
from equicli.tasks.annotations.mask_files import VOID, ClassFile
from equicli.tasks.registry import task_of
from equicli.tasks.semantic.confusion import Matrix, confusion
from equicli.tasks.semantic.task import Semantic
from tests.evaluation.handmade import CPU, Motionless
from tests.tasks.test_annotations import FRAMES, coco, write_picture, written
from tests.told import Told

C4, D4 = PlanarGroup(4), PlanarGroup(4, reflections=True)


def by_hand(pairs: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """mIoU over the classes that are there, and the share of pixels that are right, of all pictures as one."""
    said = torch.cat([a.flatten() for a, _ in pairs])
    right = torch.cat([b.flatten() for _, b in pairs])
    said, right = said[right != VOID], right[right != VOID]
    overlaps = []
    for label in right.unique():
        both, either = (said == label) & (right == label), (said == label) | (right == label)
        overlaps.append(float(both.sum()) / float(either.sum()))
    return sum(overlaps) / len(overlaps), float((said == right).double().mean())


@settings(max_examples=25)
@given(
    frames=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4), seed=st.integers(0, 99)
)
def test_figures_are_those_of_all_pixels_of_the_set_together(frames, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    pairs = [
        (torch.randint(0, 5, f, generator=generator), torch.randint(-1, 4, f, generator=generator)) for f in frames
    ]
    pairs[0][1][0, 0] = 2
    matrix = Matrix([confusion(said, right) for said, right in pairs])
    overlap, share = by_hand(pairs)
    assert float(matrix.overlaps().nanmean()) == pytest.approx(overlap, abs=1e-12)
    assert float(matrix.accuracy()) == pytest.approx(share, abs=1e-12)
    twice = Matrix([confusion(said, right) for said, right in [*pairs, pairs[0]]])
    weights = torch.ones(1, len(pairs), dtype=torch.float64)
    weights[0, 0] = 2
    assert float(matrix.overlaps(weights).nanmean()) == pytest.approx(float(twice.overlaps().nanmean()), abs=1e-12)


class Columns(nn.Module):
    """Calls what is bright class 1, but only in the upper half: it wants upright pictures. Scores of half the size."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        bright = images.mean(dim=1)
        bright = torch.where(torch.arange(bright.shape[1])[:, None] < bright.shape[1] / 2, bright, -1.0)
        return {"out": torch.stack([torch.zeros_like(bright), bright], dim=1)[:, :, ::2, ::2]}


PICTURES = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((12, 20), (22, 8), (16, 16))]
for picture in PICTURES:
    picture[:, : picture.shape[1] // 2, 2:8] //= 8
    picture[:, : picture.shape[1] // 2, 2:8] += 200


@pytest.mark.parametrize(
    "preprocess", [Preprocess(None, None, "bilinear", HALF), Preprocess(None, 24, "bilinear", HALF)], ids=["own", "24"]
)
def test_what_is_said_of_turned_pictures_is_the_same_in_their_own_frame(preprocess: Preprocess) -> None:
    model = AdaptedModel(Motionless(D4), Columns(), preprocess, signature=Semantic.signature)
    batches = [InputBatch(torch.arange(3), model.pictures(PICTURES))]
    systems = ("vanilla", "adapted", "oracle")
    evaluation = record_systems(model, Semantic(), batches, None, D4, prior=Prior(), systems=systems, device=CPU)
    measured = {name: Semantic().measure(evaluation.records[name], D4) for name in systems}
    oracle = measured["oracle"]
    assert [of["miou"] for of in oracle["per_element"]] == [1.0] * 8 and oracle["avg_pixel_acc"] == 1.0
    assert oracle["miou_ci"] == (1.0, 1.0)
    assert measured["vanilla"]["miou"] == 1.0 and measured["vanilla"]["worst_miou"] < 0.6
    assert evaluation.changed.any()
    output, _ = model.predict(PICTURES)
    assert [tuple(one.shape) for one in output["classes"]] == [(12, 20), (22, 8), (16, 16)]
    assert set(Semantic().per_class(evaluation.records["oracle"], {"sky": 1})) == {"0", "sky"}


def test_scores_become_classes_of_as_many_pixels_as_the_image_has() -> None:
    image, scores = torch.zeros(1, 3, 4, 6), torch.zeros(1, 3, 2, 3)
    scores[:, 2, :, 0] = 5
    found = classes({"out": scores}, image)
    assert found.dtype == torch.uint8 and found.shape == (1, 4, 6)
    assert (found[..., :2] == 2).all() and (found[..., 4:] == 0).all()
    assert torch.equal(classes(scores, image), found) and torch.equal(classes({"logits": scores}, image), found)
    assert torch.equal(classes(found, image), found)
    assert classes(torch.full((1, 1, 4, 6), 0.3), image).unique().tolist() == [1]
    assert classes(torch.zeros(1, 300, 4, 6), image).dtype == torch.int64
    with pytest.raises(ValueError, match="not a score for each class and pixel"):
        classes(torch.zeros(1, 5), image)


def test_a_picture_tells_the_more_the_more_is_seen_in_it_and_the_surer() -> None:
    def told(scores: Tensor) -> float:
        return float(classes_and_information(scores[None], torch.zeros(1, 3, 4, 4))["information"])

    two = torch.zeros(2, 4, 4)
    two[1, :2], two[0, 2:] = 50.0, 50.0
    assert told(two) == pytest.approx(math.log(2), abs=1e-6)
    nothing, unsure = torch.tensor([50.0, 0.0])[:, None, None].expand(2, 4, 4), two / 50
    assert told(nothing) == pytest.approx(0, abs=1e-6) and 0.05 < told(unsure) < 0.5
    assert told(two[1:] - 25) == pytest.approx(math.log(2), abs=1e-6)  # one class beside the background
    alone = classes_and_information(torch.ones(2, 4, 4, dtype=torch.uint8), torch.zeros(2, 3, 4, 4))
    assert alone["information"].tolist() == [0.0, 0.0] and alone["classes"].shape == (2, 4, 4)


class Unsure(Motionless):
    """Takes every view for upright by how bright its left edge is, and is never sure."""

    def forward(self, x: Tensor) -> Pose:
        edges = (x[..., 1], x[..., -2, :], x[..., -2], x[..., 1, :])
        scores = torch.stack([edge.mean(dim=(1, 2)) for edge in edges], dim=1)
        return Pose(scores.argmax(dim=1), scores, scores[..., None])


@torch.inference_mode()
def test_a_gate_takes_the_pose_in_which_most_is_seen_and_says_the_same_of_every_turn() -> None:
    gate = Gate(0.9, 4, 1.0, 1e4, "information", "best")
    model = AdaptedModel(Unsure(C4), Columns(), AS_THEY_ARE, signature=Semantic.signature)
    alone = model.predict(PICTURES).output
    model.policy = gate
    output, pose = model.predict(PICTURES)
    assert model.passes(pose) == 4
    assert any(not torch.equal(a, b) for a, b in zip(alone["classes"], output["classes"], strict=True))
    ask, inputs = asking(Columns(), Semantic.signature), model.pictures(PICTURES)
    every = torch.stack([ask(inputs.at(C4, g))["information"] for g in range(4)])
    torch.testing.assert_close(output["information"], every.amax(dim=0))
    for h in range(1, 4):
        turned, _ = model.predict([act(C4, h, picture) for picture in PICTURES])
        for said, before in zip(turned["classes"], output["classes"], strict=True):
            assert torch.equal(said, act(C4, h, before, "mask"))
        assert torch.equal(turned["information"], output["information"])


class Many(nn.Module):
    """Knows eight classes."""

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images), 8, *images.shape[-2:])


def bind(folder: Path, names: Any = None, **options: Any) -> tuple[Any, Dataset, list[str]]:
    task, told = Semantic(Semantic.Settings(**options)), Told()
    data = task.open(folder)
    made = Columns() if data.classes else Many()
    network = PretrainedNetwork(made, NetworkSpec("python", "Columns"), AS_THEY_ARE, names, {"model": "Columns"})
    binding = task.bind(network, data, torch.zeros(1, 3, 8, 8), lambda sample: None, told)
    targets = task.targets(data.samples, data, binding.labels)
    right = [target.classes(FRAMES[s.path.stem]) for s, target in zip(data.samples, targets or (), strict=True)]
    return right, data, told.lines


def test_files_of_masks_have_classes_or_objects_and_numbers_that_are_not_counted(tmp_path: Path) -> None:
    numbers = np.zeros((20, 30), dtype=np.uint8)
    numbers[:5], numbers[5:7] = 3, 255
    write_picture(tmp_path / "images" / "a.png", FRAMES["a"])
    (tmp_path / "masks").mkdir()
    Image.fromarray(numbers).save(tmp_path / "masks" / "a.png")
    (right,), _, lines = bind(tmp_path)
    assert right.unique().tolist() == [VOID, 0, 3] and (right[:5] == 3).all() and (right[5:7] == VOID).all()
    assert lines == ["labels: numbers in the files of masks are outputs"]
    (right,), _, _ = bind(tmp_path, offset=-1)
    assert right.unique().tolist() == [VOID, 2]
    with pytest.raises(EquicliError, match=r"a\.png: has the class 255, and the network's are 0 to 7\. Where"):
        bind(tmp_path, void=None)
    assert ClassFile(tmp_path / "masks" / "a.png", 0, None).classes(FRAMES["a"]).unique().tolist() == [0, 3, 255]
    (right,), data, _ = bind(tmp_path, numbers="objects", category="person")
    assert data.classes == ("person",) and right.unique().tolist() == [0, 1]


def test_objects_of_coco_are_classes_of_their_pixels_the_smaller_on_top(tmp_path: Path) -> None:
    content = coco()
    content["annotations"][0] |= {"bbox": [0, 0, 30, 20], "area": 600, "segmentation": [[0, 0, 30, 0, 30, 20, 0, 20]]}
    content["categories"] = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
    content["annotations"][0]["category_id"] = 1
    written(tmp_path, content)
    with pytest.raises(EquicliError, match="knows 1 classes, and the data has 2"):
        bind(tmp_path)
    (a, b, c), _, _ = bind(tmp_path, names=(("nothing",), ("dog",), ("cat",)))
    assert a[0, 0] == 2 and a[8, 12] == 1 and a.unique().tolist() == [1, 2]
    assert b.unique().tolist() == [0, 1] or b.unique().tolist() == [1]
    assert c.unique().tolist() == [0]


def test_whole_pictures_are_shown_where_every_pixel_is_asked_for() -> None:
    told = Told()
    network = PretrainedNetwork(
        Columns(), NetworkSpec("python", "Columns"), Preprocess(32, 36, "bilinear", HALF), None, {"model": "Columns"}
    )
    shown = Semantic().prepare(network, Dataset(Path("data"), (), (), None), told).preprocess
    assert (shown.size, shown.resize) == (None, 36) and shown(PICTURES[0]).shape == (3, 36, 60)
    assert "nothing is cropped" in told.lines[0]


def test_a_name_says_the_task_where_it_leaves_no_doubt(tmp_path: Path) -> None:
    assert task_of("torchvision:maskrcnn_resnet50_fpn_v2") == "instances"
    assert task_of("torchvision:ssdlite320_mobilenet_v3_large") == "instances"
    assert task_of("torchvision:lraspp_mobilenet_v3_large") == "semantic"
    (tmp_path / "config.json").write_text('{"architectures": ["SegformerForSemanticSegmentation"]}')
    assert task_of(str(tmp_path)) == task_of(f"transformers:{tmp_path}") == "semantic"
    assert task_of("torchvision:resnet50") == task_of("vit_base") == task_of(None) == "classification"


def test_a_network_that_says_one_class_of_every_pixel_is_told() -> None:
    right = torch.zeros(4, 6, dtype=torch.int64)
    right[:2] = 1
    constant, varied = torch.zeros(4, 6, dtype=torch.uint8), right.to(torch.uint8)

    def warned(said: torch.Tensor, there: torch.Tensor = right) -> list[str]:
        return Semantic().warnings({"confusion": [[confusion(said, there)] * 4]}, D4, {"cat": 1, "sky": 0})

    (line,) = warned(constant)
    assert "the same class, sky, of every pixel" in line and "--class-map" in line
    assert warned(varied) == []
    (line,) = warned(varied, torch.zeros(4, 6, dtype=torch.int64))
    assert line.startswith("every pixel that counts is of one class, sky,") and "task.void=null" in line


def test_a_classifier_is_told_which_task_fits(tmp_path: Path) -> None:
    class Classifier(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    network = PretrainedNetwork(
        Classifier(), NetworkSpec("python", "Classifier"), AS_THEY_ARE, None, {"model": "Classifier"}
    )
    empty = Dataset(Path("data"), (), (), None)
    with pytest.raises(EquicliError, match=r"one of 3 classes of a whole picture; write --task classification"):
        Semantic().bind(network, empty, torch.zeros(1, 3, 8, 8), lambda _: None, Told())
