"""Opening pictures, from files of whatever kind cameras, scanners and microscopes write, and from Python values.

There is one decoder: training, evaluation, prediction and users call `open_image`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from equicli.errors import EquicliError, UsageError, reason

# What `AdaptedModel.predict` takes.
Picture = str | Path | Image.Image | NDArray[Any] | Tensor


class UnreadableImageError(EquicliError):
    """A file that no picture can be read from. `reason` is one line, without the path."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: unreadable image ({why}). Mend or remove the file.")
        self.reason = why


def open_image(path: str | Path) -> Image.Image:
    """Read the first frame of an image file as 8-bit RGB.

    The camera's EXIF orientation is applied, here and nowhere else. Values of 16-bit images are scaled, not clipped.
    Transparent pixels are laid on white.

    Raises:
        UnreadableImageError: the file is missing, truncated, or no image.
    """
    path = Path(path)
    try:
        # By file, not by path: Pillow maps uncompressed TIFFs into memory and then scrambles turned ones.
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # on broken files, Pillow's plugins raise nearly anything
        if isinstance(error, UnidentifiedImageError):
            raise UnreadableImageError(path, "not an image") from error
        raise UnreadableImageError(path, getattr(error, "strerror", None) or reason(error)) from error


def read_picture(source: Picture) -> Tensor:
    """Return a picture as pixels, uint8 (3, h, w).

    Args:
        source: a file's path, a `PIL.Image`, an array (h, w), (h, w, 3) or (h, w, 4) of uint8 or of floats in [0, 1],
            or a uint8 tensor (3, h, w), which is returned as it is.

    Raises:
        UnreadableImageError: the file cannot be read.
        UsageError: a value of another shape or type.
    """
    if isinstance(source, Tensor):
        if source.dtype != torch.uint8 or source.ndim != 3 or source.shape[0] != 3 or not source.numel():
            raise UsageError(f"a picture is a uint8 tensor (3, h, w), not {source.dtype} {tuple(source.shape)}.")
        return source
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    elif isinstance(source, Image.Image):
        source = _from_image(source)
    elif isinstance(source, str | Path):
        source = open_image(source)
    else:
        raise UsageError(f"a picture is a path, an image, an array or a tensor, not {type(source).__name__}.")
    return to_pixels(source)


def read_pictures(sources: Sequence[Picture] | Picture) -> list[Tensor]:
    """Return several pictures, or the one that is given alone; see `read_picture`."""
    if isinstance(sources, str | Path | Image.Image):
        return [read_picture(sources)]
    if isinstance(sources, np.ndarray | Tensor):
        return [read_picture(sources)] if sources.ndim < 4 else [read_picture(source) for source in sources]
    return [read_picture(source) for source in sources]


def to_pixels(picture: Image.Image) -> Tensor:
    """Return the pixels of an RGB picture, uint8 (3, h, w)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """Return uint8 pixels (3, h, w) as an RGB picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def _from_image(image: Image.Image) -> Image.Image:
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # as of files, which are read no sooner than here
        raise UsageError(f"a picture cannot be read ({reason(error)}).") from error


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise UsageError(f"a picture is an array (h, w), (h, w, 3) or (h, w, 4), not {array.shape}.")
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # also refuses NaN
            raise UsageError("a picture of floats has values in [0, 1]; scale it, or give uint8.")
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise UsageError(f"a picture is an array of uint8, or of floats in [0, 1], not of {array.dtype}.")
    return _to_rgb(Image.fromarray(array))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        # `convert` would clip these to 255 instead of scaling them.
        values = np.asarray(image).astype(np.float64)
        full_scale = 65535 if image.mode.startswith("I") else 1.0
        if values.max() > full_scale:
            raise ValueError(f"values up to {values.max():g} in a {image.mode} image; expected at most {full_scale:g}")
        return Image.fromarray((values.clip(min=0) / full_scale * 255).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
