"""Which files are pictures: told by their first bytes, whatever their suffix says.

The formats are an allow-list. Nothing that starts a program (EPS), or that reads other files, is on it.
"""

import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, features

from equicli.data.metadata import significant_bits
from equicli.data.tiff import hush_libtiff, open_tiff

HEAD = 64  # bytes of a file that are looked at
_BEFORE_PIXELS = 1 << 16  # of a PNG, where it says how many of its bits count

# What Pillow logs of odd pictures would else be printed; whoever wants it sets up logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# By Pillow's names, but for HEIF, which it has not.
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
        rb".(?:\x01[\x01\x09].{4}[\x0f\x10\x18\x20]|\0[\x02\x03\x0a\x0b].{5}).{4}(?!\0\0)..(?!\0\0)..[\x01\x08\x0f\x10\x18\x20]",
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


def misnamed(head: bytes) -> str:
    """What a file is that no picture can be read from, by its first bytes."""
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS; `git lfs pull` fetches the picture"
    return "not an image"


def open_format(file: BinaryIO, kind: str) -> Image.Image:
    """Open a picture of a known format without loading it.

    Raises:
        Exception: of whatever kind, where it is damaged.
    """
    if kind == "HEIF":
        return _open_heif(file)
    if kind == "AVIF" and not features.check("avif"):
        raise ValueError("AVIF takes Pillow 11.3 or newer: pip install -U pillow")
    if kind == "TIFF":
        return open_tiff(file)
    image: Image.Image = Image.open(file, formats=[kind])
    if kind == "PNG" and image.mode != "P":
        file.seek(0)
        image.info["significant_bits"] = significant_bits(file.read(_BEFORE_PIXELS))
        file.seek(0)
    return image


def _open_heif(file: BinaryIO) -> Image.Image:
    try:
        import pillow_heif
    except ImportError:
        raise ValueError("HEIC takes pillow-heif: pip install 'equicli[heif]'") from None
    image: Image.Image = pillow_heif.HeifImageFile(file)
    return image


class _Quiet:
    """How many threads read pictures now, and what was changed for them."""

    lock = threading.Lock()
    readers = 0
    filters: warnings.catch_warnings
    limit: int | None = None
    let_libtiff_speak: Callable[[], None]


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Let Pillow say nothing of odd pictures, and refuse none for its size: both are told by whoever opens them.

    Warnings and Pillow's limit belong to the process, so the first of several threads changes them, and the last one
    changes them back.
    """
    with _Quiet.lock:
        if _Quiet.readers == 0:
            _Quiet.filters = warnings.catch_warnings()
            _Quiet.filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
            warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
            _Quiet.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            _Quiet.let_libtiff_speak = hush_libtiff()
        _Quiet.readers += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.readers -= 1
            if _Quiet.readers == 0:
                _Quiet.let_libtiff_speak()
                Image.MAX_IMAGE_PIXELS = _Quiet.limit
                _Quiet.filters.__exit__(None, None, None)
