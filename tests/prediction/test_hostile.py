"""Files that were made to do harm: nothing in them runs, and nothing in them names another file that is read."""

import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from equicli.errors import EquicliError
from equicli.prediction.checkpoint import read_weights
from equicli.prediction.load import load_network, rebuild_network
from equicli.prediction.network import NetworkSpec
from tests.prediction.tiny import CLASSES, pickled, repository, same, weights

TINY = "hf-hub:acme/tiny"


class Touch:
    """Unpickled by a careless reader, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def at_most_five_seconds() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError("still not done")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def decoy(folder: Path) -> Path:
    """Other weights that fit the repository's network, in a file that nobody asked for."""
    path = folder / "decoy.safetensors"
    path.write_bytes(save(weights(seed=7)))
    return path


@pytest.mark.parametrize("wrapped", [pickled, pickle.dumps], ids=["torch", "pickle"])
@pytest.mark.parametrize("key", ["fc.weight", "state_dict", "model"])
def test_code_in_a_checkpoint_is_not_run_and_the_user_is_told(tmp_path: Path, wrapped, key: str) -> None:
    trap = tmp_path / "sprung"
    path = tmp_path / "evil.pth"
    path.write_bytes(wrapped({key: Touch(trap)}))
    with pytest.raises(EquicliError, match=r"evil\.pth.*code from a checkpoint is never run.*safetensors"):
        read_weights(path)
    assert not trap.exists()


def test_code_in_the_weights_of_a_repository_is_not_run_and_the_user_is_told(hub, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    files = repository()
    del files["model.safetensors"]
    hub({"acme/tiny": {"main": files | {"pytorch_model.bin": pickled({"fc.weight": Touch(trap)})}}})
    with pytest.raises(EquicliError, match=r"acme/tiny.*never run"):
        load_network(TINY)
    assert not trap.exists()


def test_a_checkpoint_that_holds_itself_does_not_hang(tmp_path: Path, at_most_five_seconds) -> None:
    loop: dict[str, object] = {}
    loop["model"] = loop
    (tmp_path / "loop.pth").write_bytes(pickled(loop))
    with pytest.raises(EquicliError, match=r"loop\.pth"):
        read_weights(tmp_path / "loop.pth")


@pytest.mark.parametrize(
    "entry",
    ["file", "url", "hf_hub_filename", "hf_hub_id", "custom_load", "source", "state_dict"],
)
def test_a_configuration_cannot_name_another_source_of_weights(hub, tmp_path: Path, entry: str) -> None:
    other = decoy(tmp_path)
    up = "../" * 12 + str(other).lstrip("/")
    harm = {
        "file": {"file": str(other)},
        "url": {"url": other.as_uri()},
        "hf_hub_filename": {"hf_hub_filename": up, "hf_hub_id": "acme/tiny", "source": "hf-hub"},
        "hf_hub_id": {"hf_hub_id": "acme/decoy", "source": "hf-hub"},
        "custom_load": {"custom_load": "hf", "hf_hub_id": "acme/decoy", "hf_hub_filename": up},
        "source": {"source": "local-dir", "file": str(other.parent)},
        "state_dict": {"state_dict": {"fc.bias": [0, 0, 0, 0]}},
    }[entry]
    decoys = {"config.json": repository()["config.json"], "model.safetensors": other.read_bytes()}
    server = hub({"acme/tiny": {"main": repository(pretrained_cfg=harm, **harm)}, "acme/decoy": {"main": decoys}})
    assert same(load_network(TINY).network, weights())
    assert not any("decoy" in request for request in server.requests)


@pytest.mark.parametrize("entry", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained"])
def test_arguments_of_a_repository_cannot_name_another_source_of_weights(hub, tmp_path: Path, entry: str) -> None:
    other = str(decoy(tmp_path))
    harm = {
        "checkpoint_path": other,
        "pretrained_cfg": {"file": other},
        "pretrained_cfg_overlay": {"file": other},
        "pretrained": False,
    }
    hub({"acme/tiny": {"main": repository(model_args={entry: harm[entry]})}})
    try:
        found = load_network(TINY)
    except EquicliError as refused:
        assert entry in str(refused)
    else:
        assert same(found.network, weights())


def test_an_artifacts_spec_cannot_name_a_file_of_weights(tmp_path: Path) -> None:
    arguments = {"num_classes": CLASSES, "checkpoint_path": str(decoy(tmp_path))}
    with pytest.raises(EquicliError, match="checkpoint_path"):
        rebuild_network(NetworkSpec("timm", "test_resnet", arguments))


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("timm", "hf-hub:acme/tiny"),
        ("timm", "local-dir:/tmp"),
        ("timm", "resnet_of_the_future"),
        ("torchvision", "os.system"),
        ("torchvision", "raft_large"),
        ("python", "os:system"),
        ("os", "system"),
    ],
)
def test_an_artifacts_spec_builds_nothing_but_known_networks(hub, library: str, name: str) -> None:
    server = hub({"acme/tiny": {"main": repository()}})
    with pytest.raises(EquicliError):
        rebuild_network(NetworkSpec(library, name))
    assert server.requests == []


def test_files_are_cached_inside_the_cache_whatever_they_are_called(hub, tmp_path: Path) -> None:
    hub({"acme/tiny": {"../../../outside": repository()}})
    with suppress(EquicliError):
        load_network(f"{TINY}@../../../outside")
    assert {path.name for path in tmp_path.iterdir()} <= {"hub"}


@pytest.mark.parametrize("content", [{0: torch.ones(1)}, {("a",): torch.ones(1)}, {None: torch.ones(1)}], ids=str)
def test_keys_that_are_no_names_are_no_state_dict(tmp_path: Path, content: object) -> None:
    (tmp_path / "odd.pth").write_bytes(pickled(content))
    with pytest.raises(EquicliError, match=r"odd\.pth.*no state dict"):
        read_weights(tmp_path / "odd.pth")
