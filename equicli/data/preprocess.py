"""From a picture to the pixels that a pretrained network was trained on, and from there back to the picture."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from equicli.data.decode import MAX_PIXELS, Decoder, to_image, to_pixels
from equicli.data.normalization import Normalization
from equicli.data.value_range import ValueRanges
from equicli.groups.elements import Frame, round_to
from equicli.groups.transport import Kinds

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
INTERPOLATIONS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


_LARGEST = 1 << 24  # pixels of a resized picture of which only a part is kept

Side = Annotated[int, Field(ge=1, le=1 << 14)]  # pixels


class Placement(NamedTuple):
    """Where a network's input lies in a picture: in the picture resized to width x height, from left and top on.

    Negative where the input is larger than the picture, which is then padded.
    """

    width: int
    height: int
    left: int
    top: int


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter edge to `resize` pixels, crop the central square of `size`, then normalize.

    With `squash` both edges are resized, which gives up the aspect ratio. With `size` None nothing is cropped, and with
    `resize` None, too, the picture is taken as it is and only normalized. `floor` is how transformers splits an odd
    margin; timm and torchvision round it.
    """

    size: Side | None
    resize: Side | None
    interpolation: Interpolation
    normalization: Normalization
    squash: bool = False
    floor: bool = False

    def __call__(self, picture: Image.Image | Tensor) -> Tensor:
        """Return what the network sees of an RGB picture, before normalization: uint8 (3, h, w).

        Args:
            picture: a `PIL.Image`, or uint8 pixels (3, h, w).
        """
        if not self.resizes:
            return picture if isinstance(picture, Tensor) else to_pixels(picture)
        image = to_image(picture) if isinstance(picture, Tensor) else picture
        width, height, left, top = self.placement((image.height, image.width))
        rows, columns = self.size or height, self.size or width
        if (width, height) != image.size:
            # Of a long and thin picture, which would become far longer, only what is cropped is made.
            whole = self.size is None or width * height <= _LARGEST
            right, bottom = (width, height) if whole else (min(left + columns, width), min(top + rows, height))
            start = (0, 0) if whole else (max(left, 0), max(top, 0))
            image = _resize(image, (width, height), (*start, right, bottom), INTERPOLATIONS[self.interpolation])
            left, top = left - start[0], top - start[1]
        # Where the square is larger than the picture, Pillow pads with black.
        return to_pixels(image.crop((left, top, left + columns, top + rows)))

    @property
    def resizes(self) -> bool:
        """Whether the network's input is another than the picture as it is."""
        return self.size is not None or self.resize is not None

    def placement(self, frame: Frame) -> Placement:
        """Where the network's input lies in a picture of this (height, width)."""
        height, width = frame
        resize, short = self.resize or self.size, min(frame)
        if resize is None:
            return Placement(width, height, 0, 0)
        width, height = (resize if self.squash else int(resize * edge / short) for edge in (width, height))
        if self.size is None:
            return Placement(width, height, 0, 0)
        half = int if self.floor else round
        left, top = (half(max(0, gap) / 2) - max(0, -gap) // 2 for gap in (width - self.size, height - self.size))
        return Placement(width, height, left, top)

    def restore(self, output: Any, kinds: Kinds, frame: Frame) -> Any:
        """Carry what a network says of its input back to the picture of this (height, width).

        Args:
            output: of one sample: a tensor, or a tuple or mapping of them by `kinds`. Keypoints and boxes are moved and
                scaled; masks (..., h, w) take the nearest pixel and are 0 outside of what the network saw.
        """
        if output is None or not self.resizes or kinds in ("logits", "invariant"):
            return output
        if isinstance(kinds, Mapping):
            return {key: self.restore(value, _kind_of(key, kinds), frame) for key, value in output.items()}
        if isinstance(kinds, tuple):
            return tuple(self.restore(value, kind, frame) for value, kind in zip(output, kinds, strict=True))
        placement = self.placement(frame)
        if kinds in ("mask", "image"):
            return _paste(output, (self.size or placement.height, self.size or placement.width), placement, frame)
        if kinds in ("keypoints", "boxes"):
            wide = output.to(torch.promote_types(output.dtype, torch.float32))
            count = 1 if kinds == "keypoints" else 2
            shift = wide.new_tensor([placement.left, placement.top] * count)
            scale = wide.new_tensor([frame[1] / placement.width, frame[0] / placement.height] * count)
            return round_to((wide + shift) * scale, output.dtype)
        raise ValueError(f"kind '{kinds}' cannot be carried back from a resized picture.")

    def decoder(self, ranges: ValueRanges, max_pixels: int = MAX_PIXELS) -> Decoder:
        """What opens files for it."""
        return Decoder(ranges, max_pixels)

    def resized(self, size: int) -> "Preprocess":
        """The same for inputs of another size; the share of a picture that is cropped is kept.

        Where nothing is cropped, it is the length of the shorter edge.
        """
        if self.size is None and self.resize is not None:
            return replace(self, resize=size)
        share = 1.0 if self.size is None or self.resize is None else self.resize / self.size
        return replace(self, size=size, resize=round(size * share))

    def override(
        self,
        mode: str,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        image_size: int | None = None,
    ) -> "Preprocess":
        """Apply `--preprocess` (`none` keeps only the normalization), `--mean`, `--std` and `--image-size`."""
        own = self.normalization
        normalization = Normalization(mean or own.rgb().mean, std or own.rgb().std)
        normalization = normalization if own.channels == 3 else normalization.grey()
        if mode == "none":
            return replace(self, size=None, resize=None, normalization=normalization)
        same = replace(self, normalization=normalization)
        return same if image_size is None or image_size == self.size else same.resized(image_size)


# For networks that resize and normalize themselves: pictures in [0, 1].
AS_THEY_ARE = Preprocess(None, None, "bilinear", Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))


