import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from equicli.data.decode import UnreadableImageError
from equicli.data.folders import Sample, Split
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError
from equicli.progress import Silent
from equicli.training import images as room
from equicli.training.images import read_training_images

AS_IS = Preprocess(None, None, "bilinear", HALF)


@pytest.fixture
def split(tmp_path):
    """Five training and three validation images of 12 pixels, labelled by their number."""
    samples = []
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        samples.append(Sample(tmp_path / f"{index}.png", index))
    return Split(tuple(samples[:5]), tuple(samples[5:]), ())


def read(split, size=12, features_of=None, strict=False, turn_back=lambda x: x, keep=True):
    return read_training_images(
        split,
        AS_IS,
        size,
        keep=keep,
        features_of=features_of,
        turn_back=turn_back,
        device=torch.device("cpu"),
        batch_size=3,
        strict=strict,
        progress=Silent(),
    )


def pixels(sample):
    return torch.from_numpy(np.array(Image.open(sample.path))).permute(2, 0, 1)


def test_training_and_validation_images_come_apart_with_their_labels(split):
    found = read(split)
    assert (found.train_labels.tolist(), found.validation_labels.tolist()) == ([0, 1, 2, 3, 4], [5, 6, 7])
    assert torch.equal(found.train, torch.stack([pixels(s) for s in split.train]))
    assert torch.equal(found.validation, torch.stack([pixels(s) for s in split.validation]))
    assert torch.equal(found.report, found.validation)
    assert found.features is None and found.samples.tolist() == list(range(8))
    assert found.unreadable == {}


@pytest.mark.parametrize(("size", "side"), [(6, 6), (12, 12), (20, 12)])
def test_images_are_shrunk_to_what_the_canonicalizer_looks_at_and_never_enlarged(split, size, side):
    found = read(split, size)
    assert (found.train.shape, found.train.dtype) == ((5, 3, side, side), torch.uint8)
    assert found.report.shape == (3, 3, 12, 12)
    means = torch.stack([pixels(s).float().mean() for s in split.train])
    torch.testing.assert_close(found.train.float().mean(dim=(1, 2, 3)), means, atol=6.0, rtol=0)


def test_unreadable_images_are_left_out_with_their_labels(split):
    for sample in (split.train[1], split.validation[0]):
        sample.path.write_text("no image")
    found = read(split)
    assert (found.train_labels.tolist(), found.validation_labels.tolist()) == ([0, 2, 3, 4], [6, 7])
    assert torch.equal(found.report, found.validation)
    assert found.unreadable == {str(s.path): "not an image" for s in (split.train[1], split.validation[0])}


def test_strict_reading_stops_at_an_unreadable_image(split):
    split.train[1].path.write_text("no image")
    with pytest.raises(UnreadableImageError):
        read(split, strict=True)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_part_of_which_nothing_can_be_read_is_told(split, part):
    for sample in getattr(split, part):
        sample.path.write_text("no image")
    with pytest.raises(EquicliError, match="too few readable images"):
        read(split)


def test_features_are_what_reaches_the_last_layer(split):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    found = read(split, features_of=network)
    with torch.inference_mode():
        expected = network[:3](HALF(torch.cat([found.train, found.validation])))
    torch.testing.assert_close(found.features, expected)


def test_unlabelled_images_have_labels_of_minus_one(split):
    unlabelled = Split(*(tuple(Sample(s.path, None) for s in part) for part in (split.train, split.validation)), ())
    assert read(unlabelled).train_labels.tolist() == [-1] * 5


def test_whole_images_and_their_labels_are_kept_for_some_validation_images_only(split, monkeypatch):
    monkeypatch.setattr(room, "REPORT_IMAGES", 2)
    found = read(split)
    assert len(found.report) == len(found.report_labels) == 2
    for image, label in zip(found.report, found.report_labels, strict=True):
        places = [i for i, other in enumerate(found.validation) if torch.equal(image, other)]
        assert label in found.validation_labels[places]
    again = read(split)
    assert torch.equal(found.report, again.report)


def test_without_a_size_whole_images_are_kept(split):
    found = read(split, None)
    assert torch.equal(found.train, torch.stack([pixels(s) for s in split.train]))


def test_where_none_are_wanted_only_labels_and_the_report_are_kept(split):
    found = read(split, keep=False)
    assert found.train.numel() == found.validation.numel() == 0
    assert (found.train_labels.tolist(), found.validation_labels.tolist()) == ([0, 1, 2, 3, 4], [5, 6, 7])
    assert torch.equal(found.report, torch.stack([pixels(s) for s in split.validation]))


def test_where_no_training_image_is_needed_none_is_opened(split):
    for sample in split.train:
        sample.path.write_text("no image")
    found = read(Split((), split.validation, ()), keep=False)
    assert len(found.train_labels) == 0 and len(found.report) == 3 and found.unreadable == {}


def test_features_are_those_of_images_turned_back_and_images_are_kept_as_they_are(split):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    found = read(split, features_of=network, turn_back=lambda x: torch.rot90(x, -1, (-2, -1)))
    assert torch.equal(found.train, torch.stack([pixels(s) for s in split.train]))
    with torch.inference_mode():
        expected = network[:3](HALF(torch.rot90(found.train, -1, (-2, -1))))
    torch.testing.assert_close(found.features[:5], expected)
