"""PointNet (Qi et al., arXiv 1612.00593), with and without transforms, and the names that published weights have."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

# Names of other implementations, and ours. Both keep a shared MLP's layers in the order in which they run.
_NAMES = (
    (re.compile(r"^feature_model\.(conv|bn)(\d)\."), r"feat.\1\2."),  # vinits5/learning3d
    (re.compile(r"^linear(\d)\."), r"fc\1."),
)


class PointNet(nn.Module):
    """Classifies clouds (b, n, 3), or with `parts` each of their points.

    A shared MLP makes features of every point, their maximum over all points those of the cloud, and a further MLP the
    logits (b, classes). With transforms, small networks of the same kind predict matrices that points and then their
    64 features are multiplied by (T-nets). With parts, the features of the cloud are put beside those of each point:
    logits (b, n, classes).
    """

    def __init__(self, classes: int, *, transforms: bool = False, compact: bool = False, parts: bool = False) -> None:
        """
        Args:
            compact: three layers in place of five, the last without a ReLU, as in fxia22/pointnet.pytorch and
                yanx27/Pointnet_Pointnet2_pytorch, whose checkpoints then load; else as in the paper.
        """
        super().__init__()
        self.feat = Features(transforms=transforms, compact=compact)
        self.parts = parts
        inputs = self.feat.outputs + 64 if parts else self.feat.outputs
        self.fc1, self.fc2, self.fc3 = nn.Linear(inputs, 512), nn.Linear(512, 256), nn.Linear(256, classes)
        self.bn1, self.bn2 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)
        self.dropout = nn.Dropout(0.3)

    def forward(self, clouds: Tensor) -> Tensor:
        of_points, of_cloud = self.feat(clouds.mT)
        if not self.parts:
            return self._head(of_cloud)
        b, _, n = of_points.shape
        joined = torch.cat([of_points, of_cloud[:, :, None].expand(-1, -1, n)], dim=1)
        return self._head(joined.mT.reshape(b * n, -1)).reshape(b, n, -1)

    def _head(self, features: Tensor) -> Tensor:
        hidden = relu(self.bn1(self.fc1(features)))
        hidden = relu(self.bn2(self.dropout(self.fc2(hidden))))
        out: Tensor = self.fc3(hidden)
        return out

    def own_names(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate the names of published weights; see `_NAMES`."""
        return {_own_name(name): value for name, value in weights.items()}


def _own_name(name: str) -> str:
    name = name.removeprefix("module.")
    for pattern, own in _NAMES:
        name = pattern.sub(own, name)
    return name


class Features(nn.Module):
    """From coordinates (b, 3, n) to 64 features of each point, (b, 64, n), and those of the cloud, (b, outputs)."""

    def __init__(self, *, transforms: bool, compact: bool) -> None:
        super().__init__()
        widths = (3, 64, 128, 1024) if compact else (3, 64, 64, 64, 128, 1024)
        self.local = 1 if compact else 2  # layers before the second transform
        self.count, self.outputs, self.compact = len(widths) - 1, widths[-1], compact
        for number, (before, after) in enumerate(pairwise(widths), start=1):
            setattr(self, f"conv{number}", nn.Conv1d(before, after, 1))
            setattr(self, f"bn{number}", nn.BatchNorm1d(after))
        self.stn = Transform(3) if transforms else None
        self.fstn = Transform(64) if transforms else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _transformed(self.stn, x)
        local = x
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            if number < self.count:
                x = relu(x)
            if number == self.local:
                x = local = _transformed(self.fstn, x)
        # The maximum and a ReLU commute, and of the former there is less.
        of_cloud = x.amax(dim=2)
        return local, of_cloud if self.compact else relu(of_cloud)


class Transform(nn.Module):
    """A T-net: predicts a matrix (b, k, k) from features (b, k, n), near the identity when it starts."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(k, 64, 1), nn.Conv1d(64, 128, 1), nn.Conv1d(128, 1024, 1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(1024, 512), nn.Linear(512, 256), nn.Linear(256, k * k)
        for number, width in enumerate((64, 128, 1024, 512, 256), start=1):
            setattr(self, f"bn{number}", nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        convolutions: Sequence[nn.Module] = (self.conv1, self.conv2, self.conv3)
        for number, layer in enumerate(convolutions, start=1):
            x = relu(getattr(self, f"bn{number}")(layer(x)))
        x = x.amax(dim=2)
        for number, layer in enumerate((self.fc1, self.fc2), start=4):
            x = relu(getattr(self, f"bn{number}")(layer(x)))
        matrix: Tensor = self.fc3(x).view(-1, self.k, self.k) + torch.eye(self.k).to(x)
        return matrix


def _transformed(transform: nn.Module | None, x: Tensor) -> Tensor:
    if transform is None:
        return x
    turned: Tensor = (x.mT @ transform(x)).mT
    return turned
