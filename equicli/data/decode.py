"""Opening pictures, from files of whatever kind cameras, scanners and microscopes write, and from Python values.

There is one decoder: training, evaluation, prediction and users call `open_image`. `PICTURES.md` beside this file says
what becomes of each kind of picture.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from equicli.data.colours import to_rgb
from equicli.data.fingerprint import fingerprint
from equicli.data.formats import HEAD, format_of, misnamed, open_format, quiet_pillow
from equicli.data.metadata import orientation_in, orientation_of, turned, without_metadata
from equicli.data.tiff import RefusedError
from equicli.data.value_range import AS_USUAL, Seen, ValueRanges, bounds, scale
from equicli.data.wide import is_wide, read_wide
from equicli.errors import EquicliError, UsageError, is_out_of_memory, reason

T = TypeVar("T")

# What `AdaptedModel.predict` takes.
Picture = str | Path | Image.Image | NDArray[Any] | Tensor

MAX_PIXELS = 178_956_970  # what Pillow, too, refuses to go beyond


class UnreadableImageError(EquicliError):
    """A file that no picture can be read from. `reason` is one line, without the path."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: unreadable image ({why}). Mend or remove the file.")
        self.path, self.reason = path, why


@dataclass(frozen=True)
class Decoder:
    """How files are opened.

    ranges: of values of more than 8 bits, where files do not say theirs.
    max_pixels: of a picture; larger ones are refused before they take memory.
    """

    ranges: ValueRanges = AS_USUAL
    max_pixels: int = MAX_PIXELS

    def open(self, path: str | Path) -> Image.Image:
        """See `open_image`."""
        return _of_file(Path(path), lambda data, kind: _read(data, kind, self))

    def frame(self, path: Path) -> tuple[int, int] | None:
        """(height, width) of a file's picture as it is opened, without reading its pixels; None where that fails."""

        def look(data: BinaryIO, kind: str) -> tuple[int, int]:
            image = _opened(data, kind, self)
            sides = (image.height, image.width)
            return sides if orientation_of(image) < 5 else sides[::-1]

        try:
            return _of_file(path, look)
        except UnreadableImageError:
            return None  # told where it is read

    def read(self, source: Picture) -> Tensor:
        """See `read_picture`."""
        if isinstance(source, Tensor):
            if source.dtype != torch.uint8 or source.ndim != 3 or source.shape[0] != 3 or not source.numel():
                raise UsageError(f"a picture is a uint8 tensor (3, h, w), not {source.dtype} {tuple(source.shape)}.")
            return source
        if isinstance(source, np.ndarray):
            return to_pixels(_from_array(source, self.ranges))
        if isinstance(source, Image.Image):
            return to_pixels(_from_image(source, self.ranges))
        if isinstance(source, str | Path):
            return to_pixels(self.open(source))
        raise UsageError(f"a picture is a path, an image, an array or a tensor, not {type(source).__name__}.")

    def fingerprint(self, path: Path) -> bytes:
        """By which a file is known again; see `data.fingerprint`."""
        return fingerprint(path)

    def look(self, path: Path) -> Seen | None:
        """The values of a file of more than 8 bits that does not say their range; None for any other file."""
        try:
            return _of_file(path, lambda data, kind: _look(data, kind, self))
        except UnreadableImageError:
            return None  # told where it is read


PLAIN = Decoder()


