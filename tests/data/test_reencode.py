"""Compressing a picture again gives what its file would, opened by the one decoder."""

import pytest
import torch
from PIL import Image

from equicli.data.decode import open_image, to_image, to_pixels
from equicli.data.reencode import FORMATS, Encoding, find_encoding
from equicli.errors import EquicliError, UsageError


def picture(height=37, width=50):
    """Colours that compression changes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("encoding", "suffix", "options"),
    [
        (Encoding("jpeg", 75), ".jpg", {"quality": 75, "subsampling": "4:2:0"}),
        (Encoding("jpeg", 100), ".jpg", {"quality": 100, "subsampling": "4:2:0"}),
        (Encoding("webp", 50), ".webp", {"quality": 50}),
    ],
    ids=str,
)
def test_it_is_what_a_file_that_was_saved_so_is_opened_as(tmp_path, encoding, suffix, options):
    to_image(picture()).save(tmp_path / f"saved{suffix}", **options)
    again = encoding(picture())
    assert torch.equal(again, to_pixels(open_image(tmp_path / f"saved{suffix}")))
    assert again.shape == picture().shape and not torch.equal(again, picture())


@pytest.mark.parametrize("form", FORMATS)
def test_a_lower_quality_changes_more(form):
    fine, coarse = ((Encoding(form, quality)(picture()).float() - picture()).abs().mean() for quality in (95, 10))
    assert fine < coarse


def test_pictures_that_pillow_would_take_for_a_bomb_are_compressed_again(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert Encoding("jpeg", 75)(picture()).shape == picture().shape


@pytest.mark.parametrize(("form", "side"), [("jpeg", 65_536), ("webp", 16_384)])
def test_a_picture_that_the_format_has_no_room_for_is_told(form, side):
    with pytest.raises(EquicliError, match=rf"--reencode {form}:75: a picture of {side}x1 pixels") as refused:
        Encoding(form, 75)(torch.zeros(3, 1, side, dtype=torch.uint8))
    assert "\n" not in str(refused.value)


def test_a_format_and_a_quality_are_read_and_written_alike():
    for text in ("jpeg:75", "jpeg:1", "jpeg:100", "webp:9"):
        assert str(find_encoding(text, "file")) == text
    assert find_encoding("none", "file") is find_encoding("none", "input") is None


@pytest.mark.parametrize(
    "text",
    ["jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:075", "jpeg:7.5", "jpeg:-1", "jpeg:\u0667", "JPEG:75", "png:75", ""],
)
def test_anything_else_is_refused_in_one_line_with_what_there_is(text):
    with pytest.raises(UsageError, match="jpeg:QUALITY or webp:QUALITY, with a quality from 1 to 100, or none") as told:
        find_encoding(text, "file")
    assert str(told.value).startswith(f"--reencode {text}: ")


def test_tensors_are_in_no_format():
    with pytest.raises(UsageError, match=r"--reencode jpeg:75: .* --rotate input .*; add --rotate file"):
        find_encoding("jpeg:75", "input")
