"""The CIFAR-10 ResNets of He et al. 2016 (arXiv 1512.03385, section 4.2) with parameter-free shortcuts (option A).

A user's own network, as far as equicli is concerned: `--model python:tests.benchmarks.cifar_resnet:resnet56`. The
names of modules are those of the published checkpoints.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut that pads new channels with zeros where the size changes."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.grows = channels != channels_in
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=2 if self.grows else 1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.grows:
            extra = (out.shape[1] - x.shape[1]) // 2
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, extra, extra))
        return functional.relu(out + x)


class CifarResNet(nn.Module):
    """6n + 2 layers: three stages of n blocks with 16, 32 and 64 channels. (b, 3, 32, 32) to (b, 10)."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, n)
        self.layer2 = self._stage(16, 32, n)
        self.layer3 = self._stage(32, 64, n)
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.mean(x, dim=(2, 3)))

    @staticmethod
    def _stage(channels_in: int, channels: int, n: int) -> nn.Sequential:
        return nn.Sequential(*(Block(channels_in if i == 0 else channels, channels) for i in range(n)))


def resnet20() -> CifarResNet:
    return CifarResNet(3)


def resnet56() -> CifarResNet:
    return CifarResNet(9)
