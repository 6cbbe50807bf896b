import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from equicli.data.decode import open_image, to_image, to_pixels
from equicli.data.normalization import HALF, IMAGENET
from equicli.data.preprocess import INTERPOLATIONS, Placement, Preprocess
from equicli.groups import PlanarGroup, parse_group
from equicli.groups.action import act

edges = st.integers(5, 70)
interpolations = st.sampled_from(sorted(INTERPOLATIONS))


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(edges, edges, st.integers(8, 50), st.integers(0, 12), interpolations)
@settings(deadline=None, max_examples=150)
def test_pixels_are_those_of_torchvisions_resize_and_centre_crop(width, height, resize, less, interpolation):
    size = max(1, resize - less)
    theirs = Compose([Resize(resize, InterpolationMode(interpolation)), CenterCrop(size), PILToTensor()])
    ours = Preprocess(size, resize, interpolation, HALF)
    picture = noise(width, height)
    assert torch.equal(ours(picture), theirs(picture))


@given(edges, edges, st.integers(8, 30), st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_a_crop_larger_than_the_picture_is_padded_as_torchvision_pads(width, height, resize, more):
    theirs = Compose([Resize(resize), CenterCrop(resize + more), PILToTensor()])
    picture = noise(width, height)
    assert torch.equal(Preprocess(resize + more, resize, "bilinear", HALF)(picture), theirs(picture))


@given(edges, edges, st.integers(8, 50), st.integers(0, 12), interpolations)
@settings(deadline=None, max_examples=40)
def test_squashing_is_torchvisions_resize_of_both_edges(width, height, resize, less, interpolation):
    size = max(1, resize - less)
    theirs = Compose([Resize((resize, resize), InterpolationMode(interpolation)), CenterCrop(size), PILToTensor()])
    picture = noise(width, height)
    assert torch.equal(Preprocess(size, resize, interpolation, HALF, squash=True)(picture), theirs(picture))


@pytest.mark.parametrize(("width", "height"), [(7, 5), (1, 1), (32, 32)])
def test_without_a_size_the_pixels_are_taken_as_they_are(width, height):
    picture = noise(width, height)
    pixels = Preprocess(None, None, "bilinear", HALF)(picture)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, PILToTensor()(picture))


def test_preprocessing_leaves_the_picture_alone():
    picture = noise(9, 7)
    before = picture.tobytes()
    Preprocess(None, None, "bilinear", HALF)(picture).zero_()
    Preprocess(4, 5, "bilinear", HALF)(picture).zero_()
    assert picture.tobytes() == before


