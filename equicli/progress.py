"""How long work tells what it is doing, without knowing of terminals."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


def one(item: object) -> int:
    """Each item counts for itself."""
    return 1


class Progress(Protocol):
    def say(self, text: str) -> None:
        """Tell one line that the user should know, such as a decision made for them."""

    def track(self, items: Iterable[T], label: str, total: int, size: Callable[[T], int] = one) -> Iterator[T]:
        """Yield the items, showing how many of `total` are done; `size` says how many an item counts for."""


class Silent:
    """Progress that nobody looks at."""

    def say(self, text: str) -> None:
        pass

    def track(self, items: Iterable[T], label: str, total: int, size: Callable[[T], int] = one) -> Iterator[T]:
        yield from items
