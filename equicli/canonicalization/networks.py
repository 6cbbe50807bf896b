"""Canonicalization networks: `conv`, ours and small, or any network of timm's or torchvision's."""

from dataclasses import replace
from itertools import pairwise

from torch import nn

from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError
from equicli.prediction.head import replace_head
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.prediction.zero_shot import TwoTowers


def load_canonicalization_network(
    name: str, *, checkpoint: str | None = None, size: int, width: int, vector_size: int
) -> PretrainedNetwork:
    """Return a network from images to vectors, with what rebuilds it and how its images are to be normalized.

    Args:
        name: `conv`, or what `load_network` takes; then it starts from its published weights or from `checkpoint`, and
            its last layer is replaced.
        size: side in pixels of its images.
        width: channels of the first stage of `conv`.
        vector_size: length of the vectors.

    Raises:
        UsageError, EquicliError: see `load_network`; the flags named are the canonicalizer's.
    """
    if name == "conv":
        spec = NetworkSpec("equicli", "conv", {"width": width, "outputs": vector_size})
        preprocess = Preprocess(size, size, "bilinear", HALF)
        return PretrainedNetwork(build_canonicalization_network(spec), spec, preprocess, None, {})
    try:
        found = load_network(name, checkpoint=checkpoint, image_size=size)
        network = found.network.image_tower() if isinstance(found.network, TwoTowers) else found.network
        replace_head(network, vector_size)
    except EquicliError as error:
        message = str(error).replace(" Check --model-arg.", "").replace("--model", "--canonicalizer-network")
        raise type(error)(message.replace("--checkpoint", "--canonicalizer-checkpoint")) from error
    return replace(found, network=network, spec=replace(found.spec, head_outputs=vector_size))


def build_canonicalization_network(spec: NetworkSpec) -> nn.Module:
    """Build the network of a spec, untrained.

    Raises:
        EquicliError: it cannot be built.
    """
    if spec.library != "equicli":
        return rebuild_network(spec)
    # A header that others wrote must not ask for more than a configuration can.
    sizes = {name: spec.arguments.get(name) for name in ("width", "outputs")}
    if spec.arguments != sizes or not all(type(size) is int and 1 <= size <= 4096 for size in sizes.values()):
        raise EquicliError(f"{spec.architecture}: this equicli cannot build it from {dict(spec.arguments)}.")
    return conv(**spec.arguments)


def conv(width: int, outputs: int) -> nn.Module:
    """A plain convolutional network, (b, 3, h, w) to (b, outputs): four halving stages, then an average."""
    channels = [3, width, 2 * width, 4 * width, 4 * width]
    stages = [
        layer
        for before, after in pairwise(channels)
        for layer in (
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )
    ]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], outputs))
