"""The files below a folder: which are pictures, and an account of all that are not used.

Links are followed. Each place is read once, by its own name where it has one here, so that links in a circle end.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from equicli.data.formats import is_picture
from equicli.data.names import BESIDE_PICTURES, PICTURES, is_hidden, plain
from equicli.errors import counted, said_of, shown

# Files of these are taken for pictures unread; of others, those that begin as one. What cannot be read is told later.
IMAGE_SUFFIXES = frozenset(
    (
        ".jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .pfm .jp2 .j2k .jpx .jpc "
        ".mpo .avif .heic .heif .hif .tga"
    ).split()
)

# Why files are not used.
HIDDEN = "files hidden or of the system"
OWN = "files of equicli's own outputs"
NO_PICTURE = "files other than pictures"
DANGLING = "links to nowhere"
SPECIAL = "files of a special kind, such as pipes"
UNREADABLE = "folders without permission to read"
BESIDE = "pictures beside what is read"
UNLABELLED = "pictures without labels beside labelled ones"
ANNOTATION = "files of masks and labels"
LOOSE = "pictures beside class folders"
CIRCLE = "links to folders that are read anyway"
EMPTY = "folders without a picture"
# `--strict` stops at these: they should have been pictures.
FAULTS = (DANGLING, UNREADABLE, LOOSE)

Place = tuple[int, int]
MOST_NAMED = 4  # of files or suffixes, in a line


class Holds(NamedTuple):
    """What a folder is searched for. things: what messages call these files. takes: whether a file is one."""

    things: str
    takes: Callable[[Path], bool]

    def said(self, text: str) -> str:
        """A text about pictures or images, said of these things."""
        return text if self.things == "pictures" else said_of(self.things, text)


IMAGES = Holds("pictures", lambda path: path.suffix.lower() in IMAGE_SUFFIXES or is_picture(path))


class Listing(NamedTuple):
    """Names in one folder, sorted. aside: files that are no pictures, by reason; hidden: folders."""

    images: tuple[str, ...]
    folders: tuple[str, ...]
    links: frozenset[str]
    hidden: tuple[str, ...]
    aside: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class LeftOut:
    """What a dataset folder holds and nothing uses: every file by the reason, and folders without any picture."""

    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    empty: tuple[Path, ...] = ()
    holds: Holds = IMAGES

    def counts(self) -> dict[str, int]:
        return {reason: len(paths) for reason, paths in self.files.items()}

    def line(self) -> str | None:
        """All in one line; None where nothing was left out."""
        everything = {**self.files, **({EMPTY: self.empty} if self.empty else {})}
        told = [f"{_counted(len(paths), reason)} ({_examples(reason, paths)})" for reason, paths in everything.items()]
        return self.holds.said(f"left out: {', '.join(told)}") if told else None

    def fault(self) -> tuple[Path, str] | None:
        """The first file that should have been a picture, and how many of its kind there are."""
        found = next((reason for reason in FAULTS if reason in self.files), None)
        if found is None:
            return None
        return self.files[found][0], self.holds.said(_counted(len(self.files[found]), found))


class FileTree:
    """A folder's files. Each folder is listed once; what is read is remembered, so that the rest can be told."""

    def __init__(self, root: Path, holds: Holds = IMAGES) -> None:
        self.root, self.holds = root, holds
        self._listings: dict[Place, Listing] = {}
        self._with_pictures: dict[Path, bool] = {}
        self._read: set[Place] = set()
        self._entered: set[Place] = set()  # on the way to what is read
        self._aside: dict[Place, str] = {}
        self._loose: set[Place] = set()
        self._circles: set[Path] = set()
        self._above = {place_of(path) for path in (root.resolve(), *root.resolve().parents)}

    def listing(self, folder: Path) -> Listing:
        place = place_of(folder)
        if place not in self._listings:
            self._listings[place] = _list(folder, self.holds)
        return self._listings[place]

    def images(self, folder: Path) -> list[Path]:
        """Pictures in a folder itself."""
        return [folder / name for name in self.listing(folder).images]

    def folders(self, folder: Path) -> list[Path]:
        """Folders in a folder that have pictures somewhere below, but for those that are set aside."""
        found = [folder / name for name in self.listing(folder).folders]
        with_masks = any(plain(path.name) in PICTURES for path in found)
        for path in found:
            if with_masks and plain(path.name) in BESIDE_PICTURES:
                self.leave(path, ANNOTATION)
            elif is_own_output(path):
                self.leave(path, OWN)
        return [path for path in found if place_of(path) not in self._aside and self.holds_pictures(path)]

    def without_pictures(self, folder: Path) -> list[Path]:
        """Folders in a folder that have no picture below, and that nothing sets aside."""
        found = [folder / name for name in self.listing(folder).folders]
        return [path for path in found if not (place_of(path) in self._aside or self.holds_pictures(path))]

    def holds_pictures(self, folder: Path) -> bool:
        if folder not in self._with_pictures:
            self._with_pictures[folder] = any(self.listing(path).images for path in self._inside(folder))
        return self._with_pictures[folder]

    def count(self, folder: Path) -> int:
        """How many pictures are in a folder and below."""
        return sum(len(self.listing(path).images) for path in self._inside(folder))

    def _inside(self, folder: Path) -> Iterator[Path]:
        """A folder and those below it; none where it is a link to one above."""
        above = {place_of(path) for path in folder.parents} | self._above
        if place_of(folder) not in above:
            yield from self._below(folder, above, set())

    def leave(self, folder: Path, reason: str) -> None:
        """Leave out a folder and what is below, where nothing else reads it."""
        self._aside.setdefault(place_of(folder), reason)

    def leave_loose(self, folder: Path) -> None:
        """Leave out the pictures in a folder itself, which stand beside class folders."""
        self._loose.add(place_of(folder))

    def read(self, folders: Iterable[Path], seen: set[Place]) -> list[Path]:
        """All pictures below folders, and mark them as used.

        Args:
            seen: places that are read already, or will be by a name of their own; grows.
        """
        pictures = []
        for folder in folders:
            self._enter(folder)
            for path in self._below(folder, seen, self._circles):
                self._read.add(place_of(path))
                pictures += self.images(path)
        return sorted(pictures)

    def read_all(self) -> list[Path]:
        """All pictures of the tree, marked as used, but for what `folders` sets aside."""
        waiting, met = [self.root], set()
        while waiting:
            folder = waiting.pop()
            if place_of(folder) not in met:
                met.add(place_of(folder))
                waiting += self.folders(folder)
        return self.read([self.root], set())

    def read_here(self, folder: Path) -> list[Path]:
        """The pictures in a folder itself, marked as used."""
        self._enter(folder)
        self._read.add(place_of(folder))
        return self.images(folder)

    def _enter(self, folder: Path) -> None:
        self._entered |= {place_of(path) for path in folder.parents if path.is_relative_to(self.root)}

    def really_below(self, folders: Iterable[Path]) -> set[Place]:
        """Places below folders by names of their own, and above the whole."""
        below = {place_of(Path(path)) for folder in folders for path, _, _ in os.walk(folder)}
        return below | self._above

    def left_out(self, empty: Iterable[Path] = ()) -> LeftOut:
        """Every file that was not read, by the reason."""
        files: dict[str, list[Path]] = {}
        for folder, reason in self._everything():
            place, listing = place_of(folder), self.listing(folder)
            if place not in self._read:
                why = LOOSE if place in self._loose else reason or BESIDE
                files.setdefault(why, []).extend(self.images(folder))
            for why, names in listing.aside.items():
                known = reason if reason in (OWN, ANNOTATION) and why == NO_PICTURE else why
                files.setdefault(known, []).extend(folder / name for name in names)
            for name in listing.hidden:
                files.setdefault(HIDDEN, []).extend(self._unread_below(folder / name))
        files[CIRCLE] = sorted(self._circles)
        return LeftOut({why: tuple(paths) for why, paths in files.items() if paths}, tuple(empty), self.holds)

    def _unread_below(self, folder: Path) -> list[Path]:
        below = [(Path(path), names) for path, _, names in os.walk(folder)]
        return [path / name for path, names in below if place_of(path) not in self._read for name in names]

    def _everything(self) -> Iterator[tuple[Path, str | None]]:
        """Each folder that is here or was read, once, and the reason where it is set aside."""
        waiting: list[tuple[Path, str | None]] = [(self.root, None)]
        seen: set[Place] = set()
        while waiting:
            folder, reason = waiting.pop()
            place = place_of(folder)
            if place in seen:
                continue
            seen.add(place)
            reason = self._aside.get(place) or (OWN if folder != self.root and is_own_output(folder) else reason)
            yield folder, reason
            listing = self.listing(folder)
            for name in reversed(listing.folders):
                if name not in listing.links:
                    waiting.append((folder / name, reason))
                elif place_of(folder / name) in self._read | self._entered:
                    waiting.insert(0, (folder / name, reason))  # after all folders that have a name of their own here

    def _below(self, folder: Path, seen: set[Place], circles: set[Path]) -> Iterator[Path]:
        """A folder and those below it; links to places that were seen are not followed but added to `circles`."""
        waiting = [folder]
        if folder.is_symlink() and place_of(folder) in seen:
            circles.add(folder)
            waiting = []
        while waiting:
            path = waiting.pop()
            seen.add(place_of(path))
            yield path
            listing = self.listing(path)
            for name in reversed(listing.folders):
                inner = path / name
                if name in listing.links and place_of(inner) in seen:
                    circles.add(inner)
                elif place_of(inner) not in self._aside and not is_own_output(inner):
                    waiting.append(inner)


