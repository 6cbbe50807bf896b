"""How training images are varied: crops, mirroring, aspect, colours and sharpness, which leave poses as they are."""

import torch
from torch import Tensor
from torch.nn import functional

MAX_ZOOM = 0.4  # of the side is left out at most
MAX_SHIFT = 1 / 8  # of the side; the papers' 4 of 32 pixels
MIN_SIDE = 0.35  # of a side is shown at least
MAX_CONTRAST, MAX_BRIGHTNESS, MAX_TINT = 0.4, 0.2, 0.1  # more or less, of the range of pixels
GREY = 0.1  # share of images that lose their colour
BLURRED, MIN_SHARPNESS = 0.4, 0.4  # share of images that are blurred, and of the pixels that are left at least
MAX_NOISE = 0.06  # standard deviation, of the range of pixels


def vary(
    images: Tensor,
    generator: torch.Generator,
    *,
    crop: str,
    mirror: bool,
    aspects: Tensor | None,
    size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Crop at random, which leaves poses as they are.

    A picture that was squashed to a square tells by the shapes in it which side was longer, and most photos are upright
    and wide. So that this is no cue, crops of them are narrower in one direction: content is then as often squashed in
    width as in height, whatever the picture's shape. Square pictures have no such cue.

    Args:
        images: uint8 (b, 3, s, s).
        crop: `zoom` shows between 1 - MAX_ZOOM and 1 of the side, enlarged. `shift` moves by whole pixels, up to
            MAX_SHIFT of the side: a network that is to stay as sharp-eyed as it is sees no pixel between others.
        mirror: mirror left-right at random, too, which leaves poses as the prior has them if it is symmetric.
        aspects: (b,), width ÷ height of the pictures that were squashed; None where shapes are to be left alone.
        size: side t in pixels of what is returned; by default s.

    Returns:
        float32 (b, 3, t, t) in [0, 1], and which of them were mirrored, bool (b,).
    """
    b, side = len(images), images.shape[-1]
    scale = (1 - (MAX_ZOOM if crop == "zoom" else 0) * torch.rand(b, generator=generator)).expand(2, b)
    if crop == "zoom" and aspects is not None:
        scale = stretch(scale, aspects, generator)
    shift = 2 * torch.rand(2, b, generator=generator) - 1
    # In halves of the side, as the grid below counts.
    shift = shift * (1 - scale) if crop == "zoom" else (shift * MAX_SHIFT * side).round() / (side / 2)
    flip = torch.where(torch.rand(b, generator=generator) < 0.5, -1.0, 1.0) if mirror else torch.ones(b)
    zero = torch.zeros(b)
    wide, high = scale
    affine = torch.stack([torch.stack([flip * wide, zero, shift[0]], 1), torch.stack([zero, high, shift[1]], 1)], 1)
    shape = [b, images.shape[1], size or side, size or side]
    grid = functional.affine_grid(affine.to(images.device), shape, align_corners=False)
    varied = functional.grid_sample(images.float() / 255, grid, padding_mode="reflection", align_corners=False)
    return varied, flip < 0


def stretch(scale: Tensor, aspects: Tensor, generator: torch.Generator) -> Tensor:
    """Make crops of squashed pictures narrower in one direction; see `vary`.

    Args:
        scale: (2, b), the shares of width and height that are shown.
        aspects: (b,), width ÷ height of the pictures.

    Returns:
        (2, b). Content is squashed in width by aspect · wide ÷ high, from aspect to 1 ÷ aspect: its logarithm is
        uniform and symmetric about 0, as far as MIN_SIDE allows.
    """
    ratio = aspects ** (-2 * torch.rand(len(aspects), generator=generator))  # wide ÷ high
    return (scale * torch.stack([ratio.clamp(max=1), (1 / ratio).clamp(max=1)])).clamp(min=MIN_SIDE)


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Vary colours, sharpness and noise, so that a pose is read from what a picture shows and not from how it was made.

    What compression and resampling leave in a picture is turned with it: a grid, an asymmetry of colours. It tells the
    pose of pictures that were turned without a loss, and of no others.

    Args:
        images: float32 (b, 3, s, s) in [0, 1].

    Returns:
        The same, in [0, 1].
    """
    b, device = len(images), images.device

    def uniform(*shape: int) -> Tensor:
        return (2 * torch.rand(*shape, 1, 1, generator=generator) - 1).to(device)

    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - mean) * (1 + MAX_CONTRAST * uniform(b, 1)) + mean
    images = images + MAX_BRIGHTNESS * uniform(b, 1) + MAX_TINT * uniform(b, 3)
    grey = (torch.rand(b, 1, 1, 1, generator=generator) < GREY).to(device)
    images = torch.where(grey, images.mean(dim=1, keepdim=True), images)
    blurred = (torch.rand(b, generator=generator) < BLURRED).to(device)
    sharpness = MIN_SHARPNESS + (1 - MIN_SHARPNESS) * torch.rand((), generator=generator).item()
    if blurred.any():
        side = images.shape[-1]
        small = functional.interpolate(
            images[blurred], size=max(1, round(side * sharpness)), mode="bilinear", antialias=True
        )
        images = images.masked_scatter(
            blurred[:, None, None, None], functional.interpolate(small, size=side, mode="bicubic")
        )
    # By the device's own generator: so many numbers are not drawn beside a GPU and sent there.
    noises = torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))
    noise = torch.randn(images.shape, generator=noises, device=device)
    return (images + MAX_NOISE * (uniform(b, 1) + 1) / 2 * noise).clamp(0, 1)
