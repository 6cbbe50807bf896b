"""Which folder of a dataset is which part, and which folders are classes.

What `FOLDERS.md` says to users is decided here. Where a folder could be read in two ways, what was taken is told, and
what would be a guess is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from equicli.data.archives import unwrap, wraps
from equicli.data.names import class_name, names_part, parts_of
from equicli.data.tree import BESIDE, UNLABELLED, UNREADABLE, FileTree
from equicli.errors import EquicliError, UsageError, counted, did_you_mean, shown

TRAIN, VALIDATION, TEST = "train", "validation", "test"
LABELLED = (TRAIN, VALIDATION, TEST)
FLAGS = {TRAIN: "--train-split", VALIDATION: "--val-split", TEST: "--test-split"}


@dataclass(frozen=True)
class SplitNames:
    """Folders that a user names as parts, relative to the dataset folder; None looks for them by their names.

    `.` as training folder is the dataset folder itself: then none of the others is looked for.
    """

    train: str | None = None
    validation: str | None = None
    test: str | None = None


@dataclass(frozen=True)
class Part:
    """Of one part of a dataset the folders of each class, in their order by name; none where `folder` has pictures
    itself."""

    folder: Path
    classes: Mapping[str, tuple[Path, ...]]


@dataclass
class Layout:
    """The parts that were found, and what to tell of them."""

    parts: dict[str, Part] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)


def read_layout(tree: FileTree, names: SplitNames) -> Layout:
    """Find out how a dataset folder is laid out.

    Raises:
        UsageError: there is no folder of a name that was given.
        EquicliError: it can be read in two ways, or holds no pictures.
    """
    layout = Layout()
    given = {part: name for part in LABELLED if (name := getattr(names, part)) is not None}
    if given:
        _read_given(tree, given, layout)
    else:
        _read_found(tree, tree.root, layout)
    return layout


def _read_given(tree: FileTree, given: Mapping[str, str], layout: Layout) -> None:
    folders = {part: _resolve(tree.root, name, FLAGS[part]) for part, name in given.items()}
    inside = [folder for folder in folders.values() if folder != tree.root]
    if folders.get(TRAIN) != tree.root:
        beside = {folder.parent for folder in folders.values()}
        found = parts_of([path for parent in sorted(beside) for path in tree.folders(parent) if path not in inside])
        folders |= {part: _one(part, paths) for part, paths in found.items() if part in LABELLED and part not in given}
    for part, folder in folders.items():
        without = inside if folder == tree.root else ()
        layout.parts[part] = _read_part(tree, folder, layout, without=without, given=True)


def _resolve(root: Path, name: str, flag: str) -> Path:
    folder = root / name
    if not folder.is_dir():
        known = sorted(path.name for path in root.iterdir() if path.is_dir())
        hint = did_you_mean(name, known) or (f" There are {', '.join(map(shown, known[:9]))}." if known else "")
        raise UsageError(f"{flag} {name}: no such folder in {root}.{hint}")
    return folder


def _read_found(tree: FileTree, base: Path, layout: Layout) -> None:
    """Read a folder without being told what is which."""
    children = tree.folders(base)
    found = parts_of(children)
    splits = {part: paths for part, paths in found.items() if part in LABELLED}
    if splits and _read_splits(tree, base, children, found, layout):
        return
    if len(children) == 1 and not splits and not tree.images(base) and wraps(tree, children[0]):
        layout.remarks[:] = [f"reading {shown(children[0].relative_to(tree.root))}, the one folder with pictures here"]
        _read_found(tree, children[0], layout)
    elif not _read_splits_of_classes(tree, children, layout):
        _refuse_guesses(tree, children)
        layout.parts[TRAIN] = _read_part(tree, base, layout, wrapped=False)


def _one(part: str, folders: Sequence[Path]) -> Path:
    if len(folders) > 1:
        first, second = folders[:2]
        raise EquicliError(
            f"{first}: '{shown(first.name)}' and '{shown(second.name)}' could both be the {part} images. "
            f"Name one: {FLAGS[part]} '{shown(first.name)}'."
        )
    return folders[0]


def _read_splits(
    tree: FileTree, base: Path, children: Sequence[Path], found: Mapping[str, list[Path]], layout: Layout
) -> bool:
    """Read parts that are folders of their own; False where these are classes by such names."""
    named = [path for paths in found.values() for path in paths]
    others = [path for path in children if path not in named]
    if others:
        splits = {part: paths for part, paths in found.items() if part in LABELLED}
        labelled = any(tree.folders(unwrap(tree, path)) for paths in splits.values() for path in paths)
        if not labelled:
            layout.remarks.append(
                f"'{shown(named[0].name)}' is taken for a class, as '{shown(others[0].name)}' stands beside it; "
                f"{FLAGS[next(iter(splits))]} '{shown(named[0].name)}' says otherwise"
            )
            return False
        if len(splits) == 1:
            flag = FLAGS[TEST if TRAIN in splits else TRAIN]
            raise EquicliError(
                f"{others[0]}: a class beside the split '{shown(named[0].name)}', or a split by another name. Move it "
                f"into {shown(named[0].name)}, or away; or say {flag} '{shown(others[0].name)}'."
            )
        for path in others:
            tree.leave(path, BESIDE)
    bare = next((path for path in tree.without_pictures(base) if names_part(path.name) == (TRAIN, "")), None)
    if bare is not None and TRAIN not in found:
        raise EquicliError(f"{bare}: no images here, though '{shown(named[0].name)}' has some.")
    layout.empty += tree.without_pictures(base)
    parts = {part: _read_part(tree, _one(part, found[part]), layout) for part in LABELLED if part in found}
    for path in found.get("unlabelled", ()):
        tree.leave(path, UNLABELLED)
    layout.parts |= _without_unlabelled(tree, parts, layout)
    if any(path.name not in LABELLED for path in named) or base != tree.root:
        layout.remarks.append(f"folders are read by their names: {_described(tree.root, layout.parts)}")
    return True


def _described(root: Path, parts: Mapping[str, Part]) -> str:
    """Which folder serves as what: without test images, validation images are tested on."""
    serves = {name: TEST if name == VALIDATION and TEST not in parts else name for name in parts}
    return ", ".join(f"{shown(part.folder.relative_to(root))} for {serves[name]}" for name, part in parts.items())


def _without_unlabelled(tree: FileTree, parts: Mapping[str, Part], layout: Layout) -> dict[str, Part]:
    """Leave out parts without class folders where the training images have them."""
    first = parts.get(TRAIN) or next((part for part in parts.values() if part.classes), None)
    if first is None or not first.classes:
        return dict(parts)
    kept = {}
    for name, part in parts.items():
        if part.classes or not tree.images(part.folder):
            kept[name] = part
            continue
        tree.leave(part.folder, UNLABELLED)
        layout.remarks.append(
            f"{shown(part.folder.relative_to(tree.root))} has no class folders: nothing says what is right"
        )
    return kept


def _read_splits_of_classes(tree: FileTree, children: Sequence[Path], layout: Layout) -> bool:
    """Read `<class>/train/…`, where every class has its own parts."""
    split = {child: found for child in children if len(found := parts_of(tree.folders(child))) > 1}
    if not split or len(children) < 2:
        return False
    whole = [child for child in children if child not in split or tree.images(child)]
    if whole:
        other, found = next(iter(split.items()))
        raise EquicliError(
            f"{whole[0]}: has no parts, but '{shown(other.name)}' has {' and '.join(found)}. "
            "Give all classes the same parts."
        )
    if any(tree.folders(path) for found in split.values() for paths in found.values() for path in paths):
        first, second = children[:2]
        raise EquicliError(
            f"{first}: a dataset of its own, with parts and classes, as is '{shown(second.name)}'. "
            "Name one of them as DATA."
        )
    for part in LABELLED:
        classes: dict[str, tuple[Path, ...]] = {}
        for child in sorted(split):
            if part in split[child]:
                name = class_name(child.name)
                classes[name] = (*classes.get(name, ()), _one(part, split[child][part]))
        if classes:
            layout.parts[part] = Part(tree.root, classes)
    layout.remarks.append("every class folder has its own parts (<class>/train/…)")
    return True


def _refuse_guesses(tree: FileTree, children: Sequence[Path]) -> None:
    """Refuse folders of which nobody can tell whether they are classes or parts."""
    inside = {child: {path.name for path in tree.folders(unwrap(tree, child))} for child in children}
    names = {child.name for child in children}
    for child, inner in inside.items():
        if len(inner & (names - {child.name})) > 1:
            raise EquicliError(
                f"{child}: holds folders named as those beside it ({_named(inner & names)}), as if it were a copy. "
                "Move it away, or name it as DATA."
            )
    common = set.intersection(*inside.values()) if len(inside) > 1 else set()
    if len(common) > 1 and not any(tree.images(child) for child in children):
        first, second = children[:2]
        raise EquicliError(
            f"{first}: holds the same folders as '{shown(second.name)}' ({_named(common)}). Where these are the "
            f"classes, say --train-split '{shown(first.name)}' --test-split '{shown(second.name)}'; where "
            f"'{shown(first.name)}' is a class, --train-split ."
        )


def _named(names: Iterable[str]) -> str:
    return ", ".join(map(shown, sorted(names)[:4]))


def _read_part(
    tree: FileTree,
    folder: Path,
    layout: Layout,
    *,
    without: Sequence[Path] = (),
    wrapped: bool = True,
    given: bool = False,
) -> Part:
    """The classes of one part."""
    base = unwrap(tree, folder) if wrapped and not without else folder
    children = [path for path in tree.folders(base) if path not in without]
    loose = tree.images(base)
    if not children:
        if UNREADABLE in tree.listing(folder).aside:
            raise EquicliError(f"{folder}: may not be read; change its permissions.")
        if not loose:
            raise EquicliError(
                f"{folder}: no images here. Expected <class>/<image>, or images in the folder itself: .jpg, .png, "
                ".tif, .webp or another of the formats that are read."
            )
        return Part(base, {})
    inner_parts = parts_of(children)
    if len(inner_parts) > 1 and any(tree.folders(path) for paths in inner_parts.values() for path in paths):
        raise EquicliError(
            f"{base}: holds parts of its own ({_named(path.name for path in children)}). Name one with "
            f"{FLAGS[TRAIN]} and another with {FLAGS[TEST]}, or name {shown(base.name)} as DATA."
        )
    inside = sum(map(tree.count, children)) if loose else 0
    if not given and len(loose) > inside:
        layout.remarks.append(
            f"{counted(len(loose), 'pictures')} in {shown(base.name)} itself: read, without labels, not the {inside} "
            f"in folders beside ({_named(path.name for path in children)}); {FLAGS[TRAIN]} . takes those for classes"
        )
        return Part(base, {})
    if loose:
        if not given:
            _refuse_many(children, inside, loose)
        tree.leave_loose(base)
    classes: dict[str, tuple[Path, ...]] = {}
    for path in children:
        name = class_name(path.name)
        classes[name] = (*classes.get(name, ()), path)
    twice = next((name for name, paths in classes.items() if len(paths) > 1), None)
    if twice is not None:
        layout.remarks.append(f"'{shown(twice)}' is written in two ways in {shown(base.name)}: taken as one class")
    nested = next(((path, inner) for path in children if len(inner := tree.folders(path)) > 1), None)
    if nested is not None:
        path, inner = nested
        layout.remarks.append(
            f"class folders hold folders: the class is '{shown(path.name)}', "
            f"not '{shown(path.name)}/{shown(inner[0].name)}'"
        )
    layout.empty += tree.without_pictures(base)
    return Part(base, classes)


def _refuse_many(children: Sequence[Path], inside: int, loose: Sequence[Path]) -> None:
    if len(loose) >= inside or len(children) == 1:
        raise EquicliError(
            f"{loose[0]}: an image beside class folders, as are {len(loose)}: as many as in these, or beside one "
            f"alone. Move them into one of them, or away; {FLAGS[TRAIN]} . leaves them out."
        )
