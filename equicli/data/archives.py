"""Folders that archives wrap around a dataset, or around a part of one."""

from pathlib import Path

from equicli.data.names import WRAPPERS, names_part, parts_of, plain
from equicli.data.tree import FileTree


def wraps(tree: FileTree, folder: Path) -> bool:
    """Whether the only folder here is no class, but what an archive was unpacked into."""
    inside = tree.folders(folder)
    if not inside or tree.images(folder):
        return plain(folder.name) in WRAPPERS or plain(folder.name) == plain(folder.parent.name)
    return len(inside) > 1 or bool(parts_of(inside)) or wraps(tree, inside[0])


def unwrap(tree: FileTree, folder: Path) -> Path:
    """The folder with the classes, or the pictures, of a part: archives wrap them (`seg_train/seg_train`)."""
    inside = tree.folders(folder)
    if len(inside) != 1 or tree.images(folder):
        return folder
    inner = inside[0]
    own, again = names_part(folder.name), names_part(inner.name)
    same = _without_numbers(inner.name) == _without_numbers(folder.name) or (
        bool(tree.folders(inner)) and own is not None and again is not None and own[0] == again[0]
    )
    more = len(tree.folders(inner)) > 1 and not tree.images(inner)
    return unwrap(tree, inner) if same or more or plain(inner.name) in WRAPPERS else folder


def _without_numbers(name: str) -> str:
    return "".join(letter for letter in plain(name) if not letter.isdigit())
