"""TIFF, which has room for more than pictures: what Pillow reads wrongly, or not at all, is refused for what it is."""

import ctypes
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, BinaryIO

from PIL import Image, TiffImagePlugin, UnidentifiedImageError, _imaging

_KIND, _BITS, _BANDS, _PLANES, _MORE, _FORMAT, _DNG = 254, 258, 277, 284, 330, 339, 50706
_PREVIEW, _SIGNED = 1, 2
_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats"}


class RefusedError(Exception):
    """A picture that is not read, though perhaps it could be."""


def open_tiff(file: BinaryIO) -> Image.Image:
    """Open the first page without loading it.

    Raises:
        RefusedError: pixels would be wrong. ValueError: Pillow does not read it.
    """
    try:
        image = Image.open(file, formats=["TIFF"])
    except UnidentifiedImageError:
        raise ValueError(f"a TIFF of {_content(file)}, which cannot be read; save it as RGB or grey") from None
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    bits = max(_numbers(tags.get(_BITS, 1)), default=1)
    if _DNG in tags or (tags.get(_KIND) == _PREVIEW and _MORE in tags):
        raise RefusedError("a camera's raw file, of which only a preview could be read; convert it")
    if tags.get(_PLANES) == 2 and bits > 8 and len(image.getbands()) > 1:
        raise RefusedError(f"a TIFF of {bits}-bit colours in planes, which cannot be read; save it interleaved")
    if bits <= 8 and _SIGNED in _numbers(tags.get(_FORMAT, 1)):
        raise RefusedError("a TIFF of signed 8-bit integers, which cannot be read; save it with 16 bits")
    return image


def hush_libtiff() -> Callable[[], None]:
    """Let libtiff write nothing to the process's stderr, past Python's; call what is returned to let it again.

    Pillow brings libtiff along, and says itself what cannot be read.
    """
    setters = _handler_setters()
    before = [setter(None) for setter in setters]

    def restore() -> None:
        for setter, handler in zip(setters, before, strict=True):
            setter(handler)

    return restore


@cache
def _handler_setters() -> list[Any]:
    """Functions of libtiff that take a handler of messages and return the one before; none where they cannot be had."""
    try:
        library = ctypes.CDLL(_imaging.__file__)
        setters = [library.TIFFSetErrorHandler, library.TIFFSetWarningHandler]
    except (OSError, AttributeError):  # a Pillow that has it built in, or not at all
        return []
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    return setters


def _content(file: BinaryIO) -> str:
    """What a file says that is in it, for an error."""
    try:
        file.seek(0)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bits, kinds = _numbers(tags.get(_BITS, 1)), _numbers(tags.get(_FORMAT, 1))
        kind = _FORMATS.get(kinds[0], "values")
        bands = int(tags.get(_BANDS, 1))
        return f"{bands} band{'s' * (bands != 1)} of {max(bits)}-bit {kind}"
    except Exception:  # of what is damaged Pillow raises nearly anything
        return "an unknown kind"


def _numbers(value: Any) -> list[int]:
    return [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, int)]
