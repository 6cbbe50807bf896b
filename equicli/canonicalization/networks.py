"""Canonicalization networks: `conv`, ours and small, any of timm's or torchvision's, or the best for its cost."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from torch import nn

from equicli.canonicalization.canonicalizer import SIZE
from equicli.canonicalization.view_network import Look
from equicli.data.normalization import HALF
from equicli.data.preprocess import Preprocess
from equicli.errors import EquicliError, UsageError
from equicli.prediction.head import replace_head
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.network import NetworkSpec, PretrainedNetwork
from equicli.prediction.zero_shot import TwoTowers


@dataclass(frozen=True)
class Candidate:
    """A pretrained network that finds poses well for what it costs.

    name: as `load_network` takes it. look: how it looks at images.
    cost: its time on the four views of C4, as a share of that of one pass of ViT-B/16, on one thread of a CPU.
    """

    name: str
    look: Look
    cost: float


# Best first; tests/benchmarks/RESULTS.md has the identity rate of each, SqueezeNet's after training on other photos.
# Costs were measured at 96 pixels and are scaled by operations; after a glance one photo in five is looked at again.
CANDIDATES = (
    Candidate("tf_efficientnet_lite0", Look(160), 0.089),
    Candidate("tf_efficientnet_lite0", Look(160, glance=96), 0.050),
    Candidate("tf_efficientnet_lite0", Look(128, glance=80), 0.038),
    Candidate("torchvision:squeezenet1_1", Look(96), 0.009),
)


def load_best_network(
    *, checkpoint: str | None, size: int | None, width: int, outputs: int, budget: float
) -> tuple[PretrainedNetwork, Look]:
    """Return the best of CANDIDATES that can be had, or else `conv`, and how it looks at images.

    Args:
        checkpoint: weights of one of them, from a file; None takes the published ones.
        size: None takes what suits the network.
        budget: what it may cost, see `Candidate`.

    Raises:
        UsageError, EquicliError: the checkpoint fits none of them.
    """
    if checkpoint is not None and not checkpoint.startswith("hf-hub:") and not Path(checkpoint).exists():
        raise UsageError(f"--canonicalizer-checkpoint {checkpoint}: no such file.")
    failures: list[EquicliError] = []
    for candidate in (c for c in CANDIDATES if c.cost <= budget):
        look = Look(size) if size else candidate.look
        try:
            found = load_canonicalization_network(
                candidate.name, checkpoint=checkpoint, size=look.size, width=width, outputs=outputs
            )
        except EquicliError as error:
            failures.append(error)
            continue
        first = f", after a first look at {look.glance}" if look.glance else ""
        return replace(
            found, remarks=(f"canonicalization network: {candidate.name} at {look.size} pixels{first}",)
        ), look
    if checkpoint is not None:
        known = ", ".join(dict.fromkeys(c.name for c in CANDIDATES if c.cost <= budget))
        raise UsageError(
            f"--canonicalizer-checkpoint {checkpoint}: fits none of {known}; name its --canonicalizer-network."
        ) from next(iter(failures), None)
    side = size or SIZE
    found = load_canonicalization_network("conv", checkpoint=None, size=side, width=width, outputs=outputs)
    why = str(failures[0]).partition(". ")[0] if failures else f"none costs {budget:g} or less"
    remark = (
        "canonicalization network: conv, which starts untrained and finds fewer poses, as no pretrained one can be had "
        f"({why}). Give weights of {CANDIDATES[0].name} with --canonicalizer-checkpoint FILE"
    )
    return replace(found, remarks=(remark,)), Look(side)


def load_canonicalization_network(
    name: str, *, checkpoint: str | None = None, size: int, width: int, outputs: int
) -> PretrainedNetwork:
    """Return a network from images to vectors, with what rebuilds it and how its images are to be normalized.

    Args:
        name: `conv`, or what `load_network` takes; then it starts from its published weights or from `checkpoint`, and
            its last layer is replaced.
        size: side in pixels of its images.
        width: channels of the first stage of `conv`.
        outputs: length of the vectors.

    Raises:
        UsageError, EquicliError: see `load_network`; the flags named are the canonicalizer's.
    """
    if name == "conv":
        spec = NetworkSpec("equicli", "conv", {"width": width, "outputs": outputs})
        preprocess = Preprocess(size, size, "bilinear", HALF)
        return PretrainedNetwork(build_canonicalization_network(spec), spec, preprocess, None, {})
    try:
        found = load_network(name, checkpoint=checkpoint, image_size=size)
        network = found.network.image_tower() if isinstance(found.network, TwoTowers) else found.network
        replace_head(network, outputs)
    except EquicliError as error:
        message = str(error).replace(" Check --model-arg.", "").replace("--model", "--canonicalizer-network")
        raise type(error)(message.replace("--checkpoint", "--canonicalizer-checkpoint")) from error
    # Nothing of its classes is left to remark on.
    return replace(found, network=network, spec=replace(found.spec, head_outputs=outputs), remarks=())


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
