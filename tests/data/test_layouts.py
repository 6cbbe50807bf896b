"""Folders as people have them: each layout in a few words, what is read of it, or why it is refused."""

# ruff: noqa: E501 - one row a layout

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from equicli.data.folders import Dataset, open_folder, recorded_split, split_folder
from equicli.data.layouts import SplitNames
from equicli.data.names import class_name, is_hidden, names_part
from equicli.data.tree import CIRCLE
from equicli.errors import EquicliError, UsageError

# A layout: paths of one-byte pictures by their folder, where `a b` are two files `a.png` and `b.png`.
Files = Mapping[str, str]


def make(root: Path, layout: Files) -> Path:
    for folder, names in layout.items():
        for name in names.split():
            path = root / folder / (name if "." in name else f"{name}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        (root / folder).mkdir(parents=True, exist_ok=True)
    return root


def read(data: Dataset) -> dict[str, str]:
    """What was read, in the same way: `part class` to the names of its pictures."""
    found: dict[str, str] = {}
    for part in ("train", "validation", "test"):
        for sample in getattr(data, part) or ():
            key = part if sample.target is None else f"{part} {data.classes[sample.target]}"
            found[key] = f"{found.get(key, '')} {sample.path.stem}".strip()
    return found


PETS = {"cat": "a", "dog": "b"}


def under(folder: str, layout: Files = PETS) -> dict[str, str]:
    return {f"{folder}/{inner}": names for inner, names in layout.items()}


TWO = {"train cat": "a", "train dog": "b", "test cat": "a", "test dog": "b"}
ONE = {"train cat": "a", "train dog": "b"}

READ: dict[str, tuple[Files, dict[str, str]]] = {
    "Training, Testing": (under("Training") | under("Testing"), TWO),
    "TRAIN, TEST": (under("TRAIN") | under("TEST"), TWO),
    "train_set, test_set": (under("train_set") | under("test_set"), TWO),
    "TrainingSet, TestSet": (under("TrainingSet") | under("TestSet"), TWO),
    "trainset, testset": (under("trainset") | under("testset"), TWO),
    "trn, tst": (under("trn") | under("tst"), TWO),
    "Training Data, Evaluation Data": (under("Training Data") | under("Evaluation Data"), TWO),
    "01_train, 02_test": (under("01_train") | under("02_test"), TWO),
    "train2017, val2017": (under("train2017") | under("val2017"), TWO),
    "dataset-train, dataset-test": (under("dataset-train") | under("dataset-test"), TWO),
    "flowers_train, flowers_test": (under("flowers_train") | under("flowers_test"), TWO),
    "seg_train/seg_train": (under("seg_train/seg_train") | under("seg_test/seg_test") | {"seg_pred/seg_pred": "x"}, TWO),
    "train/images": (under("train/images") | under("test/images"), TWO),
    "train, dev": (under("train") | under("dev"), TWO),
    "train, valid, test": (
        under("train") | under("valid") | under("test"),
        {**TWO, "validation cat": "a", "validation dog": "b"},
    ),
    "an archive": (under("imagenette2/train") | under("imagenette2/val"), TWO),
    "an archive in a folder of its own name": (under("set/set/train") | under("set/set/val"), TWO),
    "archive/data/train": (under("archive/data/train") | under("archive/data/test"), TWO),
    "beside what macOS packs": (under("set/train") | {"__MACOSX/set/train/cat": "._a"}, ONE),
    "class folders in one folder": (under("PetImages"), ONE),
    "pictures in folder images": ({"images": "a b"}, {"train": "a b"}),
    "parts within classes": (
        {"cat/train": "a", "cat/test": "c", "dog/train": "b", "dog/test": "d"},
        {"train cat": "a", "train dog": "b", "test cat": "c", "test dog": "d"},
    ),
    "Train and Validation within classes": (
        {"cat/Train": "a", "cat/Validation": "c", "dog/Train": "b", "dog/Validation": "d"},
        {"train cat": "a", "train dog": "b", "test cat": "c", "test dog": "d"},
    ),
    "classes called test and train": (
        {"bus": "a", "test": "b", "train": "c"},
        {"train bus": "a", "train test": "b", "train train": "c"},
    ),
    "classes called by words for parts": (
        {"train/eval": "a", "train/dev": "b", "test/eval": "c"},
        {"train dev": "b", "train eval": "a", "test eval": "c"},
    ),
    "tiny ImageNet": (
        {"set/train/n1/images": "a", "set/train/n2/images": "b", "set/val/images": "c", "set/test/images": "d"},
        {"train n1": "a", "train n2": "b"},
    ),
    "test1 without labels": ({"train": "cat.0.jpg dog.1.jpg", "test1": "1.jpg"}, {"train": "cat.0 dog.1", "test": "1"}),
    "a class called freight train": (
        {"freight_train": "a", "passenger_train": "b"},
        {"train freight_train": "a", "train passenger_train": "b"},
    ),
    "a class called masks": ({"masks": "a", "gloves": "b"}, {"train gloves": "b", "train masks": "a"}),
    "pictures and masks": (
        {"cat/images": "a", "cat/masks": "a", "dog/images": "b", "dog/masks": "b"},
        {"train cat": "a", "train dog": "b"},
    ),
    "images and labels": ({"images/train": "a", "images/val": "b", "labels/train": "a.txt"}, {"train": "a", "test": "b"}),
    "unlabelled test beside labelled train": (under("train") | {"test": "x y"}, ONE),
    "unlabelled test, labelled validation": (under("train") | under("val") | {"test": "x"}, TWO),
    "a copy beside the parts": (under("train") | under("test") | under("set/train") | under("set/test"), TWO),
    "nested classes": (
        {"animals/cats": "a", "animals/dogs": "b", "plants/roses": "c"},
        {"train animals": "a b", "train plants": "c"},
    ),
    "an empty class": (PETS | {"cow": ""}, ONE),
    "a class of texts": (PETS | {"notes": "a.txt"}, ONE),
    "hidden and system folders": (
        PETS | {".git": "a", "@eaDir": "b", "lost+found": "", ".ipynb_checkpoints": "c", "$RECYCLE.BIN": "d"}
        | {"System Volume Information": "e", "cat/.thumbnails": "f", "dog": "b ._b.png Thumbs.db .DS_Store"},
        ONE,
    ),
    "classes called by words of system folders": (
        {"volume": "a", "system": "b", "information": "c"},
        {"train information": "c", "train system": "b", "train volume": "a"},
    ),
    "annotations": (PETS | {"annotations": "a.xml", "labels": "b.txt"}, ONE),
    "a run folder": (PETS | {"runs/r/": "resolved.yaml split.json", "runs/r/figures": "loss"}, ONE),
    "what quickstart makes": (PETS | under("quickstart/data/train") | {"quickstart": "network.safetensors"}, ONE),
    "many pictures beside few folders": ({"": "a b c d e", "old": "f", "sub": "g"}, {"train": "a b c d e"}),
    "a preview beside classes": (under("train") | {"train": "overview", "test/cat": "c"}, {**ONE, "test cat": "c"}),
    "a preview beside classes of folders": ({"": "overview", "cat/1": "a b", "dog/2": "c d"}, {"train cat": "a b", "train dog": "c d"}),
    "suffixes in capitals": ({"cat": "a.JPG", "dog": "b.JPeG"}, ONE),
    "a class in two cases": ({"train/Cat": "a", "train/dog": "b", "test/cat": "c"}, {"train Cat": "a", "train dog": "b", "test Cat": "c"}),
    "letters in both cases": (
        {"train/A": "a", "train/a": "b", "test/a": "c", "test/A": "d"},
        {"train A": "a", "train a": "b", "test A": "d", "test a": "c"},
    ),
    "NFC in train, NFD in test": ({"train/caf\u00e9": "a", "test/cafe\u0301": "b"}, {"train caf\u00e9": "a", "test caf\u00e9": "b"}),
    "NFC and NFD of one class": ({"caf\u00e9": "a", "cafe\u0301": "b", "x": "c"}, {"train caf\u00e9": "b a", "train x": "c"}),
}  # fmt: skip


@pytest.mark.parametrize("layout", READ)
def test_a_layout_is_read(tmp_path: Path, layout: str) -> None:
    files, expected = READ[layout]
    assert read(open_folder(make(tmp_path / "data", files))) == expected


REFUSED: dict[str, tuple[Files, list[str]]] = {
    "two training folders": (under("train") | under("train_images"), ["train_images", "--train-split 'train'"]),
    "two test folders": (under("train") | under("test1") | under("test2"), ["test1", "--test-split 'test1'"]),
    "folds": (under("fold1") | under("fold2"), ["the same folders as 'fold2' (cat, dog)", "--train-split 'fold1'"]),
    "a copy beside classes": (PETS | under("pets"), ["pets", "(cat, dog)", "copy"]),
    "two datasets": (under("a/train") | under("a/test") | under("b/train") | under("b/test"), ["Name one of them as DATA"]),
    "parts within one class only": ({"cat/train": "a", "cat/test": "b", "dog": "c"}, ["dog", "'cat' has test and train"]),
    "a class beside the one part": (under("test") | {"cow": "a"}, ["cow: a class beside the split 'test'", "--train-split 'cow'"]),
    "a class that train has not": (under("train") | {"test/cow": "a"}, ["test/cow", "no such class"]),
    "a class in two cases, and one in a third": ({"train/A b": "a", "train/a b": "b", "test/A B": "c"}, ["no such class"]),
    "labels in test alone": ({"train": "a", "test/cat": "b"}, ["class folders"]),
    "as many pictures beside class folders as in them": ({"": "a b", "cat": "d", "dog": "e"}, ["beside class folders"]),
    "folds wrapped": (under("rps/rps") | under("rps-test-set/rps-test-set"), ["rps", "--test-split 'rps-test-set'"]),
    "as many pictures beside one folder": ({"": "a b", "sub": "c d"}, ["beside class folders"]),
    "parts within a part": (under("train/train") | under("train/val") | under("test"), ["train: holds parts of its own"]),
    "no pictures": ({"cat": "a.txt", "dog": "b.csv"}, ["no images"]),
    "nothing": ({"": ""}, ["no images"]),
}  # fmt: skip


@pytest.mark.parametrize("layout", REFUSED)
def test_a_layout_is_refused_in_one_line(tmp_path: Path, layout: str) -> None:
    files, words = REFUSED[layout]
    with pytest.raises(EquicliError) as error:
        open_folder(make(tmp_path / "data", files))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


NAMED: dict[str, tuple[Files, SplitNames, dict[str, str]]] = {
    "folds": (under("fold1") | under("fold2"), SplitNames("fold1", test="fold2"), TWO),
    "one of two": (under("train") | under("train_images") | under("test"), SplitNames("train"), TWO),
    "folders that say nothing": (under("a/x") | under("b"), SplitNames("a/x", test="b"), TWO),
    "few folders beside many pictures": ({"": "a b c d", "cat": "a", "dog": "b"}, SplitNames("."), ONE),
    "the folder itself": (under("x", {"m": "a", "f": "b"}) | under("y", {"m": "c", "f": "d"}), SplitNames("."),
                          {"train x": "a b", "train y": "c d"}),
    "a test folder within": (PETS | under("held"), SplitNames(".", test="held"), TWO),
    "flat parts": ({"one": "a", "two": "b"}, SplitNames("one", test="two"), {"train": "a", "test": "b"}),
    "classes that would be parts": ({"train": "a", "test": "b"}, SplitNames("."), {"train test": "b", "train train": "a"}),
}  # fmt: skip


@pytest.mark.parametrize("layout", NAMED)
def test_named_parts_are_read(tmp_path: Path, layout: str) -> None:
    files, names, expected = NAMED[layout]
    found = read(open_folder(make(tmp_path / "data", files), names))
    assert {key: " ".join(sorted(names.split())) for key, names in found.items()} == expected


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = make(tmp_path / "data", under("train") | under("holdon"))
    with pytest.raises(UsageError, match=r"--test-split holdout: no such folder .* Did you mean 'holdon'"):
        open_folder(root, SplitNames(test="holdout"))


TOLD: dict[str, tuple[Files, list[str]]] = {
    "an archive": (under("imagenette2/train") | under("imagenette2/val"), ["imagenette2, the one folder", "val for test"]),
    "names of parts": (under("Training") | under("Testing"), ["Training for train, ", "Testing for test"]),
    "a class called train": ({"bus": "a", "train": "b"}, ["'train' is taken for a class", "--train-split 'train'"]),
    "unlabelled test": (under("train") | {"test": "x y"}, ["test has no class folders", "2 pictures without labels"]),
    "nested classes": ({"animals/cats": "a", "animals/dogs": "b", "plants": "c"}, ["'animals', not 'animals/cats'"]),
    "an empty class": (PETS | {"cow": ""}, ["1 folder without a picture (cow)"]),
    "other files": (PETS | {"cat": "a a.txt b.txt", "dog": "b c.csv"}, ["3 files other than pictures (.txt, .csv)"]),
    "hidden": (PETS | {"cat": "a .DS_Store", "__MACOSX/cat": "._a"}, ["2 files hidden", ".DS_Store"]),
    "masks": ({"images": "a", "masks": "a"}, ["1 file of masks"]),
    "our own": (PETS | {"runs/r": "resolved.yaml split.json"}, ["2 files of equicli's own"]),
    "beside parts": (under("train") | under("test") | {"more": "x"}, ["1 picture beside what is read (x.png)"]),
    "two cases": ({"train/Cat": "a", "train/b": "b", "test/cat": "c"}, ["cat in test is the class Cat"]),
    "parts of classes": ({"a/train": "a", "a/test": "b", "b/train": "c", "b/test": "d"}, ["<class>/train/"]),
}  # fmt: skip


class Lines:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def track(self, items: Iterable[Any], label: str, total: int) -> Iterable[Any]:
        return items


def told(data: Dataset, *, strict: bool = False) -> str:
    lines = Lines()
    data.tell(lines, strict=strict)
    return "\n".join(lines.lines)


@pytest.mark.parametrize("layout", TOLD)
def test_what_was_taken_and_what_was_left_out_is_told(tmp_path: Path, layout: str) -> None:
    files, words = TOLD[layout]
    text = told(open_folder(make(tmp_path / "data", files)), strict=True)
    for word in words:
        assert word in text


def test_a_plain_folder_needs_no_remark(tmp_path: Path) -> None:
    for number, files in enumerate((PETS, under("train") | under("test"), {"": "a b"})):
        assert told(open_folder(make(tmp_path / str(number), files))) == ""


# Links and files that are no regular ones


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    pool = make(tmp_path / "pool", {"more": "c", "deep/er": "d"})
    data = make(tmp_path / "data", PETS)
    (data / "cat" / "more").symlink_to(pool / "more")
    (data / "cat" / "deep").symlink_to(pool / "deep")
    (pool / "deep" / "round").symlink_to(pool / "deep")
    (data / "dog" / "up").symlink_to("..")
    (data / "dog" / "above").symlink_to(tmp_path)
    (data / "dog" / "photo.png").symlink_to(pool / "more" / "c.png")
    (data / "cow").symlink_to(pool / "more")
    found = open_folder(data)
    assert read(found) == {"train cat": "a d c", "train dog": "b photo"}
    assert "4 links to folders that are read anyway" in told(found, strict=True)


def test_parts_may_be_links_into_one_pool(tmp_path: Path) -> None:
    data = make(tmp_path / "data", under("all"))
    for part, name in (("train", "cat"), ("train", "dog"), ("test", "cat")):
        (data / part).mkdir(exist_ok=True)
        (data / part / name).symlink_to(data / "all" / name)
    assert read(open_folder(data)) == {"train cat": "a", "train dog": "b", "test cat": "a"}


def test_folders_that_all_link_to_each_other_take_no_time(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(12)]
    data = make(tmp_path / "data", dict.fromkeys(names, "a"))
    for one in names:
        for other in names:
            (data / one / f"to_{other}").symlink_to(data / other)
    assert len(open_folder(data).train) == len(names)


def test_links_that_lead_nowhere_and_pipes_are_told_and_strict_stops_at_links(tmp_path: Path) -> None:
    data = make(tmp_path / "data", PETS)
    (data / "cat" / "gone.png").symlink_to("nowhere.png")
    (data / "cat" / "self.png").symlink_to("self.png")
    os.mkfifo(data / "dog" / "pipe.png")
    found = open_folder(data)
    assert read(found) == ONE
    assert "2 links to nowhere (gone.png, self.png)" in told(found)
    assert "1 file of a special kind, such as pipes (pipe.png)" in told(found)
    with pytest.raises(EquicliError, match=r"gone\.png: left out \(2 links to nowhere\)"):
        told(found, strict=True)


def test_folders_that_may_not_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "data", PETS | {"secret": "c"})
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = open_folder(data)
    assert read(found) == ONE and "1 folder without permission to read (secret)" in told(found)
    with pytest.raises(EquicliError, match="secret: left out"):
        told(found, strict=True)
    with pytest.raises(EquicliError, match="secret: may not be read"):
        open_folder(data / "secret")


