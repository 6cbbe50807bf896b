"""Pictures of more than 8 bits: their values as the file has them, and what the file says of their range.

Pillow keeps 16 bits of greys alone. Of colours it keeps the upper byte, so that 12-bit data would arrive with 16
levels; but it can be told to keep the lower byte, so a second decoding gives what is missing.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from equicli.data.metadata import orientation_of
from equicli.data.value_range import WORDS, ValueRange, ValueRanges, scale

# Pillow's names of how 16-bit colours lie in a file, without the order of bytes.
_COLOURS = ("RGB;16", "RGBX;16", "RGBA;16")
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_BITS, _WHITE_IS_ZERO, _MIN_MAX = 258, 262, ((340, 341), (280, 281))  # TIFF's tags


@dataclass(frozen=True)
class Wide:
    """values: (h, w) or (h, w, 3). alpha: (h, w), in 0…255; None: opaque. declared: the range that the file says.

    inverted: whether the lowest value is white. orientation: which way up, see `metadata.turned`.
    """

    values: NDArray[Any]
    alpha: NDArray[np.uint8] | None
    declared: ValueRange | None
    inverted: bool = False
    orientation: int = 1

    def to_rgb(self, ranges: ValueRanges) -> Image.Image:
        """Scale to 8 bits, on white.

        Raises:
            ValueError: values that are no numbers, or lie outside of the range.
        """
        scaled = scale(self.values, ranges, self.declared)
        picture = Image.fromarray(255 - scaled if self.inverted else scaled).convert("RGB")
        if self.alpha is None:
            return picture
        return Image.composite(picture, Image.new("RGB", picture.size, "white"), Image.fromarray(self.alpha))


def is_wide(image: Image.Image) -> bool:
    """Whether a picture that was opened, but not loaded, has more than 8 bits that are not lost."""
    return image.mode.startswith("I") or image.mode == "F" or _layout(image)[:-1] in (*_COLOURS, "LA;16")


def read_wide(open_again: Callable[[], Image.Image]) -> Wide:
    """Read a picture for which `is_wide` holds.

    Args:
        open_again: opens it anew, not loaded; values of colours take two decodings.
    """
    image = open_again()
    layout = _layout(image)
    inverted = image.format == "TIFF" and _tag(image, _WHITE_IS_ZERO) == 0
    declared = _declared(image)
    values, alpha = _values(image, layout, open_again)
    key = image.info.get("transparency")  # a value, or one of three, that is not shown
    if alpha is None and key is not None:
        hidden = values == np.array(key)
        alpha = np.where(hidden.all(axis=-1) if values.ndim == 3 else hidden, 0, 255).astype(np.uint8)
    return Wide(values, alpha, declared or _significant(image, values), inverted, orientation_of(image))


def _values(
    image: Image.Image, layout: str, open_again: Callable[[], Image.Image]
) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """What is in the file, and the alpha where there is one."""
    if layout[:-1] == "LA;16":  # each pixel is four bytes: grey and alpha, the upper byte first
        _set_layout(image, "RGBA")
        image.load()
        pairs = np.asarray(image)
        return pairs[..., 0].astype(np.uint16) << 8 | pairs[..., 1], pairs[..., 2]
    if layout[:-1] not in _COLOURS:
        image.load()
        return np.asarray(image), None
    lower = open_again()
    _set_layout(lower, layout[:-1] + _SWAPPED[layout[-1]])
    lower.load()
    image.load()
    upper = np.asarray(image)
    values = upper.astype(np.uint16) << 8 | np.asarray(lower)
    return values[..., :3], upper[..., 3] if upper.shape[-1] == 4 else None


def _declared(image: Image.Image) -> ValueRange | None:
    """What the file says of the range of its values."""
    if image.format in ("JPEG2000", "PPM"):
        # Of the first Pillow fills 16 bits, and of maps it scales what the header has as the greatest value.
        return None if image.mode == "F" else WORDS
    if image.format != "TIFF":
        return None
    for least, greatest in _MIN_MAX:
        low, high = _tag(image, least), _tag(image, greatest)
        if high is not None and (low or 0) < high:
            return ValueRange(low or 0.0, high)
    bits = _tag(image, _BITS)
    return ValueRange(0, (1 << int(bits)) - 1) if bits in (10, 12, 14) else None


def _tag(image: Image.Image, number: int) -> float | None:
    """A number that a TIFF file states, the same for all of its bands; None where it does not."""
    found = getattr(image, "tag_v2", {}).get(number)
    values = set(found) if isinstance(found, tuple) else {found}
    try:
        value = float(values.pop()) if len(values) == 1 else np.nan  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return value if np.isfinite(value) else None


def _significant(image: Image.Image, values: NDArray[Any]) -> ValueRange | None:
    """What PNG's chunk sBIT says: how many bits of 16 there were.

    By the standard such values fill all 16 bits, moved up, and repeat their upper bits or zeros below. Some writers
    leave them where they were; these are told by their lower bits.
    """
    bits = image.info.get("significant_bits")
    if not isinstance(bits, int) or not 8 <= bits < 16:
        return None
    unused = 16 - bits
    top = values >> unused
    moved_up = ((values & ((1 << unused) - 1)) == 0) | (values == (top << unused | top >> (bits - unused)))
    if moved_up.all() or values.max() >= 1 << bits:
        return WORDS
    return ValueRange(0, (1 << bits) - 1)


def _layout(image: Image.Image) -> str:
    """How Pillow is about to unpack the pixels of a picture that is not loaded, such as `RGB;16B`."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return " "
    arguments = tiles[0][3]
    name = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return name if isinstance(name, str) and name else " "


def _set_layout(image: Any, layout: str) -> None:
    changed = []
    for tile in image.tile:
        arguments = (layout, *tile[3][1:]) if isinstance(tile[3], tuple) else layout
        changed.append(tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments))
    image.tile = changed
