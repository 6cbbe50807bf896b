"""The errors that a user can cause. Each is one line that names the file or flag and the remedy."""

import difflib
import re
from collections.abc import Iterable

_MAX_SHOWN = 200
_NEAR = 0.7  # likeness from 0 to 1 below which a guess does not help


class EquicliError(Exception):
    """What the user's files hold, or what the machine gives, stops the run (exit code 1)."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


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
    return printable(whole[:_MAX_SHOWN]) + "…" * (len(whole) > _MAX_SHOWN)


def said_of(things: str, text: str) -> str:
    """A text about images or pictures, said of other things, such as `point clouds`; flags stay as they are."""
    if things == "images":
        return text
    words = {
        "images": things,
        "pictures": things,
        "image": things.removesuffix("s"),
        "picture": things.removesuffix("s"),
    }
    text = re.sub(r"\ban (image)\b", r"a \1", text)
    return re.sub(r"(?<!-)\b(images?|pictures?)\b", lambda found: words[found[1]], text)


def counted(count: int, things: str) -> str:
    """How many things, whose name is given for many: `1 file`, `1,200 pictures`."""
    ending = "es" if things.endswith(("ches", "shes", "sses", "xes")) else "s"
    return f"{count:,} {things.removesuffix(ending) if count == 1 else things}"


def printable(text: object) -> str:
    """A text, such as a file's name, on one line that every terminal shows: escapes stand for what does not print."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest known word, or an empty string.

    Of `canonicalizer.width` and `systems/energy`, what is behind the last dot or slash may be near, too.
    """

    def likeness(name: str) -> float:
        whole = difflib.SequenceMatcher(None, name.lower(), word.lower()).ratio()
        last = difflib.SequenceMatcher(None, _last(name).lower(), _last(word).lower()).ratio()
        return max(whole, last - 0.01)  # of equals the one that is written alike

    near = max(known, key=likeness, default=None)
    return f" Did you mean '{near}'?" if near is not None and likeness(near) >= _NEAR else ""


def _last(word: str) -> str:
    return re.split(r"[./]", word)[-1]
