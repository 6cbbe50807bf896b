"""Turning a picture file: by its orientation tag alone, or by its pixels."""

import io
from typing import Any, NamedTuple

from PIL import Image, JpegImagePlugin, PngImagePlugin

from equicli.data.formats import HEAD, format_of, open_format, quiet_pillow
from equicli.data.metadata import PIXEL_TAGS, orientation_of
from equicli.data.orientation import D4, ELEMENTS, TAGS, with_orientation
from equicli.errors import reason
from equicli.serving.blocks import CannotMoveError, move_blocks

TAG, PIXELS = "tag", "pixels"
_ORIENTATION = 274
# Of D4, what Pillow calls it.
_TRANSPOSES = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
    4: Image.Transpose.FLIP_LEFT_RIGHT,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.FLIP_TOP_BOTTOM,
    7: Image.Transpose.TRANSVERSE,
}


class CannotTurnError(Exception):
    """Why a file is left as it is."""


class Turned(NamedTuple):
    """content: of the new file. loss: why its pixels were encoded again with loss; None where nothing is lost."""

    content: bytes
    loss: str | None = None


def turn_file(content: bytes, element: int, method: str | None) -> Turned:
    """Turn a picture file by an element of D4, from how it is shown now.

    Args:
        method: `tag` sets the orientation of a JPEG, and changes nothing else; `pixels` turns the pixels, and keeps
            metadata and colour profile, and no orientation: of a JPEG its blocks, where these are whole, else all is
            encoded as the file was; None is `tag` for JPEG and else `pixels`.

    Raises:
        CannotTurnError: the file cannot be turned so.
    """
    kind = format_of(content[:HEAD])
    try:
        with quiet_pillow():
            image = open_format(io.BytesIO(content), kind or "")
            stored = ELEMENTS.get(orientation_of(image), 0)
            wanted = D4.compose(element, stored)  # of the stored pixels
            if kind == "JPEG" and method in (TAG, None):
                return Turned(with_orientation(content, TAGS[wanted]))
            if method == TAG:
                raise CannotTurnError(f"only JPEG has an orientation tag that all programs read, not {kind}")
            if getattr(image, "n_frames", 1) > 1:
                raise CannotTurnError("it has several frames")
            if kind == "JPEG":
                return _turn_jpeg(image, wanted, content)
            return _turn_pixels(image, wanted, str(kind), content)
    except CannotTurnError:
        raise
    except Exception as error:  # on odd files, Pillow's plugins raise nearly anything
        raise CannotTurnError(reason(error)) from error


def _turn_jpeg(image: Image.Image, element: int, content: bytes) -> Turned:
    try:
        moved = move_blocks(content, element, progressive="progressive" in image.info)
    except CannotMoveError as error:
        return _turn_pixels(image, element, "JPEG", content)._replace(loss=str(error))
    return Turned(moved if orientation_of(image) == 1 else with_orientation(moved, 1))


def _turn_pixels(image: Image.Image, element: int, kind: str, content: bytes) -> Turned:
    how, lossless = _options(image, kind, content)
    exif = image.getexif()
    if exif.get(_ORIENTATION, 1) != 1:
        exif[_ORIENTATION] = 1
    for name in ("icc_profile", "dpi"):
        if image.info.get(name):
            how[name] = image.info[name]
    for tag in PIXEL_TAGS & set(exif):  # of TIFF, where the old pixels lay
        del exif[tag]
    if len(exif) and kind != "BMP":
        how["exif"] = exif.tobytes()
    image.load()
    turned = image.transpose(_TRANSPOSES[element]) if element else image
    file = io.BytesIO()
    turned.save(file, kind, **how)
    return Turned(file.getvalue(), None if lossless else f"this {kind} was compressed with loss")


def _options(image: Image.Image, kind: str, content: bytes) -> tuple[dict[str, Any], bool]:
    """How Pillow saves a file as it was, and whether that loses nothing."""
    if kind == "JPEG":
        tables = getattr(image, "quantization", None)
        sampling = JpegImagePlugin.get_sampling(image)
        return ({"qtables": tables} if tables else {"quality": 95}) | {"subsampling": sampling}, False
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        for name, text in getattr(image, "text", {}).items():
            texts.add_text(name, text)
        return {"pnginfo": texts}, True
    if kind == "WEBP":
        exact = b"VP8L" in content[:64]
        return {"lossless": exact, "quality": 100 if exact else 90}, exact
    if kind == "TIFF":
        compression = image.info.get("compression")
        return {"compression": compression}, compression not in ("jpeg", "webp")
    if kind in ("BMP", "PPM", "TGA"):
        return {}, True
    raise CannotTurnError(f"{kind} is not written")
