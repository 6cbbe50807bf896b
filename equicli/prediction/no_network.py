"""In place of a prediction network, where only poses are wanted: `--model none`."""

from torch import Tensor, nn
from torch.nn import functional

from equicli.data.normalization import IMAGENET
from equicli.data.preprocess import Preprocess
from equicli.errors import UsageError
from equicli.prediction.network import NetworkRequest, NetworkSpec, PretrainedNetwork

NONE = "none"
_SIDE = 8


class NoNetwork(nn.Module):
    """Says of images (b, c, h, w) what is seen in them, (b, c·64): the images themselves, made tiny."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(images, _SIDE).flatten(1)


def load(request: NetworkRequest) -> PretrainedNetwork:
    """Pictures are taken as they are."""
    given = {"--checkpoint": not request.pretrained, "--model-arg": request.arguments, "--revision": request.revision}
    for flag, value in {**given, "--image-size": request.image_size}.items():
        if value:
            raise UsageError(f"{flag}: --model {NONE} has no network; leave it out.")
    preprocess = Preprocess(None, None, "bilinear", IMAGENET)
    return PretrainedNetwork(NoNetwork(), NetworkSpec(NONE, NONE), preprocess, None, {"model": NONE, "sha256": NONE})