@pytest.mark.parametrize("name", ["photo", "photo.txt", "photo.jpg_large", "scan.dat", "IMG_1.MPO"])
def test_pictures_are_known_by_their_content(tmp_path: Path, name: str) -> None:
    data = make(tmp_path / "data", PETS)
    Image.new("RGB", (2, 1)).save(data / "cat" / name, "JPEG")
    (data / "cat" / "text").write_text("P1 is the first point.")
    assert len(open_folder(data).train) == 3


# Names


ODD = [
    "-x", " x ", "a\nb", "a\tb", 'a"b', "a'b", "a\\b", "[red]x", "*?[x]", "100%", "{}", "{name}", "ü", "日本", "🐱",
    "<b>x", "$HOME", "~", "#", "a:b", "null", "a|b", "x" * 255, os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff\xfe"),
]  # fmt: skip


def test_any_name_is_a_class_and_its_split_is_recorded(tmp_path: Path) -> None:
    import json

    data = make(tmp_path / "data", dict.fromkeys(ODD, ""))
    for name in ODD:
        for number in range(4):
            (data / name / f"{name[:200]}{number}.png").write_bytes(b"x")
    found = open_folder(data)
    assert sorted(found.classes) == sorted(map(class_name, ODD)) and len(found.classes) == len(ODD)
    split = split_folder(found, validation=0.3, test=0.3, seed=0)
    recorded = json.loads(json.dumps(split.paths(data)).encode())
    assert recorded_split(open_folder(data), recorded) == split
    "".join(found.classes).encode()  # what every file can hold


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert class_name(os.fsdecode(b"caf\xe9")) == r"caf\xe9"


