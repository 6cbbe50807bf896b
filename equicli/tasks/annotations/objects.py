"""Objects in a picture: what is to be found in it, or what was found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from equicli.errors import EquicliError
from equicli.groups.elements import Frame

# A mask as COCO's run lengths: `size` (height, width) and compressed `counts`.
Rle = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """n objects in the frame of their picture.

    boxes: float64 (n, 4), left, top, right and bottom in pixels.
    labels: int64 (n,), outputs of the network.
    areas: float64 (n,), in square pixels, by which objects are small or large.
    scores: float64 (n,), how sure the network is of each that it found; of what is right 1.
    crowds: bool (n,), what stands for many objects, of which finding any is neither right nor wrong.
    masks: of each; None where only boxes are known.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    scores: NDArray[np.float64]
    crowds: NDArray[np.bool_]
    masks: tuple[Rle, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> "Objects":
        """Some of them, by their numbers."""
        return Objects(
            self.boxes[rows],
            self.labels[rows],
            self.areas[rows],
            self.scores[rows],
            self.crowds[rows],
            None if self.masks is None else tuple(self.masks[i] for i in rows),
        )

    def by_mask(self) -> "Objects":
        """The same with the areas of their masks."""
        assert self.masks is not None
        return replace(self, areas=mask_areas(self.masks))

    def by_box(self) -> "Objects":
        """The same with the areas of their boxes."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        return replace(self, areas=sides[:, 0] * sides[:, 1])


def encode(masks: Tensor) -> tuple[Rle, ...]:
    """Run lengths of masks, bool (n, h, w)."""
    if not len(masks):
        return ()
    columns = masks.to(torch.uint8).transpose(1, 2).contiguous().cpu().numpy()  # as Fortran lays (h, w, n) out
    return tuple(_library().encode(columns.transpose(2, 1, 0)))


def decode(masks: Sequence[Rle], frame: Frame) -> Tensor:
    """Masks as pixels, bool (n, h, w)."""
    if not masks:
        return torch.zeros(0, *frame, dtype=torch.bool)
    pixels = np.ascontiguousarray(_library().decode(list(masks)).transpose(2, 0, 1))
    return torch.from_numpy(pixels).bool()


def outline(polygons: Sequence[Sequence[float]], frame: Frame) -> Rle:
    """The mask of an object that polygons draw, x and y in turns, by COCO's own rule for pixels on the border."""
    library = _library()
    merged: Rle = library.merge(library.frPyObjects([list(polygon) for polygon in polygons], *frame))
    return merged


def covers(polygon: Sequence[float], frame: Frame) -> bool:
    """Whether a polygon, x and y in turns, is no line, and the box around it meets a frame (height, width)."""
    corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    meets = left < frame[1] and right > 0 and top < frame[0] and bottom > 0
    return bool(meets) and bool(np.linalg.matrix_rank(corners - corners[0], tol=1e-9) == 2)


def runs(counts: str | bytes | Sequence[int], frame: Frame) -> Rle:
    """A mask from run lengths, compressed or as numbers.

    Raises:
        ValueError: they do not fill the frame.
    """
    lengths = _lengths(counts) if isinstance(counts, str | bytes) else list(counts)
    if any(type(n) is not int or n < 0 for n in lengths) or sum(lengths) != frame[0] * frame[1]:
        raise ValueError(f"run lengths that do not fill {frame[1]}x{frame[0]} pixels")
    made: Rle = _library().frPyObjects({"size": list(frame), "counts": lengths}, *frame)
    return made


def mask_areas(masks: Sequence[Rle]) -> NDArray[np.float64]:
    return np.asarray(_library().area(list(masks)) if masks else [], dtype=np.float64)


def mask_boxes(masks: Sequence[Rle]) -> NDArray[np.float64]:
    """The smallest boxes around masks, (n, 4): left, top, right and bottom."""
    boxes = np.asarray(_library().toBbox(list(masks)) if masks else [], dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def overlaps(found: Objects, there: Objects, *, masks: bool) -> NDArray[np.float64]:
    """Intersection over union of what was found and what is there, (d, n); of a crowd, over what was found alone."""
    if not len(found) or not len(there):
        return np.zeros((len(found), len(there)))
    crowds = there.crowds.astype(np.uint8).tolist()
    if masks:
        assert found.masks is not None and there.masks is not None
        over = _library().iou(list(found.masks), list(there.masks), crowds)
    else:
        over = _library().iou(_corners_to_sides(found.boxes), _corners_to_sides(there.boxes), crowds)
    return np.asarray(over, dtype=np.float64)


def _corners_to_sides(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _lengths(text: str | bytes) -> list[int]:
    """Run lengths from COCO's compressed text: six bits a character, each but the first three less the one before the
    last."""
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    lengths: list[int] = []
    at = 0
    while at < len(data):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(data) or not 48 <= data[at] < 112:
                raise ValueError("run lengths that are cut off or no text of COCO's")
            bits = data[at] - 48
            value |= (bits & 31) << shift
            more, at, shift = bool(bits & 32), at + 1, shift + 5
            if not more and bits & 16:
                value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
    return lengths


def _library() -> Any:
    """COCO's own run lengths, in C.

    Raises:
        EquicliError: it is not installed.
    """
    try:
        from faster_coco_eval.core import mask
    except ImportError as error:
        raise EquicliError(
            "objects in pictures need faster-coco-eval, which is not installed: pip install 'equicli[detection]'."
        ) from error
    return mask
