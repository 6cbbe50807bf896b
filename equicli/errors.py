"""The errors that a user can cause. Each is one line that names the file or flag and the remedy."""

import difflib
from collections.abc import Iterable

_MAX_SHOWN = 200


class EquicliError(Exception):
    """What the user's files hold, or what the machine gives, stops the run (exit code 1)."""

    exit_code = 1


class UsageError(EquicliError):
    """The command line or the configuration is wrong; nothing was started (exit code 2)."""

    exit_code = 2


def reason(error: BaseException) -> str:
    """The first line of an exception's message, or its kind where it says nothing."""
    return shown(str(error).strip().partition("\n")[0] or type(error).__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory gave out, of which torch has no exception of its own on the CPU."""
    words = ("not enough memory", "can't allocate", "out of memory")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def shown(text: object) -> str:
    """What a file of others says, for an error: printable, on one line and not long."""
    whole = str(text)
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in whole[:_MAX_SHOWN])
    return printable + "…" * (len(whole) > _MAX_SHOWN)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