def test_recorded_names_are_compared_normalized(tmp_path: Path) -> None:
    data = make(tmp_path / "data", {"cafe\u0301": "a b", "x": "c d"})
    recorded = {"train": ["caf\u00e9/a.png"], "validation": ["x/c.png"], "test": ["caf\u00e9/b.png"]}
    split = recorded_split(open_folder(data), recorded)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", ("train", "")), ("TRAIN-images_2", ("train", "")), ("imgs_training", ("train", "")),
        ("trainSet", ("train", "")), ("validation set", ("validation", "")), ("evaluation", ("test", "")),
        ("flowers_train", ("train", "flowers")), ("train_test_split", None), ("cat", None), ("trains", None),
        ("testament", None), ("value", None), ("unlabeled", ("unlabelled", "")), ("", None), ("val\u00ef", None),
    ],
)  # fmt: skip
def test_names_of_parts(name: str, part: tuple[str, str] | None) -> None:
    assert names_part(name) == part


# Files = used + told


SOME_NAME = st.sampled_from(
    ["train", "test", "Val", "cat", "dog", "images", "masks", ".git", "__MACOSX", "runs", "empty", "data", "x_train"]
)
SOME_FILE = st.sampled_from(["a.png", "b.JPG", "c.txt", ".DS_Store", "noext", "resolved.yaml", "split.json", "d.heic"])
TREES = st.recursive(
    st.dictionaries(SOME_FILE, st.none(), max_size=3),
    lambda inner: st.dictionaries(SOME_NAME, inner, max_size=4),
    max_leaves=12,
)


