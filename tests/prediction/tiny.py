"""Small timm networks, and Hub repositories that hold them."""

import io
import json
from functools import cache
from typing import Any

import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn

State = dict[str, Tensor]
CLASSES = 4


@cache
def weights(architecture: str = "test_resnet", classes: int = CLASSES, seed: int = 0) -> State:
    """The state of a network with random weights. Leave it as it is."""
    torch.manual_seed(seed)
    return timm.create_model(architecture, num_classes=classes).state_dict()


def pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def config(architecture: str = "test_resnet", classes: int = CLASSES, **entries: Any) -> bytes:
    """A config.json as timm writes it, with further entries."""
    content = {"architecture": architecture, "num_classes": classes, "pretrained_cfg": {"num_classes": classes}}
    return json.dumps(content | entries).encode()


def repository(architecture: str = "test_resnet", classes: int = CLASSES, **entries: Any) -> dict[str, bytes]:
    """The files of a Hub repository in timm's format."""
    return {
        "config.json": config(architecture, classes, **entries),
        "model.safetensors": save(weights(architecture, classes)),
    }


def same(network: nn.Module, expected: State) -> bool:
    """Whether a network's parameters and buffers are bit-identical to these."""
    state = network.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state)
