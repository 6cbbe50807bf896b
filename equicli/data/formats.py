"""Which files are pictures: told by their first bytes, whatever their suffix says.

The formats are an allow-list. Nothing that starts a program (EPS), or that reads other files, is on it.
"""

import re
from pathlib import Path

HEAD = 64  # bytes of a file that are looked at

# Most of a format's name is Pillow's.
_STARTS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    # Portable maps; a comment or a number follows, so that a sentence about "P1" is none.
    "PPM": re.compile(rb"P[1-6]\s+[#\d]|Pf\s+\d"),
    "JPEG2000": re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
    # Targa has no signature: an identifier's length, then colour map and kind of image that fit each other, the map,
    # an origin, a size that is not empty, and a depth.
    "TGA": re.compile(
        rb".(?:\x01[\x01\x09].{4}[\x0f\x10\x18\x20]|\0[\x02\x03\x0a\x0b].{5}).{4}(?!\0\0)..(?!\0\0)..[\x08\x10\x18\x20]",
        re.DOTALL,
    ),
}
_FILE_TYPE = re.compile(rb".{4}ftyp(.{4}).{4}((?:[ -~]{4})*)", re.DOTALL)  # a box of MPEG's, of brands
_BRANDS = {"AVIF": {b"avif", b"avis"}, "HEIF": {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}}


def format_of(head: bytes) -> str | None:
    """The format of the picture whose first bytes these are; None for whatever is not read."""
    if found := _FILE_TYPE.match(head):
        brands = {found[1], *(found[2][i : i + 4] for i in range(0, len(found[2]), 4))}
        return next((name for name, known in _BRANDS.items() if brands & known), None)
    return next((name for name, start in _STARTS.items() if start.match(head)), None)


def is_picture(path: str | Path) -> bool:
    """Whether a file's first bytes are those of a format that is read, or would be with the extra `heif`.

    Nothing is decoded, and nothing is raised: what cannot be opened is no picture.
    """
    try:
        path = Path(path)
        if not path.is_file():  # a pipe would wait for ever
            return False
        with path.open("rb") as file:
            return format_of(file.read(HEAD)) is not None
    except (OSError, ValueError):  # ValueError: a name with a null character
        return False