def plant(root: Path, tree: Mapping[str, Any]) -> None:
    root.mkdir(exist_ok=True)
    for name, inner in tree.items():
        if inner is None:
            (root / name).write_bytes(b"x")
        else:
            plant(root / name, inner)


@given(TREES, st.integers(0, 3), st.randoms())
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_every_file_is_used_or_told(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, links: int, random: Any
) -> None:
    root = tmp_path_factory.mktemp("tree") / "root"
    plant(root, tree)
    folders = [Path(path) for path, _, _ in os.walk(root)]
    folders = [path for path in folders if not any(map(is_hidden, path.relative_to(root).parts))]
    for number in range(links):
        link, target = random.choice(folders) / f"link{number}", random.choice([*folders, root / "nowhere"])
        link.symlink_to(target)
    try:
        data = open_folder(root)
    except EquicliError as error:
        assert "\n" not in str(error)
        return
    every = {Path(path) / name for path, _, names in os.walk(root) for name in names}
    used = [sample.path for sample in data.samples]
    told = [path for reason, paths in data.left_out.files.items() if reason != CIRCLE for path in paths]
    assert len(used) == len(set(used)) and len(told) == len(set(told))
    own = {path.resolve() for path in used}  # a link to a folder is another name of its files
    reached = {path.resolve() if path.exists() else path for path in [*used, *told]}
    assert not own & {path.resolve() for path in told if path.exists()}
    assert reached == {path.resolve() if path.exists() else path for path in every}
