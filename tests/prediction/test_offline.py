"""Without network: the Hub is asked once, for seconds; then what is in the cache is taken, or the remedy said."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torchvision.models as zoo
from huggingface_hub import constants

from equicli.errors import EquicliError
from equicli.prediction import reachable
from equicli.prediction.load import load_network
from tests.hub_server import HubServer
from tests.prediction.tiny import repository, same, weights

Move = Callable[[str], None]


class BlackHole:
    """A server that takes connections and never says a word."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self.taken.append(self._socket.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()
        for taken in self.taken:
            taken.close()


@pytest.fixture
def black_hole(monkeypatch) -> Iterator[BlackHole]:
    monkeypatch.setattr(reachable, "PATIENCE", 0.3)
    hole = BlackHole()
    yield hole
    hole.close()


@pytest.fixture
def move(monkeypatch) -> Move:
    """Let the Hub be elsewhere from now on."""

    def to(url: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return to


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("model", ["hf-hub:acme/tiny", "acme/tiny", "transformers:acme/tiny", "vit_base"])
def test_a_silent_hub_is_asked_once_and_the_remedy_said(hub, move: Move, black_hole: BlackHole, model: str) -> None:
    hub({})
    move(black_hole.url)
    with pytest.raises(EquicliError, match=r"not in the local cache.*cannot be reached"):
        load_network(model)
    assert len(black_hole.taken) == 1


def test_no_hub_at_all_is_not_waited_for(hub, move: Move, monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    hub({})
    move(closed_port())
    with pytest.raises(EquicliError, match="cannot be reached"):
        load_network("acme/tiny")
    assert not waited


@pytest.mark.parametrize("silent", [True, False])
def test_what_is_in_the_cache_is_taken(hub, move: Move, black_hole: BlackHole, silent: bool) -> None:
    hub({"acme/tiny": {"main": repository()}})
    online = load_network("acme/tiny")
    move(black_hole.url if silent else closed_port())
    offline = load_network("acme/tiny")
    assert same(offline.network, weights()) and offline.provenance == online.provenance
    assert len(black_hole.taken) == silent


def test_a_hub_that_is_down_is_not_asked_again_and_again(hub, monkeypatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    server: HubServer = hub({"acme/tiny": {"main": repository()}}, down=True)
    with pytest.raises(EquicliError, match="cannot be reached"):
        load_network("acme/tiny")
    assert len(server.requests) == 1 and not waited


def test_the_patience_can_be_set(monkeypatch) -> None:
    assert reachable.patience() == reachable.PATIENCE < 5
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "20")
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 20)
    assert reachable.patience() == 20


def test_weights_of_torchvision_are_not_waited_for_either(black_hole: BlackHole, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    elsewhere = replace(zoo.SqueezeNet1_1_Weights.DEFAULT.value, url=f"{black_hole.url}/squeezenet1_1-00000000.pth")
    monkeypatch.setattr(zoo.SqueezeNet1_1_Weights.DEFAULT, "_value_", elsewhere)
    with pytest.raises(EquicliError, match=r"not in the local cache.*cannot be reached.*--checkpoint"):
        load_network("torchvision:squeezenet1_1")
    assert len(black_hole.taken) == 1


def test_an_error_is_an_answer() -> None:
    with HubServer({}) as server:
        assert reachable.address_answers(f"{server.url}/nothing")
