"""Average precision beside COCO's own evaluation."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from equicli.tasks.annotations.annotation import read_objects
from equicli.tasks.annotations.objects import Objects, decode, encode, mask_areas, mask_boxes
from equicli.tasks.instances.precision import SIZES, Pool, match, resampled
from equicli.tasks.instances.task import Instances
from equicli.tasks.resampling import RESAMPLES

pytest.importorskip("pycocotools")
FRAME = (150, 200)


def objects(masks, labels, scores=None, crowds=None) -> Objects:
    encoded = encode(masks)
    n = len(labels)
    return Objects(
        mask_boxes(encoded),
        np.asarray(labels, dtype=np.int64),
        mask_areas(encoded),
        np.ones(n) if scores is None else np.asarray(scores, dtype=np.float64),
        np.zeros(n, dtype=bool) if crowds is None else np.asarray(crowds, dtype=bool),
        encoded,
    )


def rectangles(generator: np.random.Generator, n: int) -> torch.Tensor:
    """Masks of any size."""
    masks = torch.zeros(n, *FRAME, dtype=torch.bool)
    for i in range(n):
        top, left = generator.integers(0, FRAME[0] - 2), generator.integers(0, FRAME[1] - 2)
        size = int(generator.choice([2, 10, 25, 60, 140]))
        masks[i, top : top + size, left : left + size] = True
    return masks


def detections(generator: np.random.Generator, n: int, there: Objects, masks: torch.Tensor, digits: int) -> Objects:
    """Most of them near something that is there."""
    found, labels = rectangles(generator, n), generator.integers(1, 6, n)
    for i in range(n if len(there) else 0):
        if generator.random() < 0.8:
            k = generator.integers(len(there))
            found[i] = masks[k].roll(generator.integers(-1, 2, 2).tolist(), (0, 1))
            labels[i] = there.labels[k]
    return objects(found, labels, generator.random(n).round(digits))


def a_set(seed: int, pictures: int = 12, digits: int = 1) -> tuple[list[Objects], list[Objects]]:
    """What was found and what is there: crowds, pictures without objects, without detections, of classes of neither.

    digits: of scores; few make ties.
    """
    generator = np.random.default_rng(seed)
    found, there = [], []
    for picture in range(pictures):
        n = 0 if picture % 5 == 1 else int(generator.integers(1, 7))
        right = rectangles(generator, n)
        labels = generator.integers(1, 5, n)
        there.append(objects(right, labels, crowds=generator.random(n) < 0.2))
        d = 0 if picture % 5 == 2 else int(generator.integers(1, 130 if picture == 0 else 12))
        found.append(detections(generator, d, there[-1], right, digits))
    return found, there


def cocos(found: list[Objects], there: list[Objects], kind: str) -> tuple[np.ndarray, list[float]]:
    """Precisions (thresholds, recalls, classes, sizes) and the summary that pycocotools makes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def sides(box):
        return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]

    def text(rle):
        return {"size": rle["size"], "counts": rle["counts"].decode()}

    labels = sorted({int(label) for one in (*there, *found) for label in one.labels})
    truth, detections = COCO(), []
    truth.dataset = {
        "images": [{"id": i, "height": FRAME[0], "width": FRAME[1]} for i in range(len(there))],
        "categories": [{"id": label} for label in labels],
        "annotations": [],
    }
    for i, (mine, right) in enumerate(zip(found, there, strict=True)):
        for k in range(len(right)):
            truth.dataset["annotations"].append(
                {
                    "id": len(truth.dataset["annotations"]) + 1,
                    "image_id": i,
                    "category_id": int(right.labels[k]),
                    "bbox": sides(right.boxes[k]),
                    "area": float(right.areas[k]),
                    "iscrowd": int(right.crowds[k]),
                    "segmentation": text(right.masks[k]),
                }
            )
        for k in range(len(mine)):
            shape = {"bbox": sides(mine.boxes[k])} if kind == "bbox" else {"segmentation": text(mine.masks[k])}
            detections.append(
                {"image_id": i, "category_id": int(mine.labels[k]), "score": float(mine.scores[k]), **shape}
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.eval["precision"][..., -1], evaluation.stats.tolist()


def assert_cocos(found: list[Objects], there: list[Objects], kind: str) -> None:
    theirs, stats = cocos(found, there, kind)
    pool = Pool([match(a, b, masks=kind == "segm") for a, b in zip(found, there, strict=True)])
    classes, table = pool.classes, pool.precision()
    of_class = theirs.mean(axis=1).transpose(1, 2, 0)  # (classes, sizes, thresholds), -1 where there are no objects
    known = sorted({int(label) for one in (*there, *found) for label in one.labels})
    for label, rows in zip(known, of_class, strict=True):
        own = table[0, classes.index(label)].numpy() if label in classes else np.full_like(rows, np.nan)
        assert np.allclose(np.nan_to_num(own, nan=-1), rows, rtol=0, atol=1e-9)
    assert stats[0] > 0.05  # else the rest says little
    assert float(pool.mean()) == pytest.approx(stats[0], abs=1e-9)
    for size, expected in zip(range(1, len(SIZES)), stats[3:6], strict=True):
        value = float(table[0, :, size].mean(dim=-1).nanmean())
        assert (expected == -1 and np.isnan(value)) or value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_cocos_with_crowds_ties_sizes_and_pictures_without_objects_or_detections(seed: int, kind: str) -> None:
    assert_cocos(*a_set(seed), kind)


def test_a_set_of_pictures_drawn_anew_is_as_good_as_if_it_had_been_found_so() -> None:
    found, there = a_set(0, 6, digits=15)
    matches = [match(a, b, masks=False) for a, b in zip(found, there, strict=True)]
    drawn = [0, 0, 3, 4, 4, 4]
    weights = torch.bincount(torch.tensor(drawn), minlength=6).double()[None]
    assert float(Pool(matches).mean(weights)) == pytest.approx(
        float(Pool([matches[i] for i in drawn]).mean()), abs=1e-12
    )
    assert float(Pool(matches).mean(torch.ones(1, 6).double())) == float(Pool(matches).mean())
    spread = resampled([Pool(matches), Pool(matches)])
    assert spread.shape == (RESAMPLES, 2) and torch.equal(spread[:, 0], spread[:, 1]) and spread[:, 0].std() > 0.01


def test_nothing_there_and_nothing_found_has_no_precision() -> None:
    nothing = objects(torch.zeros(0, *FRAME, dtype=torch.bool), [])
    empty = match(nothing, nothing, masks=True)
    assert Pool([empty, empty]).classes == [] and torch.isnan(Pool([empty]).mean()).all()


@pytest.mark.real
def test_of_pictures_of_coco_it_is_what_pycocotools_makes_of_their_file(real_data: Path) -> None:
    """Crowds and pictures in which nothing is found included; detections are objects moved by some pixels."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data = Instances().open(real_data / "coco-tiny")
    file = real_data / "coco-tiny" / "annotations" / "instances_val2017.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(file)
    numbers = {entry["name"]: entry["id"] for entry in truth.dataset["categories"]}
    ids = {entry["file_name"]: entry["id"] for entry in truth.dataset["images"]}
    samples = (data.test or ())[:25]
    there = read_objects(samples, numbers)
    generator = np.random.default_rng(0)
    found, said = [], []
    for i, (sample, objects_) in enumerate(zip(samples, there, strict=True)):
        assert objects_ is not None and objects_.masks is not None
        rows = np.flatnonzero(generator.random(len(objects_)) < (0.8 if i % 9 else 0))
        shift = generator.integers(-4, 5, 2).tolist()
        moved = decode(objects_.take(rows).masks or (), tuple(objects_.masks[0]["size"])).roll(shift, (1, 2))
        labels = np.where(generator.random(len(rows)) < 0.9, objects_.labels[rows], 1)
        found.append(objects(moved, labels, generator.random(len(rows)).round(2)))
        for box, label, score, mask in zip(
            found[-1].boxes, labels, found[-1].scores, found[-1].masks or (), strict=True
        ):
            left, top, right, bottom = box.tolist()
            shape = {
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            }
            said.append({"image_id": ids[sample.path.name], "category_id": int(label), "score": float(score), **shape})
    assert any(one.crowds.any() for one in there if one is not None)
    for kind in ("bbox", "segm"):
        own = [{k: v for k, v in one.items() if k != ("segmentation" if kind == "bbox" else "bbox")} for one in said]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(truth, truth.loadRes(own), kind)
            evaluation.params.imgIds = [ids[sample.path.name] for sample in samples]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        stats = evaluation.stats.tolist()
        pool = Pool([match(a, b, masks=kind == "segm") for a, b in zip(found, there, strict=True)])
        table = pool.precision()[0]
        assert 0.2 < stats[0] < 0.9
        assert float(pool.mean()) == pytest.approx(stats[0], abs=1e-9)
        by_size = table[:, 1:].mean(dim=-1).nanmean(dim=0).tolist()
        assert by_size == pytest.approx(stats[3:6], abs=1e-9)
        assert table[:, 0, [0, 5]].nanmean(dim=0).tolist() == pytest.approx(stats[1:3], abs=1e-9)
