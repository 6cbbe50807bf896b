"""Compressing a picture again, as an editor does that turns it and saves it."""

import io
import re
from dataclasses import dataclass

from torch import Tensor

from equicli.data.decode import read_picture, to_image
from equicli.data.formats import open_format, quiet_pillow
from equicli.errors import EquicliError, UsageError, reason

NONE = "none"
# By the names that users write, Pillow's.
FORMATS = {"jpeg": "JPEG", "webp": "WEBP"}


@dataclass(frozen=True)
class Encoding:
    """A lossy format and its quality, from 1 to 100. Pillow encodes, with its default chroma subsampling (4:2:0)."""

    form: str
    quality: int

    def __str__(self) -> str:
        return f"{self.form}:{self.quality}"

    def __call__(self, picture: Tensor) -> Tensor:
        """Return what is decoded of uint8 pixels (3, h, w) that were saved so, of the same shape.

        Raises:
            EquicliError: the format has no pictures so large.
        """
        file, kind = io.BytesIO(), FORMATS[self.form]
        try:
            to_image(picture).save(file, kind, quality=self.quality)
        except (OSError, ValueError) as error:
            height, width = picture.shape[-2:]
            raise EquicliError(
                f"--reencode {self}: a picture of {width}x{height} pixels cannot be written so ({reason(error)})."
            ) from error
        with quiet_pillow():
            return read_picture(open_format(file, kind))


def find_encoding(text: str, rotate: str) -> Encoding | None:
    """Read FORMAT:QUALITY, such as `jpeg:75`; `none` is no encoding.

    Args:
        rotate: what is turned, `file` or `input`.

    Raises:
        UsageError: it is nothing of the kind; or what is turned are tensors, which no format holds.
    """
    if text == NONE:
        return None
    form, _, quality = text.partition(":")
    if form not in FORMATS or not re.fullmatch("[1-9][0-9]?|100", quality):
        known = " or ".join(f"{name}:QUALITY" for name in FORMATS)
        raise UsageError(f"--reencode {text}: must be {known}, with a quality from 1 to 100, or {NONE}.")
    if rotate != "file":
        raise UsageError(
            f"--reencode {text}: compresses pictures, and --rotate {rotate} turns tensors; add --rotate file."
        )
    return Encoding(form, int(quality))
