"""Odd pictures, each made from nothing: what it is, and what is read of it.

Each row writes a file and says what `open_image` gives: an array of pixels, grey values of a ramp or a colour that fill
it, or the words with which it is refused. `data/PICTURES.md` has the rules.
"""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from equicli.data.decode import UnreadableImageError, open_image, read_picture
from equicli.data.formats import is_picture
from equicli.data.value_range import ValueRange, ValueRanges

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)
RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
UPRIGHT = np.zeros((16, 24, 3), np.uint8)
UPRIGHT[:8] = 255  # white above


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def grey(array, kind="TIFF", **options):
    return encoded(Image.fromarray(array), kind, **options)


def png_with(data, name, content, *, crc=None, before=b"IDAT"):
    """A chunk more in a PNG file."""
    at = data.index(before) - 4
    crc = zlib.crc32(name + content) if crc is None else crc
    return data[:at] + struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc) + data[at:]


def png16(array, kind):
    """A PNG file of 16 bits for each of several channels, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks
    )


def tiff_with(image, **options):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for number, (kind, value) in options.items():
        tags.tagtype[int(number[1:])] = kind
        tags[int(number[1:])] = value
    return encoded(image, "TIFF", tiffinfo=tags)


def tiff_of(bands, bits, planes=1, sample_format=1):
    """A grey or RGB TIFF file with a row of one pixel, of what Pillow does not write."""
    entries = {
        256: 1,
        257: 1,
        258: bits,
        259: 1,
        262: 2 if bands == 3 else 1,
        273: 8,
        277: bands,
        279: bands * bits // 8,
    }
    entries |= {284: planes, 339: sample_format}
    directory = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries.items())
    pixels = b"\x80" * (bands * bits // 8)
    end = 8 + len(pixels)
    return b"II*\0" + struct.pack("<I", end) + pixels + struct.pack("<H", len(entries)) + directory + b"\0" * 4


def jpeg_with(exif=b"", marker=0xE1):
    data = encoded(Image.fromarray(UPRIGHT), "JPEG", quality=100)
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def exif_of(kind, value, count=1, extra=b""):
    """An EXIF block whose orientation has a type and bytes of its own."""
    entry = struct.pack("<HHI", 0x0112, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0\0\0\0" + extra


def lab(colour):
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    return ImageCms.applyTransform(Image.new("RGB", (8, 8), colour), to_lab)


def camera_raw():
    return tiff_with(Image.new("RGB", (8, 8)), t50706=(1, b"\1\4\0\0"))


colours12 = np.stack([RAMP << 4 | RAMP >> 4, RAMP << 4 | RAMP >> 4, np.full_like(RAMP, 4095)], axis=-1)
twelve = (RAMP << 4 | RAMP >> 4).astype(np.uint16)  # 0…4095
sixteen = (RAMP * 257).astype(np.uint16)
IN12, SIGNED = ValueRanges(integers=ValueRange(0, 4095)), ValueRanges(floats=ValueRange(-1, 1))

ROWS = {
    # values of more than 8 bits
    "16 bits, full": (grey(sixteen), None, RAMP),
    "12 bits of 16, range of the training split": (grey(twelve), IN12, RAMP),
    "12 bits of 16, nothing known": (grey(twelve), None, (twelve / 257).round()),
    "12 bits of 16, PNG": (grey(twelve, "PNG"), IN12, RAMP),
    "12 bits of 16, RGB PNG": (png16(colours12, 2), IN12, np.stack([RAMP, RAMP, RAMP * 0 + 255], -1)),
    "12 bits of 16, LA PNG": (png16(np.stack([twelve, RAMP * 0 + 65535], -1), 4), IN12, RAMP),
    "12 bits, says so by MaxSampleValue": (tiff_with(Image.fromarray(twelve), t281=(3, 4095)), None, RAMP),
    "12 bits moved up, sBIT": (png_with(grey(twelve << 4 | twelve >> 8, "PNG"), b"sBIT", b"\x0c"), IN12, RAMP),
    "12 bits left below, sBIT": (png_with(grey(twelve, "PNG"), b"sBIT", b"\x0c"), None, RAMP),
    "12 bits, PGM says so": (b"P5 16 16 4095\n" + twelve.astype(">u2").tobytes(), None, RAMP),
    "10 bits, plain PGM says so": (
        b"P2 16 16 1023\n" + b" ".join(b"%d" % v for v in (RAMP.ravel() << 2 | RAMP.ravel() >> 6)), IN12, RAMP
    ),
    "16 bits, RGBA, half transparent": (
        png16(np.full((4, 4, 4), (0, 0, 0, 32896), np.uint16), 6), None, np.full((4, 4, 3), 127)
    ),
    "32-bit integers up to 255": (grey(RAMP.astype(np.int32)), None, RAMP),
    "big-endian 16 bits": (grey(sixteen.astype(">u2")), None, RAMP),
    "16 bits compressed": (grey(sixteen, compression="tiff_lzw"), None, RAMP),
    "16 bits, white is zero": (tiff_with(Image.fromarray(sixteen), t262=(3, 0)), None, 255 - RAMP),
    "floats 0…1": (grey((RAMP / 255).astype(np.float32)), None, RAMP),
    "floats -1…1": (grey((RAMP / 127.5 - 1).astype(np.float32)), SIGNED, RAMP),
    "floats -1…1, SMinSampleValue": (
        tiff_with(Image.fromarray((RAMP / 127.5 - 1).astype(np.float32)), t340=(11, -1.0), t341=(11, 1.0)), None, RAMP
    ),
    "floats -1…1, nothing known": (grey((RAMP / 127.5 - 1).astype(np.float32)), None, "from -1 to 1, outside of 0:1"),
    "a float that is no number": (grey(np.float32([[0, np.nan]])), None, "not a number"),
    "an infinite float": (grey(np.float32([[0, np.inf]])), SIGNED, "infinite"),
    "values beyond the range": (grey(sixteen), IN12, "outside of 0:4095"),
    # colours
    "CIELab": (encoded(lab(RED), "TIFF"), None, RED),
    "YCbCr": (encoded(Image.new("YCbCr", (8, 8), (76, 85, 255)), "TIFF"), None, RED),
    "CMYK": (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), None, RED),
    "one bit": (encoded(Image.new("1", (8, 8), 1), "TIFF"), None, WHITE),
    "grey with alpha": (encoded(Image.new("LA", (8, 8), (0, 0)), "PNG"), None, WHITE),
    "transparent 16-bit value": (png_with(grey(sixteen[:1, :1], "PNG"), b"tRNS", b"\0\0"), None, WHITE),
    "thirteen bands": (tiff_of(13, 16), None, "13 bands of 16-bit unsigned integers, which cannot be read"),
    "colours in planes of 16 bits": (tiff_of(3, 16, planes=2), None, "in planes"),
    "signed bytes": (tiff_of(1, 8, sample_format=2), None, "signed"),
    # metadata that cannot be read
    "broken EXIF": (jpeg_with(b"Exif\0\0" + b"\xff" * 30), None, UPRIGHT),
    "orientation is a list, of which Pillow takes the first": (
        jpeg_with(exif_of(3, b"\3\0\6\0", 2)), None, UPRIGHT[::-1, ::-1]
    ),
    "orientation is text": (jpeg_with(exif_of(2, b"6\0", 2)), None, UPRIGHT),
    "orientation 0": (jpeg_with(exif_of(3, b"\0\0")), None, UPRIGHT),
    "orientation 9": (jpeg_with(exif_of(3, b"\x09\0")), None, UPRIGHT),
    "orientation 3, as a long number": (jpeg_with(exif_of(4, b"\3\0\0\0")), None, UPRIGHT[::-1, ::-1]),
    "orientation 3, then nonsense": (jpeg_with(exif_of(3, b"\3\0", extra=b"\xff" * 9)), None, UPRIGHT[::-1, ::-1]),
    "a broken profile": (jpeg_with(b"ICC_PROFILE\0", 0xE2), None, UPRIGHT),
    "a broken list of frames": (jpeg_with(b"MPF\0II*\0\x08\0\0\0\xff\xff", 0xE2), None, UPRIGHT),
    "a broken profile in PNG": (
        png_with(encoded(Image.fromarray(UPRIGHT), "PNG"), b"iCCP", b"x\0\7nonsense"), None, UPRIGHT
    ),
    "a chunk with a wrong sum": (
        png_with(encoded(Image.fromarray(UPRIGHT), "PNG"), b"pHYs", b"\0" * 9, crc=7), None, UPRIGHT
    ),
    "resolution is text in TIFF": (
        tiff_with(Image.fromarray(UPRIGHT), t282=(2, "fine"), t283=(2, "fine")), None, UPRIGHT
    ),
    # formats
    "several frames": (
        encoded(Image.new("RGB", (8, 8), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
        None, RED
    ),
    "several pages": (
        encoded(Image.new("RGB", (8, 8), RED), "TIFF", save_all=True, append_images=[Image.new("L", (9, 3))]), None, RED
    ),
    "a stereo pair": (
        encoded(Image.fromarray(UPRIGHT), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], quality=100),
        None, UPRIGHT
    ),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", None, "not an image"),
    "Windows metafile": (b"\xd7\xcd\xc6\x9a" + b"\0" * 60, None, "not an image"),
    "a pointer of Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", None, "git lfs pull"),
    "a camera's raw file": (camera_raw(), None, "raw"),
    "nothing": (b"", None, "empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_an_odd_picture(tmp_path, name):
    data, ranges, expected = ROWS[name]
    path = tmp_path / "picture.dat"  # told by its content
    path.write_bytes(data)
    if isinstance(expected, str):
        with pytest.raises(UnreadableImageError) as caught:
            open_image(path, ranges)
        assert expected in caught.value.reason and "\n" not in str(caught.value)
        return
    assert is_picture(path)
    shown = open_image(path, ranges)
    pixels = np.asarray(shown).astype(int)
    wanted = np.asarray(expected)
    if wanted.ndim == 2:
        wanted = wanted[..., None]
    lossy = data[:2] == b"\xff\xd8" or name in ("CIELab", "YCbCr")
    assert np.abs(pixels - wanted).max() <= (8 if lossy else 0)
    assert torch.equal(read_picture(shown), torch.from_numpy(pixels).permute(2, 0, 1).to(torch.uint8))


def test_there_are_as_many_odd_pictures_as_were_promised():
    assert len(ROWS) >= 25


def test_a_heic_photo_is_read_with_the_extra_and_named_without_it(tmp_path, monkeypatch):
    path = tmp_path / "photo.jpg"  # as some phones name them
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 48), RED)).save(path, quality=100)
    assert is_picture(path)
    assert np.abs(np.asarray(open_image(path)).astype(int) - RED).max() <= 8
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    assert is_picture(path)
    with pytest.raises(UnreadableImageError, match=r"pip install 'equicli\[heif\]'"):
        open_image(path)


def test_a_picture_of_too_many_pixels_is_refused_with_the_limit_and_the_option(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("L", (300, 200)).save(path)
    with pytest.raises(UnreadableImageError) as caught:
        open_image(path, max_pixels=50_000)
    assert caught.value.reason == "300x200 are 60,000 pixels, more than 50,000; --max-pixels raises the limit"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own, which would warn or refuse
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(path).size == (300, 200)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_memory_that_gives_out_is_that_pictures_error(tmp_path, monkeypatch):
    def fail(self):
        raise MemoryError

    path = tmp_path / "large.png"
    Image.new("L", (30, 20)).save(path)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(UnreadableImageError, match="not enough memory"):
        open_image(path)


SEEDS = {
    "JPEG": encoded(Image.fromarray(UPRIGHT), "JPEG", exif=Image.Exif(), dpi=(72, 72), comment=b"a comment"),
    "PNG": png_with(encoded(Image.fromarray(UPRIGHT), "PNG", dpi=(72, 72)), b"eXIf", exif_of(3, b"\1\0")[6:]),
    "TIFF": tiff_with(Image.fromarray(UPRIGHT), t282=(5, 72.0), t270=(2, "a description"), t274=(3, 1)),
    "WEBP": encoded(Image.fromarray(UPRIGHT), "WEBP", lossless=True, exif=exif_of(3, b"\1\0"), xmp=b"<x/>"),
    "BMP": encoded(Image.fromarray(UPRIGHT), "BMP"),
    "GIF": encoded(Image.fromarray(UPRIGHT).convert("P"), "GIF", comment=b"a comment"),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_files_are_read_or_refused_in_one_line_and_never_anything_else(tmp_path, kind):
    draw, path, whole = np.random.default_rng(0), tmp_path / "picture", np.frombuffer(SEEDS[kind], np.uint8)
    read = 0
    for _ in range(60):
        damaged = whole.copy()
        damaged[draw.integers(0, len(whole), 3)] = draw.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            assert open_image(path, max_pixels=10_000).mode == "RGB"
            read += 1
        except UnreadableImageError as error:
            assert error.reason and "\n" not in str(error)
    assert read  # most damage is to what nobody needs


def span(data, start, end):
    return range(data.index(start), data.index(end))


# Where bytes are that no pixel needs.
BESIDE = {
    "JPEG": lambda data: [*span(data, b"JFIF", b"\xff\xe1"), *span(data, b"a comment", b"\xff\xdb")],
    "PNG": lambda data: [*span(data, b"pHYs", b"eXIf")[4:-4], *span(data, b"eXIf", b"IDAT")[4:-4]],
    "TIFF": lambda data: [data.index(struct.pack("<HH", 282, 5)) + i for i in range(2, 12)],
    "WEBP": lambda data: span(data, b"EXIF", b"XMP ")[8:-1],
}


@pytest.mark.parametrize("kind", BESIDE)
def test_damaged_metadata_costs_no_picture(tmp_path, kind):
    data, draw, path = SEEDS[kind], np.random.default_rng(1), tmp_path / "picture"
    where = np.array(list(BESIDE[kind](data)))
    path.write_bytes(data)
    expected = np.sort(np.asarray(open_image(path)).ravel())  # whichever way up
    for _ in range(60):
        damaged = np.frombuffer(data, np.uint8).copy()
        damaged[draw.choice(where, 4)] = draw.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        assert np.array_equal(np.sort(np.asarray(open_image(path)).ravel()), expected)


def test_libtiff_says_nothing_past_python_of_what_is_told_anyway(tmp_path, capfd):
    Image.effect_noise((32, 32), 50).save(tmp_path / "torn.tif", compression="tiff_lzw")
    torn = bytearray((tmp_path / "torn.tif").read_bytes())
    torn[40:60] = bytes(byte ^ 0x5A for byte in torn[40:60])
    (tmp_path / "torn.tif").write_bytes(torn)
    with pytest.raises(UnreadableImageError, match=r"torn\.tif"):
        open_image(tmp_path / "torn.tif")
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError), Image.open(tmp_path / "torn.tif") as image:
        image.load()
    assert capfd.readouterr().err  # whoever calls Pillow alone hears of it
