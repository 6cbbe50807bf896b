"""A network that answers prompts as two graphs: one looks at a picture, the other draws what is pointed at in it.

No shape depends on the pose: the network sees a square in which the picture lies at the left and top. The turn is in
the weights by which the picture is resized, as in `picture_graph`; on the way back, in the places that are looked up.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from equicli.adapted import AdaptedModel
from equicli.data.preprocess import Preprocess
from equicli.data.resampling import weights
from equicli.export.graph import POSE, SURE
from equicli.export.picture_graph import OnePicture, mix, turns
from equicli.groups import Group
from equicli.groups.elements import inverse
from equicli.policy import certainty
from equicli.prediction.promptable import FIRST_CORNER, LAST_CORNER, InPrograms

FRAME, MASKS, SCORES = "frame", "masks", "scores"
# What a decoder takes beside the embedding, in this order.
POINTS, POINT_LABELS = "points", "point_labels"


def embedding_names(count: int) -> list[str]:
    """Of what an encoder knows of a picture, level by level."""
    return ["embedding"] if count == 1 else [f"embedding_{level}" for level in range(count)]


class EncoderGraph(nn.Module):
    """From one picture, uint8 (h, w, 3), to what is known of it: `embedding`, or `embedding_0` and so on; `pose`, int64
    (1,), the element of the group; `sure`, p(ĝ | x), float32 (1,), where it is known; `frame`, int64 (2,), its height
    and width.
    """

    def __init__(self, model: AdaptedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        model, group = self.model, self.model.canonicalizer.group
        network = cast(InPrograms, model.prediction_network)
        assert isinstance(model.preprocess, Preprocess)  # of a network that takes pictures
        pixels = picture.permute(2, 0, 1)
        pose = model.find_pose(OnePicture(pixels, model.preprocess))
        assert pose is not None  # as `check_program` says
        # By sums, as sides are no numbers in a program.
        sides = [torch.ones(side, dtype=torch.int64, device=picture.device).sum() for side in picture.shape[:2]]
        frame = torch.stack(sides)
        normalized = model.preprocess.normalization(pixels)[None]
        features = network.embed(_square(network, normalized, frame, group, pose.element))
        said = {name: level.float() for name, level in zip(embedding_names(len(features)), features, strict=True)}
        sure = certainty(model.policy, pose)
        return {**said, POSE: pose.element, **({} if sure is None else {SURE: sure}), FRAME: frame}


class DecoderGraph(nn.Module):
    """From what an encoder said of a picture, and n prompts of k points in it, to `masks`, bool (n, 1, h, w), in the
    picture as it came, and `scores`, float32 (n,), how well the network expects each to fit.
    """

    def __init__(self, model: AdaptedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, points: Tensor, point_labels: Tensor, pose: Tensor, frame: Tensor, *embedding: Tensor
    ) -> dict[str, Tensor]:
        """
        Args:
            points: float32 (n, k, 2), x and y in pixels; a picture of w x h spans [0, w] x [0, h].
            point_labels: int64 (n, k): 1 what is meant, 0 what is not, 2 and 3 the left top and right bottom corner of
                a box, -1 nothing; see `InPrograms.draw`.
        """
        network, group = cast(InPrograms, self.model.prediction_network), self.model.canonicalizer.group
        height, width = cast(list[int], frame.tolist())
        torch._check(height >= 1)
        torch._check(width >= 1)
        into = _IntoSquare(network, group, pose, frame)
        logits, scores = network.draw(embedding, _sorted(into(points), point_labels), point_labels)
        y, x = (torch.arange(side, dtype=torch.float32, device=pose.device) + 0.5 for side in (height, width))
        # The centre of each pixel, in the square, and no nearer to the border of the picture than a logit's centre.
        centres = torch.stack([x[None].expand(height, width), y[:, None].expand(height, width)], dim=-1)
        half = network.side / logits.shape[-1] / 2
        grid = torch.minimum(into(centres).clamp(min=half), into.end - half) / network.side * 2 - 1
        drawn = functional.grid_sample(
            logits.transpose(0, 1), grid[None], "bilinear", padding_mode="border", align_corners=False
        )
        return {MASKS: drawn.transpose(0, 1) > 0, SCORES: scores}


class _IntoSquare:
    """ĝ⁻¹ of places in a picture, float32 (..., 2), x and y, in the square that the network sees.

    end: x and y of the right bottom corner of the picture there.
    """

    def __init__(self, network: InPrograms, group: Group, pose: Tensor, frame: Tensor) -> None:
        self.reversed_y, self.reversed_x, self.swaps = _undo(group, pose)
        self.size = frame.flip(0).float()  # width and height
        seen = torch.where(self.swaps, frame.flip(0), frame)
        resized = network.resized(seen)
        self.end = resized.flip(0).float()
        self.scale = (resized / seen).flip(0).float()

    def __call__(self, places: Tensor) -> Tensor:
        x, y = places.unbind(dim=-1)
        width, height = self.size.unbind()
        x, y = torch.where(self.reversed_x, width - x, x), torch.where(self.reversed_y, height - y, y)
        return torch.stack([torch.where(self.swaps, y, x), torch.where(self.swaps, x, y)], dim=-1) * self.scale


def _undo(group: Group, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether ĝ⁻¹ of a batch of one reverses rows, reverses columns, and then swaps both: bool, (1,) each."""
    reversed_y, reversed_x, swaps = turns(group)[inverse(group, pose)].unbind(dim=1)
    return reversed_y, reversed_x, swaps


def _square(network: InPrograms, image: Tensor, frame: Tensor, group: Group, pose: Tensor) -> Tensor:
    """ĝ⁻¹ of an image (1, 3, h, w), resized into the square (1, 3, side, side)."""
    reversed_y, reversed_x, swaps = _undo(group, pose)
    outputs = torch.arange(network.side, device=image.device)
    # How large sides become depends on no order of them.
    resized = network.resized(frame).unbind()
    rows, columns = (weights(image.shape[axis], size, outputs) for axis, size in zip((-2, -1), resized, strict=True))
    seen = mix(rows, reversed_y).mT @ image.double() @ mix(columns, reversed_x)
    return torch.where(swaps, seen.mT, seen).float()


def _sorted(points: Tensor, labels: Tensor) -> Tensor:
    """Points (n, k, 2) with corners of a box that are left top and right bottom again."""
    corners = [points.masked_fill((labels != mark)[..., None], 0).sum(dim=1) for mark in (FIRST_CORNER, LAST_CORNER)]
    for mark, pick in ((FIRST_CORNER, torch.minimum), (LAST_CORNER, torch.maximum)):
        points = torch.where((labels == mark)[..., None], pick(*corners)[:, None], points)
    return points
