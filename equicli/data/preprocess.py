"""From a decoded picture to the pixels that a pretrained network was trained on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from equicli.data.decode import decode
from equicli.data.normalization import Normalization
from equicli.groups import PlanarGroup
from equicli.groups.action import act

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
INTERPOLATIONS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


Side = Annotated[int, Field(ge=1, le=1 << 14)]  # pixels


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter edge to `resize` pixels, crop the central square of `size`, then normalize.

    With `squash` both edges are resized, which gives up the aspect ratio. With `size` None the picture is taken as it
    is and only normalized. `floor` is how transformers splits an odd margin; timm and torchvision round it.
    """

    size: Side | None
    resize: Side | None
    interpolation: Interpolation
    normalization: Normalization
    squash: bool = False
    floor: bool = False

    def __call__(self, picture: Image.Image) -> Tensor:
        """Return the picture's pixels before normalization, uint8 (3, h, w)."""
        if self.size is not None and self.resize is not None:
            short = min(picture.size)
            width, height = (self.resize if self.squash else int(self.resize * edge / short) for edge in picture.size)
            if (width, height) != picture.size:
                picture = picture.resize((width, height), INTERPOLATIONS[self.interpolation])
            half = int if self.floor else round
            left, top = (half(max(0, gap) / 2) - max(0, -gap) // 2 for gap in (width - self.size, height - self.size))
            # Where the square is larger than the picture, Pillow pads with black.
            picture = picture.crop((left, top, left + self.size, top + self.size))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()

    def override(
        self, mode: str, mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None
    ) -> "Preprocess":
        """Apply `--preprocess` (`none` keeps only the normalization), `--mean` and `--std`."""
        normalization = Normalization(mean or self.normalization.mean, std or self.normalization.std)
        if mode == "none":
            return replace(self, size=None, resize=None, normalization=normalization)
        return replace(self, normalization=normalization)


def load_turned(path: Path, preprocess: Preprocess, rotations: PlanarGroup | None) -> Tensor:
    """Decode a file and preprocess the picture, or the picture turned by every element of `rotations`.

    Returns:
        uint8 (|R|, 3, h, w); |R| = 1 without rotations.
    """
    picture = decode(path)
    if rotations is None:
        return preprocess(picture)[None]
    if preprocess.size is None and picture.width != picture.height:
        return preprocess(picture)[None]  # not square: the loader refuses it
    return torch.stack([preprocess(_turn(rotations, g, picture)) for g in rotations.elements()])


def _turn(group: PlanarGroup, element: int, picture: Image.Image) -> Image.Image:
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].double()
    turned = act(group, element, pixels)[0].round().to(torch.uint8)
    return Image.fromarray(turned.permute(1, 2, 0).contiguous().numpy())
