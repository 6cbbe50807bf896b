"""Pictures are told by their first bytes."""

import os

import pytest
from PIL import Image

from equicli.data.formats import format_of, is_picture

SAVED = {
    "JPEG": ("RGB", "L", "CMYK"),
    "MPO": ("RGB",),
    "PNG": ("RGB", "L", "P", "1", "RGBA", "LA", "I;16"),
    "GIF": ("P", "L"),
    "TIFF": ("RGB", "L", "F", "I;16", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "1", "P"),
    "PPM": ("RGB", "L", "1", "I;16", "F"),
    "JPEG2000": ("RGB", "L"),
    "TGA": ("RGB", "RGBA", "L", "LA", "P", "1"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in SAVED.items() for mode in modes])
def test_a_picture_is_told_by_its_first_bytes_whatever_its_suffix(tmp_path, kind, mode):
    path = tmp_path / "picture.doc"
    Image.new(mode, (300, 200)).save(path, kind)
    assert is_picture(path) and is_picture(str(path))
    assert format_of(path.read_bytes()[:64]) == {"MPO": "JPEG"}.get(kind, kind)


def box(major, *compatible):
    brands = b"".join(compatible)
    return (16 + len(brands)).to_bytes(4, "big") + b"ftyp" + major + b"\0\0\0\0" + brands + b"\0\0\0\x2dmeta"


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (box(b"heic", b"mif1", b"heic"), "HEIF"),
        (box(b"mif1", b"mif1", b"heic"), "HEIF"),
        (box(b"mif1", b"mif1", b"avif"), "AVIF"),
        (box(b"avif", b"avif", b"mif1"), "AVIF"),
        (box(b"isom", b"isom", b"mp42"), None),
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"P2\n# by a scanner\n2 2\n255\n", "PPM"),
        (b"P1 is the first of our places", None),
        (b"BMW and other makes of cars, listed", None),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", None),
        (b"\xd7\xcd\xc6\x9a\0\0", None),  # WMF
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0", None),  # an icon
        (b"\0\0\x08\x03\0\0\xea\x60\0\0\0\x1c\0\0\0\x1c", None),  # MNIST
        (b"\0" * 64, None),
        (b"\x80\x02}q\0.", None),
        (b"", None),
    ],
)  # fmt: skip
def test_other_first_bytes(head, found):
    assert format_of(head) == found


def test_what_cannot_be_opened_is_no_picture(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "good.png").symlink_to(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("link.png", "pipe.png", "folder.png", "missing.png", "a\0b.png"):
        assert not is_picture(tmp_path / name)
    assert is_picture(tmp_path / "good.png")
