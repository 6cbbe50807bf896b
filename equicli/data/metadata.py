"""What files say beside their pixels: which way up they are, and the rest, which cannot cost a picture."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import Image

_ORIENTATION = 274  # of TIFF and of EXIF
# By the value of that tag, what turns stored pixels the right way up.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """The orientation that EXIF, or else XMP, gives a loaded picture, 1 to 8; 1 where nothing that can be read does."""
    try:
        found = image.getexif().get(_ORIENTATION)
        return int(found) if found in _TURNS else 1
    except Exception:  # of a broken block Pillow raises nearly anything
        return 1


def orientation_in(data: bytes, kind: str) -> int:
    """The same of a file that cannot be opened with its metadata. (Of TIFF, `without_metadata` keeps it.)"""
    try:
        exif = Image.Exif()
        exif.load(_EXIF[kind](data))
        found = exif.get(_ORIENTATION)
        return int(found) if found in _TURNS else 1
    except Exception:
        return 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The right way up."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def without_metadata(data: bytes, kind: str) -> bytes | None:
    """The same picture with nothing but what its pixels need; None for formats of which no reader trips over the rest.

    A file that is broken elsewhere, too, is left broken.
    """
    strip = _STRIPS.get(kind)
    if strip is None:
        return None
    try:
        return strip(data)
    except (struct.error, IndexError, ValueError, OverflowError):
        return None


def significant_bits(data: bytes) -> int | None:
    """How many bits of each value PNG's chunk sBIT says to count; None where it says nothing, or various things."""
    for chunk in _chunks_of_png(data):
        if chunk.name == b"sBIT" and chunk.size and len(bits := set(data[chunk.start : chunk.start + chunk.size])) == 1:
            return bits.pop()
    return None


class _Chunk(NamedTuple):
    name: bytes
    start: int
    size: int


def _chunks_of_png(data: bytes) -> Iterator[_Chunk]:
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield _Chunk(name, at + 8, size)
        at += size + 12


def _strip_png(data: bytes) -> bytes:
    """Critical chunks, whose names begin with a capital, and transparency."""
    kept = [c for c in _chunks_of_png(data) if c.name[:1].isupper() or c.name == b"tRNS"]
    return data[:8] + b"".join(data[c.start - 8 : c.start + c.size + 4] for c in kept)


def _strip_jpeg(data: bytes) -> bytes:
    """No segments of applications, but JFIF's and Adobe's, which say what the colours are; no comments."""
    kept, at = [data[:2]], 2
    while data[at : at + 2] != b"\xff\xda":  # up to the scan
        at = data.index(b"\xff", at)  # after a segment whose length is wrong
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if marker == 0xE0 and data[at + 4 : at + 9] == b"JFIF\0":
            kept.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
        elif (marker == 0xEE and data[at + 4 : at + 9] == b"Adobe") or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


def _strip_webp(data: bytes) -> bytes:
    kept, at = [], 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        end = at + 8 + size + size % 2
        chunk = data[at:end]
        if name == b"VP8X":  # which says what else there is: keep alpha and animation
            chunk = chunk[:8] + bytes([chunk[8] & 0b00010010]) + chunk[9:]
        if name in (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            kept.append(chunk)
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# Tags of TIFF that say how pixels are stored.
PIXEL_TAGS = frozenset(
    int(tag)
    for tag in (
        "254 256 257 258 259 262 266 273 277 278 279 280 281 284 292 293 317 320 322 323 324 325 332 338 339 340 341 "
        "347 512 513 514 515 517 518 519 520 521 529 530 531 532"
    ).split()
)
_SHORT = 3


def _strip_tiff(data: bytes) -> bytes:
    """A new first directory at the end, of those tags and the orientation; all offsets stay."""
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(order + "H", data, 2)[0] == 42:
        at = struct.unpack_from(order + "I", data, 4)[0]
        count, size, number, header = "H", 12, "I", 4
    else:
        at = struct.unpack_from(order + "Q", data, 8)[0]
        count, size, number, header = "Q", 20, "Q", 8
    entries = struct.unpack_from(order + count, data, at)[0]
    first = at + struct.calcsize(count)
    kept = []
    for start in range(first, min(first + entries * size, len(data) - size + 1), size):
        tag, kind = struct.unpack_from(order + "HH", data, start)
        amount = struct.unpack_from(order + number, data, start + 4)[0]
        if tag in PIXEL_TAGS or (tag == _ORIENTATION and (kind, amount) == (_SHORT, 1)):
            kept.append(data[start : start + size])
    directory = struct.pack(order + count, len(kept)) + b"".join(kept) + struct.pack(order + number, 0)
    data += b"\0" * (len(data) % 2)
    return data[:header] + struct.pack(order + number, len(data)) + data[header + struct.calcsize(number) :] + directory


def _exif_of_jpeg(data: bytes) -> bytes:
    at = 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return data[at + 4 : end]
        at = end
    return b""


def _exif_of_png(data: bytes) -> bytes:
    found = next(c for c in _chunks_of_png(data) if c.name == b"eXIf")
    return data[found.start : found.start + found.size]


def _exif_of_webp(data: bytes) -> bytes:
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"EXIF":
            return data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return b""


_EXIF: dict[str, Callable[[bytes], bytes]] = {"JPEG": _exif_of_jpeg, "PNG": _exif_of_png, "WEBP": _exif_of_webp}
_STRIPS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": _strip_jpeg,
    "PNG": _strip_png,
    "TIFF": _strip_tiff,
    "WEBP": _strip_webp,
}