def _resize(
    image: Image.Image, to: tuple[int, int], part: tuple[int, int, int, int], interpolation: Image.Resampling
) -> Image.Image:
    """Resize a picture, and make of it only a part: left, top, right and bottom in the resized one."""
    left, top, right, bottom = part
    wide, high = image.width / to[0], image.height / to[1]
    box = (left * wide, top * high, min(right * wide, image.width), min(bottom * high, image.height))
    return image.resize((right - left, bottom - top), interpolation, None if part == (0, 0, *to) else box)


def _kind_of(name: str, kinds: Mapping[str, Kinds]) -> Kinds:
    if name not in kinds:
        raise ValueError(f"'{name}' has no kind; only {', '.join(kinds)} have one.")
    return kinds[name]


def _paste(output: Tensor, shown: Frame, placement: Placement, frame: Frame) -> Tensor:
    """Put what a network says of each pixel of its input, (..., h', w'), in its place in the picture, (..., h, w).

    Args:
        shown: (height, width) of the input.
    """
    rows = _nearest(output.shape[-2], shown[0], placement.top, placement.height, frame[0])
    columns = _nearest(output.shape[-1], shown[1], placement.left, placement.width, frame[1])
    # A row and a column of nothing stand for what the network did not see.
    padded = functional.pad(output, (0, 1, 0, 1))
    return padded[..., rows[:, None], columns]


def _nearest(own: int, size: int, start: int, resized: int, side: int) -> Tensor:
    """Which of the network's `own` rows, or columns, is nearest to each of a picture's; `own` itself where it saw none.

    Args:
        size, start: where the network's input lies on the resized picture's side. resized, side: its length, and the
            picture's.
    """
    seen = ((torch.arange(side, dtype=torch.float64) + 0.5) * (resized / side)).floor() - start
    nearest = ((seen + 0.5) * (own / size)).floor().long()
    return torch.where((seen >= 0) & (seen < size), nearest.clamp(0, own - 1), own)
