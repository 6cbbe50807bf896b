"""Annotations of objects as people have them, and what becomes of broken ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from equicli.data.folders import Dataset
from equicli.errors import EquicliError
from equicli.tasks.annotations.annotation import read_objects
from equicli.tasks.annotations.objects import decode, encode, mask_areas, mask_boxes, outline, runs
from equicli.tasks.instances.task import Instances
from equicli.tasks.semantic.task import Semantic

FRAMES = {"a": (20, 30), "b": (30, 20), "c": (24, 24)}


def write_picture(path: Path, frame: tuple[int, int], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(sum(path.name.encode())).integers(0, 255, (*frame, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, **options)


def coco() -> dict[str, Any]:
    """Three pictures: of two objects and a crowd, of one object, and of none; categories with a gap."""
    crowd = torch.zeros(1, 20, 30, dtype=torch.bool)
    crowd[0, 5:12, 10:25] = True
    lengths = {"size": [20, 30], "counts": encode(crowd)[0]["counts"].decode()}
    images = [
        {"id": 10 + i, "file_name": f"{name}.png", "height": h, "width": w}
        for i, (name, (h, w)) in enumerate(FRAMES.items())
    ]

    def entry(number: int, picture: int, category: int, box: list[float], shape: Any, **more: Any) -> dict[str, Any]:
        own = {"id": number, "image_id": picture, "category_id": category, "bbox": box, "segmentation": shape}
        return {**own, "area": box[2] * box[3], "iscrowd": 0, **more}

    return {
        "images": images,
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            entry(1, 10, 3, [2, 3, 8, 6], [[2, 3, 10, 3, 10, 9, 2, 9]]),
            entry(2, 10, 7, [20, 10, 10, 10], [[20, 10, 30, 10, 30, 20]], area=50),
            entry(3, 10, 7, [10, 5, 15, 7], lengths, iscrowd=1),
            entry(4, 11, 7, [0, 0, 20, 30], [[0, 0, 20, 0, 20, 30, 0, 30]]),
        ],
    }


def written(folder: Path, content: Any, name: str = "annotations.json") -> Path:
    for picture, frame in FRAMES.items():
        write_picture(folder / "images" / f"{picture}.png", frame)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def read(folder: Path) -> tuple[Dataset, dict[str, Any]]:
    task = Instances()
    data = task.open(folder)
    found = task.targets(data.samples, data, {name: i + 1 for i, name in enumerate(data.classes)})
    return data, dict(zip((s.path.stem for s in data.samples), found or [], strict=False))


def test_objects_of_coco_have_boxes_masks_areas_and_crowds_and_pictures_may_have_none(tmp_path: Path) -> None:
    data, objects = read(written(tmp_path, coco()))
    assert data.classes == ("cat", "dog") and data.left_out.line() is None
    a = objects["a"]
    assert a.boxes.tolist() == [[2, 3, 10, 9], [20, 10, 30, 20], [10, 5, 25, 12]]
    assert (a.labels.tolist(), a.crowds.tolist(), a.areas.tolist()) == ([1, 2, 2], [False, False, True], [48, 50, 105])
    square, _, crowd = decode(a.masks, FRAMES["a"])
    assert square.nonzero().amin(0).tolist() == [3, 2] and int(square.sum()) == 48
    assert torch.equal(crowd.nonzero().amax(0), torch.tensor([11, 24]))
    assert len(objects["b"]) == 1 and len(objects["c"]) == 0 and objects["c"].boxes.shape == (0, 4)


def test_run_lengths_may_be_numbers_as_well_as_text(tmp_path: Path) -> None:
    content = coco()
    content["annotations"][2]["segmentation"] = {"size": [20, 30], "counts": [20 * 10, 5 * 20, 300]}
    _, objects = read(written(tmp_path, content))
    assert mask_boxes(objects["a"].masks[2:]).tolist() == [[10, 0, 15, 20]]


def broken(**change: Any) -> dict[str, Any]:
    """The same, with the second object of the first picture changed."""
    content = coco()
    content["annotations"][1] |= change
    return content


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"bbox": [20, 10, 0, 10]}, "objects of annotations.json whose box has no width or no height: 1 left out"),
        ({"bbox": [20, 10, float("nan"), 10]}, "whose box is no four finite numbers"),
        ({"bbox": "20"}, "whose box is no four finite numbers"),
        ({"bbox": [31, 10, 5, 5]}, "whose box lies outside of the picture"),
        ({"segmentation": {"size": [20, 30], "counts": "broken!"}}, "whose outline is broken"),
        ({"segmentation": {"size": [20, 31], "counts": [620]}}, "whose outline is broken"),
        ({"segmentation": {"size": [20, 30], "counts": [599]}}, "whose outline is broken"),
        ({"segmentation": [[1, 2, 3]]}, "whose outline is broken"),
        ({"segmentation": [[1, 2, 3, float("inf"), 5, 6]]}, "whose outline is broken"),
        ({"segmentation": [[31, 2, 40, 2, 40, 9]]}, "whose outline covers nothing of the picture"),
        ({"segmentation": [[5, 5, 9, 9, 7, 7]]}, "whose outline covers nothing of the picture"),
        ({"segmentation": [[1.1, 2.3, 2.2, 4.6, 3.3, 6.9]]}, "whose outline covers nothing of the picture"),
        ({"segmentation": {"size": [20, 30], "counts": [600]}}, "whose outline covers nothing of the picture"),
        ({"id": 1}, "that repeat an id"),
        ({"image_id": 99}, "of pictures that the file does not list"),
        ({"image_id": "10"}, "of pictures that the file does not list"),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out_and_counted(change: Any, told: str, tmp_path: Path) -> None:
    data, objects = read(written(tmp_path, broken(**change)))
    assert len(objects["a"]) == 2 and any(told in remark for remark in data.remarks)


def test_an_outline_that_crosses_itself_is_used(tmp_path: Path) -> None:
    data, objects = read(written(tmp_path, broken(segmentation=[[4, 4, 12, 12, 12, 4, 4, 12]])))
    assert len(objects["a"]) == 3 and not any("outline" in remark for remark in data.remarks)


def test_an_area_that_is_no_number_is_that_of_the_mask_or_of_the_box(tmp_path: Path) -> None:
    _, objects = read(written(tmp_path, broken(area=float("nan"))))
    assert objects["a"].areas.tolist() == [48, mask_areas(objects["a"].masks)[1], 105]
    _, objects = read(written(tmp_path, broken(area=-1, segmentation=None)))
    assert objects["a"].areas.tolist() == [48, 100, 105]


def test_where_some_objects_have_no_outline_only_boxes_are_evaluated_and_it_is_said(tmp_path: Path) -> None:
    data, objects = read(written(tmp_path, broken(segmentation=[])))
    assert objects["a"].masks is None and len(objects["a"]) == 3
    assert all(one.masks is None for one in objects.values())
    assert "1 of 4 objects have no outline: only boxes are evaluated" in data.remarks


def test_of_two_files_of_which_one_has_no_outlines_only_boxes_are_evaluated(tmp_path: Path) -> None:
    content = coco()
    first = {**content, "images": content["images"][:1], "annotations": content["annotations"][:3]}
    second = {**content, "images": content["images"][1:], "annotations": content["annotations"][3:]}
    del second["annotations"][0]["segmentation"]
    written(tmp_path, second, "b_annotations.json")
    data, objects = read(written(tmp_path, first, "a_annotations.json"))
    assert [len(objects[name]) for name in "abc"] == [3, 1, 0]
    assert all(one.masks is None for one in objects.values())
    assert "1 of 4 objects have no outline: only boxes are evaluated" in data.remarks
    with pytest.raises(EquicliError, match="1 of 4 objects have no outline, so that the classes of their pixels"):
        Semantic().open(tmp_path)


def changed(**change: Any) -> dict[str, Any]:
    return {**coco(), **change}


IMAGES = coco()["images"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "cannot be read as JSON"),
        ({"images": []}, "is named as COCO's annotations, but does not list images, annotations of objects"),
        (changed(annotations=[{"id": 1, "image_id": 10, "caption": "a cat"}]), "is named as COCO's annotations"),
        (broken(category_id=4), "object 2 is of category 4, which is not listed"),
        (changed(categories=[]), "lists no categories"),
        (changed(categories=[{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]), "category 3 .*is there twice"),
        (changed(images=[*IMAGES, IMAGES[0]]), "two pictures have the id 10"),
        (changed(images=[*IMAGES, {**IMAGES[0], "id": 5}]), "lists a.png twice, as 10 and as 5"),
        (changed(images=[{**IMAGES[0], "width": None}]), "'width' of .* is no whole number"),
        (changed(images=[{**image, "file_name": f"x{image['id']}.png"} for image in IMAGES]), "no picture here is one"),
        (changed(images=[{**IMAGES[0], "height": 21}, *IMAGES[1:]]), "says 30x21 pixels of a picture that has 30x20"),
    ],
)
def test_a_file_that_contradicts_itself_or_its_pictures_is_refused_by_name(
    content: Any, fault: str, tmp_path: Path
) -> None:
    with pytest.raises(EquicliError, match=rf"{tmp_path}.*{fault}|{fault}"):
        read(written(tmp_path, content))


def test_pictures_that_are_missing_or_not_listed_are_told(tmp_path: Path) -> None:
    content = coco()
    content["images"][2]["file_name"] = "gone.png"
    content["images"][1]["file_name"] = "images\\b.png"
    data, objects = read(written(tmp_path, content))
    assert set(objects) == {"a", "b"}
    assert "1 of 3 pictures that annotations.json lists are not here (gone.png)" in data.remarks
    assert "1 picture without labels beside labelled ones (c.png)" in (data.left_out.line() or "")


def test_a_file_of_which_no_picture_is_here_is_told(tmp_path: Path) -> None:
    content = coco()
    other = {**content, "images": [{**image, "file_name": f"x{image['id']}.png"} for image in content["images"]]}
    written(tmp_path, other, "instances_other.json")
    data, _ = read(written(tmp_path, content, "instances_these.json"))
    assert "3 of 3 pictures that instances_other.json lists are not here (x10.png)" in data.remarks


def test_sizes_are_those_of_the_picture_with_its_camera_rotation_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = coco()
    written(tmp_path, content)
    write_picture(tmp_path / "images" / "a.png", (30, 20), exif=exif)  # shown as 20 high and 30 wide
    assert len(read(tmp_path)[1]["a"]) == 3


def test_each_part_has_its_own_file(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        for picture, frame in FRAMES.items():
            write_picture(tmp_path / part / f"{picture}.png", frame)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        content = coco()
        content["annotations"] = content["annotations"][: 3 if part == "train2017" else 1]
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        captions = {**content, "annotations": [{"image_id": 10, "id": 1, "caption": "a cat"}]}
        (tmp_path / "annotations" / f"captions_{part}.json").write_text(json.dumps(captions))
    data = Instances().open(tmp_path)
    assert data.test is not None
    train, test = (read_objects(part, {"cat": 1, "dog": 2}) for part in (data.train, data.test))
    assert ([len(one) for one in train], [len(one) for one in test]) == ([3, 0, 0], [1, 0, 0])


def test_files_of_masks_number_the_objects_of_each_picture(tmp_path: Path) -> None:
    numbers = np.zeros((20, 30), dtype=np.uint8)
    numbers[2:8, 3:9], numbers[10:20, 0:5] = 1, 4
    for picture, frame in FRAMES.items():
        write_picture(tmp_path / "PNGImages" / f"{picture}.png", frame)
    (tmp_path / "PedMasks").mkdir()
    Image.fromarray(numbers).save(tmp_path / "PedMasks" / "a_mask.png")
    Image.fromarray(np.zeros((30, 20), dtype=np.uint8)).save(tmp_path / "PedMasks" / "b_mask.png")
    data, objects = read(tmp_path)
    assert data.classes == ("object",) and set(objects) == {"a", "b"} and len(objects["b"]) == 0
    assert objects["a"].boxes.tolist() == [[3, 2, 9, 8], [0, 10, 5, 20]]
    assert mask_areas(objects["a"].masks).tolist() == [36, 50]
    opaque = Image.merge("LA", [Image.fromarray(numbers), Image.new("L", (30, 20), 255)])
    opaque.save(tmp_path / "PedMasks" / "a_mask.png")
    assert read(tmp_path)[1]["a"].boxes.tolist() == [[3, 2, 9, 8], [0, 10, 5, 20]]  # alpha is no number
    Image.fromarray(numbers).save(tmp_path / "PedMasks" / "a_mask.png", format="JPEG")
    with pytest.raises(EquicliError, match=r"a_mask\.png: a JPEG, in which numbers are not those that were drawn"):
        read(tmp_path)
    Image.fromarray(numbers[:, :-1]).save(tmp_path / "PedMasks" / "a_mask.png")
    with pytest.raises(EquicliError, match=r"a_mask\.png: 29x20 pixels, but its picture has 30x20"):
        read(tmp_path)


def test_lines_of_yolo_are_boxes_or_outlines_and_a_picture_without_a_file_has_no_objects(tmp_path: Path) -> None:
    for picture, frame in FRAMES.items():
        write_picture(tmp_path / "images" / "train" / f"{picture}.png", frame)
    labels = tmp_path / "labels" / "train"
    labels.mkdir(parents=True)
    lines = ["1 0.5 0.5 0.2 0.5", "0 0.25 0.25 0.5 0.5", "foo 1 2 3 4", "1 0.1 0.1 0 0.2", "1 0.5 0.5 0.2 0.5"]
    lines += ["1 1.6 0.5 0.2 0.5", "1 12 8 5 5", "1 nan 0 0.1 0.1", "1 0 0 0.5 0.5 1 1"]
    (labels / "a.txt").write_text("\n".join(lines))
    (labels / "b.txt").write_text("0 0 0 1 0 1 1\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    data, objects = read(tmp_path)
    assert data.classes == ("cat", "dog")
    assert np.allclose(objects["a"].boxes, [[12, 5, 18, 15], [0, 0, 15, 10]])
    assert objects["a"].labels.tolist() == [2, 1] and objects["a"].masks is None
    assert objects["b"].boxes.tolist() == [[0, 0, 20, 30]] and objects["b"].masks is None  # as others have none
    assert len(objects["c"]) == 0
    assert "2 of 3 objects have no outline: only boxes are evaluated" in data.remarks
    for why, count in {
        "that are no class with a box or an outline": 1,
        "whose box has no width or no height": 1,
        "that repeat another": 1,
        "whose box lies outside of the picture": 1,
        "whose numbers are no shares of the picture": 2,
        "whose outline covers nothing of the picture": 1,
    }.items():
        assert f"lines of YOLO's files {why}: {count} left out" in data.remarks
    assert "pictures without a file of labels, beside others: 1, without objects" in data.remarks
    (labels / "a.txt").write_text("")
    data, objects = read(tmp_path)
    assert len(objects["b"].masks) == 1 and not any("outline:" in remark for remark in data.remarks)
    (labels / "b.txt").write_text("5 0 0 1 0 1 1\n")
    with pytest.raises(EquicliError, match=r"data\.yaml: lists no class 5"):
        read(tmp_path)
    (tmp_path / "data.yaml").rename(tmp_path / "data.txt")
    (labels / "classes.txt").write_text("cat\ndog\n\n\n\nfox\n")
    assert read(tmp_path)[0].classes == ("cat", "dog", "fox")


def test_masks_go_into_run_lengths_and_back() -> None:
    masks = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.5
    encoded = encode(masks)
    assert torch.equal(decode(encoded, (7, 5)), masks)
    assert [runs(one["counts"], (7, 5)) for one in encoded] == list(encoded)
    assert decode(encode(masks[:0]), (7, 5)).shape == (0, 7, 5)
    assert mask_areas([outline([[0, 0, 5, 0, 5, 7, 0, 7]], (7, 5))]).tolist() == [35]


@pytest.mark.parametrize("counts", ["4", "0000b", "zzzz", "~", [35, -1, 1], [36], [1.5, 33.5]])
def test_run_lengths_that_do_not_fill_the_picture_are_refused(counts: Any) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        runs(counts, (7, 5))


@pytest.mark.real
def test_the_pictures_of_coco_are_read_whole(real_data: Path) -> None:
    data = Instances().open(real_data / "coco-tiny")
    assert data.test is not None and len(data.classes) == 80 and data.left_out.line() is None
    objects = read_objects(data.samples, {name: i for i, name in enumerate(data.classes)})
    assert (sum(map(len, objects)), sum(int(one.crowds.sum()) for one in objects)) == (705 + 815, 17)