@given(edges, edges, st.integers(8, 30), st.integers(-12, 12), interpolations, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_pixels_in_a_tensor_give_what_the_picture_gives(width, height, resize, more, interpolation, squash, floor):
    preprocess = Preprocess(max(1, resize + more), resize, interpolation, HALF, squash, floor)
    picture = noise(width, height)
    assert torch.equal(preprocess(to_pixels(picture)), preprocess(picture))


@given(edges, edges, st.integers(8, 30), st.integers(-12, 12), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_placement_tells_where_the_input_lies_in_the_picture(width, height, resize, more, squash, floor):
    size = max(1, resize + more)
    preprocess = Preprocess(size, resize, "bicubic", HALF, squash, floor)
    found = preprocess.placement((height, width))
    picture = noise(width, height)
    resized = picture.resize((found.width, found.height), Image.Resampling.BICUBIC)
    box = (found.left, found.top, found.left + size, found.top + size)
    assert torch.equal(preprocess(picture), to_pixels(resized.crop(box)))
    # Central, to half a pixel and what is rounded to the next.
    for start, extent in ((found.left, found.width), (found.top, found.height)):
        assert abs(start + size / 2 - extent / 2) <= 1


def test_a_picture_that_is_taken_as_it_is_lies_in_its_own_place():
    assert Preprocess(None, None, "bilinear", HALF).placement((5, 7)) == Placement(7, 5, 0, 0)


@pytest.mark.parametrize(("floor", "left"), [(False, 2), (True, 1)])
def test_an_odd_margin_is_rounded_or_split_as_transformers_splits_it(floor, left):
    assert Preprocess(8, 8, "bilinear", HALF, floor=floor).placement((8, 11)) == Placement(11, 8, left, 0)


PLACED = {
    "as it is": Preprocess(None, None, "bilinear", HALF),
    "crop": Preprocess(24, 32, "bilinear", HALF),
    "squash": Preprocess(32, 32, "bilinear", HALF, squash=True),
    "squash and crop": Preprocess(24, 28, "bilinear", HALF, squash=True),
    "pad": Preprocess(48, 32, "bilinear", HALF),
    "floor": Preprocess(24, 31, "bilinear", HALF, floor=True),
}
FRAMES = [(64, 64), (60, 91), (97, 48)]


def brightest(pixels):
    """The centre of what is bright, x and y."""
    weights = pixels.double().mean(dim=0)
    x, y = (torch.arange(side) + 0.5 for side in weights.shape[::-1])
    return torch.stack([(weights.sum(0) * x).sum(), (weights.sum(1) * y).sum()]) / weights.sum()


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("preprocess", PLACED.values(), ids=PLACED)
def test_a_keypoint_of_the_input_is_restored_to_where_it_is_in_the_picture(preprocess, frame):
    height, width = frame
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for spot in ((0.45, 0.55), (0.55, 0.5), (0.5, 0.45)):
        wanted = torch.tensor([spot[0] * width, spot[1] * height])
        blob = 255 * torch.exp(-((x - wanted[0]) ** 2 + (y - wanted[1]) ** 2) / 40)
        seen = brightest(preprocess(blob.round().to(torch.uint8).expand(3, -1, -1).contiguous()))
        restored = preprocess.restore(seen.float(), "keypoints", frame)
        torch.testing.assert_close(restored, wanted, atol=0.3, rtol=0)


@given(edges, edges, st.integers(8, 30), st.integers(-6, 12), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_keypoints_and_boxes_are_restored_alike_and_the_whole_input_to_what_it_shows(
    width, height, resize, more, squash, floor
):
    size = max(1, resize + more)
    preprocess = Preprocess(size, resize, "bilinear", HALF, squash, floor)
    points = torch.rand(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * size
    restored = preprocess.restore(points, "keypoints", (height, width))
    assert torch.equal(preprocess.restore(points.flatten(), "boxes", (height, width)), restored.flatten())
    found = preprocess.placement((height, width))
    scale, start = torch.tensor([found.width / width, found.height / height]), torch.tensor([found.left, found.top])
    torch.testing.assert_close(restored * scale - start, points, atol=1e-4, rtol=0)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("preprocess", PLACED.values(), ids=PLACED)
def test_a_mask_of_the_input_is_restored_to_the_pixels_it_is_of(preprocess, frame, dtype):
    height, width = frame
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[height // 4 : height // 2, width // 3 : width - width // 4] = True
    everything = torch.full((3, height, width), 255, dtype=torch.uint8)
    seen = preprocess(everything * mask)[:1] > 127
    shown = preprocess.restore((preprocess(everything)[:1] > 127).to(dtype), "mask", frame)[0].bool()
    restored = preprocess.restore(seen.to(dtype), "mask", frame)
    assert restored.shape == (1, height, width) and restored.dtype == dtype
    assert not restored[0].bool()[~shown].any()
    differs = (restored[0].bool() != mask) & shown
    assert differs.float().mean() < 0.05
    inside = torch.nn.functional.max_pool2d((~mask)[None].float(), 9, 1, 4)[0] == 0
    assert inside.any() and not differs[inside].any()


def test_a_mask_of_another_resolution_than_the_input_is_brought_to_it():
    preprocess = PLACED["crop"]
    coarse = torch.eye(6).repeat_interleave(4, 0).repeat_interleave(4, 1)
    restored = preprocess.restore(torch.eye(6), "mask", (60, 91))
    assert torch.equal(restored, preprocess.restore(coarse, "mask", (60, 91)))


def test_parts_are_restored_by_their_kinds_and_answers_about_the_whole_stay_as_they_are():
    preprocess, frame = PLACED["crop"], (60, 91)
    boxes, logits = torch.tensor([[1.0, 2.0, 9.0, 20.0]]), torch.rand(4)
    kinds = {"boxes": "boxes", "pair": ("logits", "keypoints"), "none": "mask"}
    found = preprocess.restore({"boxes": boxes, "pair": (logits, boxes[:, :2]), "none": None}, kinds, frame)
    assert torch.equal(found["boxes"], preprocess.restore(boxes, "boxes", frame))
    assert found["pair"][0] is logits and found["none"] is None
    assert torch.equal(found["pair"][1], preprocess.restore(boxes[:, :2], "keypoints", frame))
    assert PLACED["as it is"].restore(boxes, "boxes", frame) is boxes


def test_what_lies_in_no_picture_cannot_be_restored_to_one():
    with pytest.raises(ValueError, match="'points' cannot be carried back"):
        PLACED["crop"].restore(torch.zeros(4, 3), "points", (60, 91))


def test_flags_change_what_they_name_and_nothing_else():
    given_ = Preprocess(224, 256, "bicubic", IMAGENET, squash=True, floor=True)
    assert given_.override("checkpoint") == given_ == given_.override("checkpoint", image_size=224)
    bare = given_.override("none", mean=HALF.mean, std=HALF.std)
    assert (bare.size, bare.resize, bare.normalization) == (None, None, HALF)
    larger = given_.override("checkpoint", std=(0.1, 0.2, 0.3), image_size=448)
    assert (larger.size, larger.resize, larger.squash, larger.floor) == (448, 512, True, True)
    assert larger.normalization == (IMAGENET.mean, (0.1, 0.2, 0.3))


@pytest.mark.parametrize("name", ["c1", "c2", "c4", "d4"])
@pytest.mark.parametrize(("height", "width"), [(6, 6), (7, 7), (5, 9), (9, 6)])
def test_turning_the_picture_is_the_same_as_turning_the_file(tmp_path, name, height, width):
    group, preprocess = parse_group(name), Preprocess(5, 6, "bicubic", HALF)
    stored = to_pixels(noise(width, height))
    for g in group.elements():
        turned = act(group, g, stored)
        to_image(turned).save(tmp_path / "turned.png")
        assert torch.equal(preprocess(turned), preprocess(open_image(tmp_path / "turned.png")))


def test_a_picture_is_turned_off_the_grid_before_it_is_preprocessed():
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    waves = torch.from_numpy(127 + 60 * np.sin(2 * x + y)).expand(3, -1, -1)
    turned = Preprocess(16, 48, "bilinear", HALF)(act(PlanarGroup(8), 1, waves.round().to(torch.uint8)))
    expected = act(PlanarGroup(8), 1, waves.round())[:, 16:32, 24:40]
    assert turned.shape == (3, 16, 16)
    assert (turned.double() - expected).abs().max() <= 0.5


@pytest.mark.parametrize(("height", "width"), [(1, 60_000), (60_000, 1), (2, 200_000), (3, 40_000)])
def test_the_work_for_a_long_and_thin_picture_is_bounded(monkeypatch, height, width):
    made = []
    resize = Image.Image.resize

    def watched(self, size, *arguments, **options):
        made.append(size[0] * size[1])
        return resize(self, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "resize", watched)
    picture = torch.full((3, height, width), 9, dtype=torch.uint8)
    picture[:, height // 2, width // 2] = 200
    shown = Preprocess(224, 256, "bicubic", HALF)(picture)
    assert shown.shape == (3, 224, 224) and shown.max() > 190
    assert max(made) <= 224 * 224


@pytest.mark.parametrize("squash", [False, True])
def test_what_is_cropped_of_a_long_picture_is_what_would_have_been_cropped(monkeypatch, squash):
    picture = to_image(to_pixels(noise(40, 300)))
    preprocess = Preprocess(24, 30, "bilinear", HALF, squash=squash)
    expected = preprocess(picture)
    monkeypatch.setattr("equicli.data.preprocess._LARGEST", 0)
    assert (preprocess(picture).int() - expected.int()).abs().max() <= 1


def test_a_mask_is_carried_back_to_a_long_picture_without_making_it_larger():
    preprocess = Preprocess(16, 16, "bilinear", HALF)
    mask = torch.ones(16, 16, dtype=torch.int64)
    restored = preprocess.restore(mask, "mask", (2, 100_000))
    assert restored.shape == (2, 100_000) and restored.sum() == 4 and restored[:, 49_999:50_001].all()
