"""Whether a canonicalizer reads poses from how pictures were saved or resized, and not from what they show.

Pictures are turned in several ways. A turn of the decoded pixels carries along what an upright picture's compression or
interpolation left in it, and a pose can be read from there. An editor's turn removes these traces, or lays new ones.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from equicli.canonicalization.canonicalizer import Canonicalizer
from equicli.data.decode import to_image, to_pixels
from equicli.data.reencode import Encoding
from equicli.groups import PlanarGroup
from equicli.groups.action import act

C4 = PlanarGroup(4)
POINT = 0.01

Change = Callable[[Tensor], Tensor]


class Way(NamedTuple):
    """What is done to a picture, uint8 (3, h, w), before and after it is turned."""

    before: Change
    after: Change


def same(picture: Tensor) -> Tensor:
    return picture


def scaled(factor: float, interpolation: Image.Resampling) -> Change:
    def change(picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        size = (round(factor * width), round(factor * height))
        return to_pixels(to_image(picture).resize(size, interpolation))

    return change


LOSSLESS = Way(same, same)
WAYS = {
    **{f"jpeg:{quality}": Way(same, Encoding("jpeg", quality)) for quality in (90, 75, 50)},
    "resized": Way(scaled(0.9, Image.Resampling.LANCZOS), scaled(1 / 0.9, Image.Resampling.BICUBIC)),
}


@torch.inference_mode()
def poses_found(canonicalizer: Canonicalizer, pictures: Sequence[Tensor], way: Way) -> Tensor:
    """Whether the turn of each upright picture is found, for each element of C4: bool (n, 4)."""
    before = [way.before(picture) for picture in pictures]
    found = []
    for h in C4.elements():
        seen = [canonicalizer.view.of_picture(way.after(act(C4, h, picture))) for picture in before]
        poses = torch.cat([canonicalizer(torch.stack(seen[i : i + 64])).element for i in range(0, len(seen), 64)])
        found.append(poses == h)
    return torch.stack(found, dim=1)


def gaps(canonicalizer: Canonicalizer, pictures: Sequence[Tensor]) -> dict[str, float]:
    """By how much the pose accuracy of each way differs from that of lossless turns, where it is the identity rate."""
    lossless = poses_found(canonicalizer, pictures, LOSSLESS).double().mean()
    return {
        name: float(poses_found(canonicalizer, pictures, way).double().mean() - lossless) for name, way in WAYS.items()
    }
