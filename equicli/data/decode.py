"""Reading one image file, of whatever kind cameras, scanners and microscopes write, as an upright RGB picture."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from equicli.errors import EquicliError, reason


class UnreadableImageError(EquicliError):
    """A file that no picture can be read from. `reason` is one line, without the path."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: unreadable image ({why}). Remove it, or run without --strict to skip it.")
        self.reason = why


def decode(path: Path) -> Image.Image:
    """Read the first frame of an image file as 8-bit RGB.

    The camera's EXIF orientation is applied, here and nowhere else. Values of 16-bit images are scaled, not clipped.
    Transparent pixels are laid on white.

    Raises:
        UnreadableImageError: the file is missing, truncated, or no image.
    """
    try:
        # By file, not by path: Pillow maps uncompressed TIFFs into memory and then scrambles turned ones.
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # on broken files, Pillow's plugins raise nearly anything
        if isinstance(error, UnidentifiedImageError):
            raise UnreadableImageError(path, "not an image") from error
        raise UnreadableImageError(path, getattr(error, "strerror", None) or reason(error)) from error


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
