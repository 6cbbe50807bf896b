"""Whether a server answers, found out in seconds: clients of their own retry for minutes before they give one up."""

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

from huggingface_hub import constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

PATIENCE = 3.0  # seconds
_REMEMBERED = 60.0

# When each server was asked last, and whether it answered.
_known: dict[str, tuple[float, bool]] = {}


@contextmanager
def offline_where_silent() -> Iterator[None]:
    """Within this context the Hub's client is offline if the Hub does not answer; it would ask for more than files."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not hub_answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_answers() -> bool:
    """Whether the Hub answers in time (HF_HUB_ETAG_TIMEOUT, in seconds). With HF_HUB_OFFLINE it is not asked."""
    if constants.HF_HUB_OFFLINE:
        return False

    def ask() -> bool:
        return bool(get_session().head(constants.ENDPOINT, timeout=patience()).status_code < 500)

    return _answers(constants.ENDPOINT, ask)


def address_answers(url: str) -> bool:
    """Whether the server of an address answers, and be it with an error."""

    def ask() -> bool:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=patience()).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code < 500
        return True

    return _answers(url, ask)


def patience() -> float:
    """How many seconds a server has to answer."""
    return float(constants.HF_HUB_ETAG_TIMEOUT) if os.environ.get("HF_HUB_ETAG_TIMEOUT") else PATIENCE


def _answers(server: str, ask: Callable[[], bool]) -> bool:
    asked, answered = _known.get(server, (-_REMEMBERED, False))
    if time.monotonic() - asked < _REMEMBERED:
        return answered
    found: list[bool] = []

    def run() -> None:
        try:
            found.append(ask())
        except Exception:  # of any client, proxy or certificate
            found.append(False)

    # In a thread, as looking up a name has no timeout.
    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(patience())
    _known[server] = (time.monotonic(), bool(found and found[0]))
    return _known[server][1]
