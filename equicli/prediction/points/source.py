"""Prediction networks for point clouds: `pointnet` and `dgcnn`."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.errors import EquicliError, UsageError, reason
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork
from equicli.prediction.points.dgcnn import DGCNN
from equicli.prediction.points.pointnet import PointNet

NETWORKS: dict[str, type[nn.Module]] = {"pointnet": PointNet, "dgcnn": DGCNN}
# What is said of it, not to its constructor.
UNTRAINED = "pretrained"

MODELNET40 = (
    "airplane bathtub bed bench bookshelf bottle bowl car chair cone cup curtain desk door dresser flower_pot "
    "glass_box guitar keyboard lamp laptop mantel monitor night_stand person piano plant radio range_hood sink sofa "
    "stairs stool table tent toilet tv_stand vase wardrobe xbox"
).split()
CLASSES = len(MODELNET40)  # where nothing is said


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Make a network for point clouds; its weights come from a file, as nobody publishes any under one name.

    `--model-arg classes=N` (40 where nothing is said, as of ModelNet40, whose names its outputs then have), and what
    its constructor takes. `--model-arg pretrained=false` starts untrained, for `--train-base`.

    Raises:
        UsageError: there are no weights, or an argument is wrong.
    """
    arguments = {"classes": CLASSES, **request.arguments}
    pretrained = arguments.pop(UNTRAINED, True)
    if request.image_size is not None or request.revision is not None:
        raise UsageError(f"--model {request.name}: takes point clouds; leave out --image-size and --revision.")
    if request.pretrained and pretrained:
        raise UsageError(
            f"--model {request.name}: no weights of it are published in one place; name a file with --checkpoint FILE, "
            f"or train it from scratch with --model-arg {UNTRAINED}=false --train-base."
        )
    network = create(request.name, arguments)
    known = arguments["classes"] == CLASSES and not request.pretrained
    names = tuple((name,) for name in MODELNET40) if known else None
    spec = NetworkSpec("equicli", request.name, arguments)
    return PretrainedNetwork(network, spec, CloudPreprocess(), names, {"model": request.name})


def create(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a network with untrained weights, in eval mode.

    Raises:
        EquicliError: there is none of this name, or it does not take these arguments.
    """
    if name not in NETWORKS:
        raise EquicliError(f"'{name}' is none of the networks {', '.join(NETWORKS)}.")
    for key, value in arguments.items():
        if type(value) is not bool and not (type(value) is int and 1 <= value <= 4096):
            raise EquicliError(f"{name}: {key}={value} is no number from 1 to 4096, true or false.")
    try:
        return NETWORKS[name](**arguments).eval()
    except TypeError as error:
        raise EquicliError(f"{name}: cannot be built ({reason(error)}). Check --model-arg.") from error
