import numpy as np
import pytest
import torch
from PIL import Image

import equicli
from equicli.adapted import AdaptedModel
from equicli.data.decode import UnreadableImageError, open_image, read_picture, read_pictures, to_image
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import UsageError
from tests.canonicalization.examples import conv_canonicalizer

# What a viewer shows of stored pixels, by the value of the EXIF tag (JEITA CP-3451, 4.6.4).
SHOWN = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}
RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def decoded(path):
    picture = open_image(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


def save(path, image, **options):
    image.save(path, **options)
    return decoded(path)


def blocks():
    """Six flat blocks of different colours, uint8 (32, 48, 3): JPEG keeps them apart."""
    colours = np.array([[RED, (0, 255, 0), (0, 0, 255)], [WHITE, BLACK, (255, 255, 0)]], dtype=np.uint8)
    return colours.repeat(16, axis=0).repeat(16, axis=1)


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_exif_orientation_is_applied_once(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    shown = save(tmp_path / f"a.{suffix}", Image.fromarray(blocks()), exif=exif, **options)
    expected = SHOWN[orientation](blocks())
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= (8 if suffix == "jpg" else 0)


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_the_exif_orientation_is_applied_to_tiffs_of_every_mode(tmp_path, orientation, mode, compression):
    stored = blocks()[:, 8:]
    grey = Image.fromarray(stored[..., 0].astype(np.uint16) * 257)
    image = grey if mode == "I;16" else Image.fromarray(stored).convert(mode)
    upright = save(tmp_path / "upright.tif", image)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = save(tmp_path / "a.tif", image, exif=exif, compression=compression)
    assert np.array_equal(shown, SHOWN[orientation](upright))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path, suffix, byte_order):
    values = np.linspace(0, 65535, 900).reshape(30, 30).round().astype(byte_order)
    shown = save(tmp_path / f"a.{suffix}", Image.fromarray(values))
    expected = (values.astype(float) / 257).round()
    assert np.array_equal(shown, expected[..., None].repeat(3, axis=-1))


def test_floating_point_grey_is_scaled_from_one(tmp_path):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(save(tmp_path / "a.tif", Image.fromarray(values))[..., 1].ravel(), np.arange(256))


@pytest.mark.parametrize("values", [np.float32([[0, 200]]), np.int32([[0, 70000]])], ids=["float", "int"])
def test_values_above_full_scale_are_refused_and_told(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match="outside of"):
        open_image(tmp_path / "a.tif")


def palette(*entries, transparent):
    image = Image.new("P", (2, 2))
    image.putpalette([value for entry in entries for value in entry])
    image.putdata([1, 0, 1, 0])
    image.info["transparency"] = transparent
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (2, 2), (*RED, 0)), WHITE),
        (Image.new("RGBA", (2, 2), (*RED, 255)), RED),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("LA", (2, 2), (0, 0)), WHITE),
        (Image.new("LA", (2, 2), (0, 204)), (51, 51, 51)),
        (palette(RED, BLACK, transparent=1), WHITE),
        (palette(RED, BLACK, transparent=0), BLACK),
        (palette(RED, BLACK, transparent=bytes([255, 51])), (204, 204, 204)),
    ],
)
def test_transparent_pixels_are_laid_on_white(tmp_path, image, expected):
    assert tuple(save(tmp_path / "a.png", image)[0, 0]) == expected


def test_a_transparent_colour_of_an_rgb_image_is_laid_on_white(tmp_path):
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), (1, 2, 3))
    assert save(tmp_path / "a.png", image, transparency=(1, 2, 3)).tolist() == [[list(RED), list(WHITE)]]


@pytest.mark.parametrize(
    ("image", "name", "expected"),
    [
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "a.tif", RED),
        (Image.new("L", (2, 2), 77), "a.png", (77, 77, 77)),
        (Image.new("1", (2, 2), 1), "a.png", WHITE),
        (Image.new("1", (2, 2), 0), "a.tif", BLACK),
        (Image.new("P", (2, 2), 0, ), "a.gif", BLACK),
        (Image.new("RGB", (2, 2), RED).convert("P"), "a.png", RED),
        (Image.new("RGB", (2, 2), RED), "a.bmp", RED),
        (Image.new("RGB", (2, 2), RED), "a.ppm", RED),
        (Image.new("RGB", (2, 2), RED), "a.tga", RED),
    ],
)  # fmt: skip
def test_every_kind_of_colour_becomes_rgb(tmp_path, image, name, expected):
    assert (save(tmp_path / name, image) == expected).all()


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path):
    shown = save(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=100)
    assert np.abs(shown.astype(int) - RED).max() <= 8


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLACK)]
    assert (save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:]) == RED).all()


def truncated(suffix):
    def write(path):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, format=suffix)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return write


