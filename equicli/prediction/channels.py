"""How many channels a network takes: three colours, or one of grey."""

from dataclasses import replace

from torch import nn

from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.errors import EquicliError
from equicli.prediction.network import PretrainedNetwork


def first_channels(network: nn.Module) -> int | None:
    """What its first convolution takes; None where there is none."""
    return next((module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)), None)


def fit_channels(found: PretrainedNetwork) -> PretrainedNetwork:
    """Let pictures be shown in grey to a network that takes one channel.

    Raises:
        EquicliError: it says that it takes neither one channel nor three.
    """
    if isinstance(found.preprocess, CloudPreprocess):
        return found
    config = getattr(found.network, "config", None)
    said = found.spec.arguments.get("in_chans", getattr(config, "num_channels", None))
    first = first_channels(found.network)
    channels = said if isinstance(said, int) else first if first == 1 else 3  # order of layers proves nothing else
    if channels not in (1, 3):
        raise EquicliError(
            f"{found.provenance['model']}: {no_pictures(channels)} Name a network for colour or grey pictures."
        )
    own = found.preprocess.normalization
    if channels == 3 or own.channels == 1:
        return found
    return replace(
        found,
        preprocess=replace(found.preprocess, normalization=own.grey()),
        remarks=(*found.remarks, "it takes one channel: pictures are shown to it in grey"),
    )


def no_pictures(channels: int) -> str:
    return f"takes {channels} channels, but pictures are shown in three (red, green, blue) or in one (grey)."