def place_of(path: Path) -> Place:
    """What makes a folder the same by whatever name it is reached."""
    found = path.stat()
    return found.st_dev, found.st_ino


def is_own_output(folder: Path) -> bool:
    """Whether equicli wrote a folder: a run, a comparison, or what `quickstart` makes."""
    if (folder / "network.safetensors").is_file() and (folder / "data").is_dir():
        return True
    return (folder / "compare.json").is_file() or (
        (folder / "resolved.yaml").is_file() and (folder / "split.json").is_file()
    )


def _list(folder: Path, holds: Holds) -> Listing:
    images, folders, links, hidden = [], [], set(), []
    aside: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return Listing((), (), frozenset(), (), {UNREADABLE: (".",)})
    for entry in found:
        name = entry.name
        if _is_folder(entry):
            if is_hidden(name):
                hidden.append(name)
            else:
                folders.append(name)
                if entry.is_symlink():
                    links.add(name)
        elif (why := _why_not(entry, holds)) is None:
            images.append(name)
        else:
            aside.setdefault(why, []).append(name)
    listed = {why: tuple(names) for why, names in aside.items()}
    return Listing(tuple(images), tuple(folders), frozenset(links), tuple(hidden), listed)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _why_not(entry: "os.DirEntry[str]", holds: Holds) -> str | None:
    """Why an entry that is no folder is no picture; None where it is one."""
    if is_hidden(entry.name):
        return HIDDEN
    path = Path(entry.path)
    if entry.is_symlink() and not os.path.exists(path):  # noqa: PTH110 - pathlib of 3.10 raises where it goes in a circle
        return DANGLING
    if not entry.is_file():
        return SPECIAL
    return None if holds.takes(path) else NO_PICTURE


def _counted(count: int, things: str) -> str:
    noun, _, rest = things.partition(" ")
    return f"{counted(count, noun)} {rest}"


def _examples(reason: str, paths: Iterable[Path]) -> str:
    if reason == NO_PICTURE:
        return _few(suffix or "no suffix" for suffix, _ in Counter(p.suffix.lower() for p in paths).most_common())
    if reason == HIDDEN:
        return _few(next((part for part in reversed(path.parts) if is_hidden(part)), path.name) for path in paths)
    return _few(path.name for path in paths)


def _few(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(map(shown, distinct[:MOST_NAMED])) + ", …" * (len(distinct) > MOST_NAMED)