@pytest.mark.parametrize(
    "write",
    [
        *(pytest.param(truncated(kind), id=f"truncated {kind}") for kind in ("jpeg", "png", "bmp", "tiff", "webp")),
        pytest.param(lambda path: path.write_text("no picture\n"), id="text"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), id="signature only"),
        pytest.param(lambda path: path.mkdir(), id="folder"),
        pytest.param(lambda path: None, id="missing"),
    ],
)
def test_a_file_without_a_whole_picture_is_unreadable_for_a_reason_of_one_line_without_the_path(tmp_path, write):
    path = tmp_path / "picture.jpg"
    write(path)
    with pytest.raises(UnreadableImageError) as error:
        open_image(path)
    assert error.value.reason and "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: unreadable image ({error.value.reason})")
    assert "picture.jpg" not in error.value.reason


def tensor(array):
    return torch.from_numpy(np.array(array, order="C")).permute(2, 0, 1)


def test_there_is_one_decoder_and_the_package_offers_it():
    assert equicli.open_image is open_image


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_picture_is_the_same_by_its_path_or_opened_by_pillow(tmp_path, orientation, suffix):
    path, exif = tmp_path / f"a.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(blocks()[:, 8:]).save(path, exif=exif)
    expected = tensor(open_image(path))
    assert expected.dtype == torch.uint8
    assert torch.equal(read_picture(path), expected) and torch.equal(read_picture(str(path)), expected)
    assert torch.equal(read_picture(open_image(path)), expected)
    with Image.open(path) as image:
        assert torch.equal(read_picture(image), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_an_array_is_read_as_the_file_that_has_its_pixels(tmp_path, mode, dtype):
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    array = values[..., 0] if mode == "L" else values[..., : len(mode)]
    Image.fromarray(array).save(tmp_path / "a.png")
    given = array if dtype is np.uint8 else array.astype(dtype) / 255
    assert torch.equal(read_picture(given), tensor(open_image(tmp_path / "a.png")))
    assert torch.equal(read_picture(given[::-1, ::2]), read_picture(np.ascontiguousarray(given[::-1, ::2])))


def test_a_tensor_of_pixels_is_a_picture_as_it_is():
    pixels = tensor(blocks())
    assert read_picture(pixels) is pixels
    assert torch.equal(read_picture(to_image(pixels)), pixels)


def test_sixteen_bit_images_in_memory_are_scaled_and_not_clipped():
    values = np.array([[0, 257, 65535]], dtype=np.uint16)
    assert read_picture(Image.fromarray(values))[0].tolist() == [[0, 1, 255]]


def test_one_picture_is_a_batch_of_one_and_a_batch_comes_apart(tmp_path):
    pixels = tensor(blocks())
    Image.fromarray(blocks()).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    batches = [path, str(path), Image.fromarray(blocks()), blocks(), pixels, [pixels], (path,), pixels[None]]
    batches += [blocks()[None], iter([path])]
    for batch in batches:
        (found,) = read_pictures(batch)
        assert torch.equal(found, pixels)
    assert read_pictures([]) == []
    several = read_pictures([path, blocks()[:4], pixels[:, :3, :2]])
    assert [picture.shape[1:] for picture in several] == [(32, 48), (4, 48), (3, 2)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(3, 4, 4), "float32"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "(4, 4, 3)"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), "(3, 0, 4)"),
        (np.zeros((4, 4, 2), np.uint8), "(4, 4, 2)"),
        (np.zeros(4, np.uint8), "(4,)"),
        (np.zeros((0, 4, 3)), "(0, 4, 3)"),
        (np.zeros((4, 4), bool), "bool"),
        (np.full((4, 4), 1.5), "outside of 0:1"),
        (np.full((4, 4), -0.5), "outside of 0:1"),
        (np.array([[0.5, np.nan]]), "not a number"),
        (np.array([[0.5, np.inf]]), "infinite"),
        (np.array([[0, 70000]]), "outside of 0:65535"),
        (Image.fromarray(np.float32([[0, 200]])), "outside of 0:1"),
        (None, "NoneType"),
        (7, "int"),
        (b"pixels", "bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_picture_is_refused_in_one_line(value, words):
    with pytest.raises(UsageError) as caught:
        read_picture(value)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_file_opened_by_pillow_is_refused_in_one_line(tmp_path):
    truncated("jpeg")(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image, pytest.raises(UsageError, match="cannot be read"):
        read_picture(image)


def test_a_model_sees_the_same_picture_however_it_is_handed_over(tmp_path):
    exif, path = Image.Exif(), tmp_path / "a.png"
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, exif=exif)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 5))
    model = AdaptedModel(conv_canonicalizer("c4"), network, Preprocess(16, 18, "bicubic", HALF))
    shown = np.rot90(noise, -1)
    expected = model.predict(tensor(shown))
    for picture in (path, str(path), Image.open(path), open_image(path), shown, shown / 255):
        found = model.predict(picture)
        assert torch.equal(found.output, expected.output) and torch.equal(found.pose.scores, expected.pose.scores)
