"""How long work tells what it is doing, without knowing of terminals."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    def say(self, text: str) -> None:
        """Tell one line that the user should know, such as a decision made for them."""

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield the items, showing how many of `total` are done."""


class Silent:
    """Progress that nobody looks at."""

    def say(self, text: str) -> None:
        pass

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        yield from items
