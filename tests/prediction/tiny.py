"""Small timm networks, and Hub repositories that hold them, as timm itself writes them."""

import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

State = dict[str, Tensor]
CLASSES = 4


@cache
def weights(architecture: str = "test_resnet", classes: int = CLASSES, seed: int = 0) -> State:
    """The state of a network with random weights. Leave it as it is."""
    torch.manual_seed(seed)
    return timm.create_model(architecture, num_classes=classes).state_dict()


@cache
def _published(architecture: str, classes: int) -> dict[str, bytes]:
    network = timm.create_model(architecture, num_classes=classes)
    network.load_state_dict(weights(architecture, classes))
    with tempfile.TemporaryDirectory() as folder:
        timm.models.save_for_hf(network, folder, safe_serialization=True)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def repository(
    architecture: str = "test_resnet", classes: int = CLASSES, *, pretrained_cfg: Any = None, **entries: Any
) -> dict[str, bytes]:
    """The files of a Hub repository, with further entries of config.json and of the `pretrained_cfg` in it."""
    files = _published(architecture, classes)
    config = json.loads(files["config.json"])
    entries["pretrained_cfg"] = config["pretrained_cfg"] | (pretrained_cfg or {})
    entries["model_args"] = config["model_args"] | entries.get("model_args", {})
    return files | {"config.json": json.dumps(config | entries).encode()}


def pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def same(network: nn.Module, expected: State) -> bool:
    """Whether a network's parameters and buffers are bit-identical to these."""
    state = network.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state)
