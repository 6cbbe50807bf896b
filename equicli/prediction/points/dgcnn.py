"""DGCNN (Wang et al., arXiv 1801.07829): edges to the nearest points, found anew in the features of every layer."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

SLOPE = 0.2
_WIDTHS = (64, 64, 128, 256)


class DGCNN(nn.Module):
    """Classifies clouds (b, n, 3), or with `parts` each of their points: logits (b, classes) or (b, n, classes).

    Layers have the names of WangYueFt/dgcnn and antao97/dgcnn.pytorch, so that their checkpoints load.

    k: how many of the nearest points have an edge, the point itself among them.
    """

    def __init__(self, classes: int, *, k: int = 20, width: int = 1024, parts: bool = False) -> None:
        super().__init__()
        self.k, self.parts = k, parts
        before = 3
        for number, after in enumerate(_WIDTHS, start=1):
            setattr(self, f"conv{number}", _block(nn.Conv2d(2 * before, after, 1, bias=False), nn.BatchNorm2d(after)))
            before = after
        edges = sum(_WIDTHS)
        self.conv5 = _block(nn.Conv1d(edges, width, 1, bias=False), nn.BatchNorm1d(width))
        self.linear1 = nn.Linear(2 * width + (edges if parts else 0), 512, bias=False)
        self.bn6 = nn.BatchNorm1d(512)
        self.linear2 = nn.Linear(512, 256)
        self.bn7 = nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, classes)
        self.dropout = nn.Dropout(0.5)

    def forward(self, clouds: Tensor) -> Tensor:
        x, layers = clouds.mT, []
        for number in range(1, len(_WIDTHS) + 1):
            x = getattr(self, f"conv{number}")(edge_features(x, self.k)).amax(dim=3)
            layers.append(x)
        of_points = torch.cat(layers, dim=1)
        x = self.conv5(of_points)
        of_cloud = torch.cat([x.amax(dim=2), x.mean(dim=2)], dim=1)
        if not self.parts:
            return self._head(of_cloud)
        b, _, n = of_points.shape
        joined = torch.cat([of_points, of_cloud[:, :, None].expand(-1, -1, n)], dim=1)
        return self._head(joined.mT.reshape(b * n, -1)).reshape(b, n, -1)

    def _head(self, features: Tensor) -> Tensor:
        hidden = self.dropout(leaky_relu(self.bn6(self.linear1(features)), SLOPE))
        hidden = self.dropout(leaky_relu(self.bn7(self.linear2(hidden)), SLOPE))
        out: Tensor = self.linear3(hidden)
        return out

    def own_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Published state dicts hold the normalization of each block twice, as `bn1` and as `conv1.1`."""
        twice = tuple(f"bn{number}." for number in range(1, 6))
        own = {name.removeprefix("module."): value for name, value in weights.items()}
        return {name: value for name, value in own.items() if not name.startswith(twice)}


def _block(convolution: nn.Module, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, norm, nn.LeakyReLU(SLOPE))


def edge_features(x: Tensor, k: int) -> Tensor:
    """Of features (b, c, n), for each point and each of its k nearest: the difference, and the point's own.

    Returns:
        (b, 2c, n, k).
    """
    b, _, n = x.shape
    square = x.square().sum(dim=1)
    distance = square[:, :, None] - 2 * (x.mT @ x) + square[:, None, :]
    nearest = distance.topk(min(k, n), dim=2, largest=False).indices  # (b, n, k)
    rows = torch.arange(b, device=x.device)[:, None, None]
    neighbours = x.mT[rows, nearest]  # (b, n, k, c)
    own = x.mT[:, :, None].expand_as(neighbours)
    return torch.cat([neighbours - own, own], dim=3).permute(0, 3, 1, 2)
