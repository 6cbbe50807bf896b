import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from equicli.data.decode import UnreadableImageError, read_picture
from equicli.data.fingerprint import fingerprint
from equicli.data.folders import Sample, Split
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.data.small_view import SmallView
from equicli.errors import EquicliError
from equicli.progress import Silent
from equicli.training.images import read_training_images

AS_IS = Preprocess(None, None, "bilinear", HALF)
WHOLE = SmallView(12, HALF)


def write(folder, frames):
    """Images of these heights and widths, and samples whose targets are their numbers."""
    samples = []
    for index, (height, width) in enumerate(frames):
        pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        samples.append(Sample(folder / f"{index}.png", index))
    return Split(tuple(samples[:5]), tuple(samples[5:]), ())


@pytest.fixture
def split(tmp_path):
    """Five training and three validation images of 12 pixels."""
    return write(tmp_path, [(12, 12)] * 8)


@pytest.fixture
def rectangles(tmp_path):
    """The same of several sizes and shapes."""
    return write(tmp_path, [(12, 12), (20, 30), (31, 20), (9, 27), (40, 40), (14, 21), (10, 10), (21, 14)])


def read(
    split,
    view=WHOLE,
    features_of=None,
    strict=False,
    turn_back=lambda x: x,
    keep=True,
    preprocess=AS_IS,
    look=WHOLE.of_picture,
):
    return read_training_images(
        split,
        preprocess,
        view,
        look=look,
        keep=keep,
        features_of=features_of,
        turn_back=turn_back,
        device=torch.device("cpu"),
        batch_size=3,
        strict=strict,
        progress=Silent(),
    )


def stacked(samples):
    return torch.stack([read_picture(sample.path) for sample in samples])


def targets(found):
    return list(found.train.targets), list(found.validation.targets)


def test_training_and_validation_images_come_apart_with_their_targets(split):
    found = read(split)
    assert targets(found) == ([0, 1, 2, 3, 4], [5, 6, 7])
    assert torch.equal(found.train.pixels, stacked(split.train))
    assert torch.equal(found.validation.pixels, stacked(split.validation))
    assert found.features is None and found.samples.tolist() == list(range(8))
    assert found.unreadable == {}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("size", [6, 12, 20])
def test_what_is_kept_is_the_small_view_of_each_picture_rounded_to_bytes(rectangles, size, whole):
    view = SmallView(size, HALF, whole)
    found = read(rectangles, view)
    assert (found.train.pixels.shape, found.train.pixels.dtype) == ((5, 3, size, size), torch.uint8)
    for kept, sample in zip(found.train.pixels, rectangles.train, strict=True):
        difference = kept.float() - view.pixels(read_picture(sample.path))
        assert difference.abs().max() <= 0.5 + 1e-4


def test_the_aspects_of_squashed_pictures_are_kept_and_central_squares_have_none(rectangles):
    found = read(rectangles)
    assert found.train.aspects.tolist() == pytest.approx([1, 30 / 20, 20 / 31, 27 / 9, 1])
    assert found.validation.aspects.tolist() == pytest.approx([21 / 14, 1, 14 / 21])
    assert set(read(rectangles, SmallView(12, HALF, whole=False)).train.aspects.tolist()) == {1}


def test_of_validation_pictures_what_evaluation_sees_is_kept_unrounded(rectangles):
    view = SmallView(6, HALF)
    found = read(rectangles, view, look=view.of_picture)
    seen = [view.of_picture(read_picture(sample.path)) for sample in rectangles.validation]
    assert torch.equal(found.validation.looks, torch.stack(seen)) and found.train.looks is None
    assert not torch.equal(HALF(found.validation.pixels), found.validation.looks)


def test_files_that_were_read_are_known_by_their_content(split, tmp_path):
    split.validation[0].path.write_text("no image")
    found = read(split)
    assert found.fingerprints.keys() == {s.path for s in split.train + split.validation[1:]}
    copy = tmp_path / "copy.png"
    shutil.copy(split.train[2].path, copy)
    assert [path for path, of in found.fingerprints.items() if of == fingerprint(copy)] == [split.train[2].path]


