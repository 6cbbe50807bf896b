"""Real photos: as Pillow reads them, and the same to the image whatever their bits."""

import random

import numpy as np
import pytest
from PIL import Image, ImageOps

from equicli.data.decode import Decoder, open_image
from equicli.data.value_range import find_ranges
from tests.data.test_odd_pictures import png16

PHOTOS = 100


def photos_of(real_data, count):
    found = sorted(p for p in (real_data / "imagenette" / "val").rglob("*") if p.is_file())
    return random.Random(0).sample(found, count)


@pytest.mark.real
def test_photos_are_what_pillow_shows_of_them(real_data):
    for path in photos_of(real_data, PHOTOS):
        with Image.open(path) as image:
            expected = ImageOps.exif_transpose(image).convert("RGB")
        assert np.array_equal(np.asarray(open_image(path)), np.asarray(expected))


@pytest.mark.real
def test_photos_in_twelve_of_sixteen_bits_and_in_floats_show_the_same_pixels(real_data, tmp_path):
    """And so any network says the same of them, to the image."""
    shown, files = [], []
    for number, path in enumerate(photos_of(real_data, 20)):
        picture = open_image(path)
        colours, grey = np.asarray(picture), np.asarray(picture.convert("L"))
        names = [tmp_path / f"{number}-{kind}" for kind in ("colours", "grey", "floats")]
        names[0].write_bytes(png16((colours / 255 * 4095).round().astype(np.uint16), 2))
        Image.fromarray((grey / 255 * 4095).round().astype(np.uint16)).save(names[1], "TIFF")
        Image.fromarray((grey / 127.5 - 1).astype(np.float32)).save(names[2], "TIFF")
        files += names
        shown += [colours, np.stack([grey] * 3, axis=-1), np.stack([grey] * 3, axis=-1)]
    decoder = Decoder(find_ranges(seen for path in files if (seen := Decoder().look(path))))
    assert str(decoder.ranges.integers) == "0:4095" and str(decoder.ranges.floats) == "-1:1"
    assert all(np.array_equal(decoder.open(path), pixels) for path, pixels in zip(files, shown, strict=True))