def open_image(
    path: str | Path, value_range: ValueRanges | tuple[float, float] | None = None, *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read the first frame of an image file as 8-bit RGB.

    The camera's orientation is applied, here and nowhere else. Values of more than 8 bits are scaled, not clipped.
    Transparent pixels are laid on white. Colour profiles are not applied. What the file says beside its pixels, and
    cannot be read, is left out.

    Args:
        path: of any name: files are told by their content.
        value_range: of values of more than 8 bits. What `read_config(run).value_ranges` says is for files that do not
            say theirs; (low, high) is for all. None: 16 bits, and floats from 0 to 1.
        max_pixels: larger pictures are refused.

    Raises:
        UnreadableImageError: the file is missing, truncated, too large, or no image.
    """
    if isinstance(value_range, tuple):
        value_range = ValueRanges.chosen(*value_range)
    return Decoder(value_range or AS_USUAL, max_pixels).open(path)


def read_picture(source: Picture, decoder: Decoder = PLAIN) -> Tensor:
    """Return a picture as pixels, uint8 (3, h, w).

    Args:
        source: a file's path, a `PIL.Image`, an array (h, w), (h, w, 3) or (h, w, 4) of uint8, of other integers or of
            floats, which are scaled as those of files are, or a uint8 tensor (3, h, w), which is returned as it is.

    Raises:
        UnreadableImageError: the file cannot be read.
        UsageError: a value of another shape or type.
    """
    return decoder.read(source)


def read_pictures(sources: Sequence[Picture] | Picture, decoder: Decoder = PLAIN) -> list[Tensor]:
    """Return several pictures, or the one that is given alone; see `read_picture`."""
    if isinstance(sources, str | Path | Image.Image):
        return [decoder.read(sources)]
    if isinstance(sources, np.ndarray | Tensor):
        return [decoder.read(sources)] if sources.ndim < 4 else [decoder.read(source) for source in sources]
    return [decoder.read(source) for source in sources]


def to_pixels(picture: Image.Image) -> Tensor:
    """Return the pixels of an RGB picture, uint8 (3, h, w)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """Return uint8 pixels (3, h, w) as an RGB picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


@contextmanager
def memory_of(path: Path, frame: tuple[int, int] | None = None) -> Iterator[None]:
    """Where memory gives out, say which picture took it.

    Raises:
        UnreadableImageError: it gave out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        size = f"its {frame[1]}x{frame[0]} pixels" if frame else "its pixels"
        raise UnreadableImageError(path, f"not enough memory for {size}") from error


def _of_file(path: Path, read: Callable[[BinaryIO, str], T]) -> T:
    """Call a function on a file whose first bytes are those of a picture; whatever it raises is told in one line."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise RefusedError("not a regular file")  # a pipe would wait for ever
        # By file, not by path: Pillow maps uncompressed TIFFs into memory and then scrambles turned ones.
        with path.open("rb") as file, memory_of(path), quiet_pillow():
            head = file.read(HEAD)
            kind = format_of(head)
            if kind is None:
                raise RefusedError(misnamed(head))
            return read(file, kind)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(path, "a kind of picture that cannot be read, or damaged") from error
    except Exception as error:  # on broken files, Pillow's plugins raise nearly anything
        raise UnreadableImageError(path, getattr(error, "strerror", None) or reason(error)) from error


def _read(file: BinaryIO, kind: str, decoder: Decoder) -> Image.Image:
    try:
        return _read_as_it_is(file, kind, decoder)
    except (RefusedError, MemoryError):
        raise
    except Exception:
        # Perhaps it trips over something beside the pixels.
        file.seek(0)
        data = file.read()
        bare = without_metadata(data, kind)
        if bare is None:
            raise
        return turned(_read_as_it_is(io.BytesIO(bare), kind, decoder), orientation_in(data, kind))


def _read_as_it_is(file: BinaryIO, kind: str, decoder: Decoder) -> Image.Image:
    image = _opened(file, kind, decoder)
    if is_wide(image):
        wide = read_wide(lambda: _opened(file, kind, decoder))
        return turned(wide.to_rgb(decoder.ranges), wide.orientation)
    image.load()
    return turned(to_rgb(image), orientation_of(image))


def _look(file: BinaryIO, kind: str, decoder: Decoder) -> Seen | None:
    if kind not in ("PNG", "TIFF", "PPM"):
        return None
    if not is_wide(_opened(file, kind, decoder)):
        return None
    wide = read_wide(lambda: _opened(file, kind, decoder))
    return (
        None if wide.declared else Seen("floats" if wide.values.dtype.kind == "f" else "integers", *bounds(wide.values))
    )


def _opened(file: BinaryIO, kind: str, decoder: Decoder) -> Image.Image:
    """Open a picture without loading it."""
    file.seek(0)
    image = open_format(file, kind)
    width, height = image.size
    if width * height > decoder.max_pixels:
        raise RefusedError(
            f"{width}x{height} are {width * height:,} pixels, more than {decoder.max_pixels:,}; "
            "--max-pixels raises the limit"
        )
    return image


def _from_image(image: Image.Image, ranges: ValueRanges) -> Image.Image:
    try:
        with quiet_pillow():
            image.load()
            wide = image.mode.startswith("I") or image.mode == "F"
            picture = Image.fromarray(scale(np.asarray(image), ranges)).convert("RGB") if wide else to_rgb(image)
            return turned(picture, orientation_of(image))
    except Exception as error:  # as of files, which are read no sooner than here
        raise UsageError(f"a picture cannot be read ({reason(error)}).") from error


def _from_array(array: NDArray[Any], ranges: ValueRanges) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise UsageError(f"a picture is an array (h, w), (h, w, 3) or (h, w, 4), not {array.shape}.")
    if array.dtype.kind not in "iuf":
        raise UsageError(f"a picture is an array of integers or floats, not of {array.dtype}.")
    try:
        return to_rgb(Image.fromarray(array if array.dtype == np.uint8 else scale(array, ranges)))
    except ValueError as error:
        raise UsageError(f"a picture is an array whose values lie in one range: {reason(error)}.") from error