def test_unreadable_images_are_left_out_with_their_targets(split):
    for sample in (split.train[1], split.validation[0]):
        sample.path.write_text("no image")
    found = read(split)
    assert targets(found) == ([0, 2, 3, 4], [6, 7])
    assert found.samples.tolist() == [0, 2, 3, 4, 6, 7]
    assert len(found.train) == len(found.train.aspects) == 4
    assert found.unreadable == {s.path: "not an image" for s in (split.train[1], split.validation[0])}


def test_strict_reading_stops_at_an_unreadable_image(split):
    split.train[1].path.write_text("no image")
    with pytest.raises(UnreadableImageError):
        read(split, strict=True)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_part_of_which_nothing_can_be_read_is_told(split, part):
    for sample in getattr(split, part):
        sample.path.write_text("no image")
    with pytest.raises(EquicliError, match="images can be read"):
        read(split)


def network(side=12):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 4), nn.ReLU(), nn.Linear(4, 2)).eval()


def test_features_are_what_reaches_the_last_layer(split):
    classifier = network()
    found = read(split, features_of=classifier)
    with torch.inference_mode():
        expected = classifier[:3](HALF(stacked(split.train + split.validation)))
    torch.testing.assert_close(found.features, expected)


def test_features_are_those_of_whole_pictures_as_the_network_is_shown_them(rectangles):
    classifier, preprocess = network(), Preprocess(12, 14, "bilinear", HALF)
    found = read(rectangles, SmallView(6, HALF), features_of=classifier, preprocess=preprocess)
    shown = [preprocess(read_picture(s.path)) for s in rectangles.train + rectangles.validation]
    with torch.inference_mode():
        torch.testing.assert_close(found.features, classifier[:3](HALF(torch.stack(shown))))
    assert found.train.pixels.shape == (5, 3, 6, 6)


def test_features_of_pictures_of_several_sizes_are_collected_one_by_one(rectangles):
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    found = read(rectangles, features_of=classifier)
    with torch.inference_mode():
        expected = [classifier[:3](HALF(read_picture(s.path))[None]) for s in rectangles.train + rectangles.validation]
    torch.testing.assert_close(found.features, torch.cat(expected))


def test_images_without_a_target_have_none(split):
    untold = Split(*(tuple(Sample(s.path) for s in part) for part in (split.train, split.validation)), ())
    assert targets(read(untold)) == ([None] * 5, [None] * 3)


def test_without_a_view_inputs_of_the_network_are_kept(rectangles):
    preprocess = Preprocess(8, 10, "bicubic", HALF)
    found = read(rectangles, None, preprocess=preprocess)
    shown = torch.stack([preprocess(read_picture(sample.path)) for sample in rectangles.train])
    assert torch.equal(found.train.pixels, shown)
    assert set(found.train.aspects.tolist()) == {1}  # what was cropped is not squashed


@pytest.mark.parametrize("frames", [[(12, 12)] * 6 + [(16, 16)] * 2, [(12, 15)] * 8], ids=["sizes", "rectangles"])
def test_inputs_of_the_network_that_cannot_be_stacked_are_refused_in_one_line_with_the_remedy(tmp_path, frames):
    with pytest.raises(EquicliError, match=r"\d\.png: \d+x\d+ pixels; .*task_weight.*--image-size N") as caught:
        read(write(tmp_path, frames), None)
    assert "\n" not in str(caught.value)


def test_where_none_are_wanted_only_targets_are_kept(rectangles):
    found = read(rectangles, keep=False)
    assert found.train.pixels.numel() == found.validation.pixels.numel() == 0
    assert targets(found) == ([0, 1, 2, 3, 4], [5, 6, 7])
    assert (len(found.train), len(found.validation)) == (5, 3)


def test_where_no_training_image_is_needed_none_is_opened(split):
    for sample in split.train:
        sample.path.write_text("no image")
    found = read(Split((), split.validation, ()), keep=False)
    assert len(found.train) == 0 and len(found.validation) == 3 and found.unreadable == {}


def test_features_are_those_of_images_turned_back_and_images_are_kept_as_they_are(split):
    classifier = network()
    found = read(split, features_of=classifier, turn_back=lambda x: torch.rot90(x, -1, (-2, -1)))
    assert torch.equal(found.train.pixels, stacked(split.train))
    with torch.inference_mode():
        expected = classifier[:3](HALF(torch.rot90(found.train.pixels, -1, (-2, -1))))
    torch.testing.assert_close(found.features[:5], expected)
