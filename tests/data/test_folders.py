from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from equicli.data.folders import Dataset, Sample, open_folder, recorded_split, split_folder
from equicli.errors import EquicliError, UsageError


@pytest.fixture
def tree(tmp_path):
    """Make empty files under a dataset folder, which reading a layout does not open."""

    def make(*files):
        for name in files:
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "data"

    return make


def listed(samples, root):
    return None if samples is None else [(s.path.relative_to(root).as_posix(), s.target) for s in samples]


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation"])
def test_train_beside_a_test_folder_keeps_both(tree, held_out):
    root = tree(
        "train/cat/b.png", "train/cat/a.jpg", "train/dog/c.png", f"{held_out}/dog/d.png", f"{held_out}/cat/e.png"
    )
    folder = open_folder(root)
    assert folder.classes == ("cat", "dog")
    assert listed(folder.train, root) == [("train/cat/a.jpg", 0), ("train/cat/b.png", 0), ("train/dog/c.png", 1)]
    assert listed(folder.test, root) == [(f"{held_out}/cat/e.png", 0), (f"{held_out}/dog/d.png", 1)]


@pytest.mark.parametrize(
    ("files", "classes", "train", "test"),
    [
        (["train/cat/a.png"], ("cat",), [("train/cat/a.png", 0)], None),
        (["cat/a.png", "dog/b.png"], ("cat", "dog"), [("cat/a.png", 0), ("dog/b.png", 1)], None),
        (["b.png", "a.png"], (), [("a.png", None), ("b.png", None)], None),
        (["train/a.png", "test/b.png"], (), [("train/a.png", None)], [("test/b.png", None)]),
        (["test/cat/a.png"], ("cat",), [], [("test/cat/a.png", 0)]),
        (["cat/deep/er/a.PNG", "cat/b.JpEg"], ("cat",), [("cat/b.JpEg", 0), ("cat/deep/er/a.PNG", 0)], None),
        (["cat/a.png", "test/b.png"], ("cat", "test"), [("cat/a.png", 0), ("test/b.png", 1)], None),
        (["train/cat/a.png", "notes/readme.txt", "readme.md"], ("cat",), [("train/cat/a.png", 0)], None),
        (["cat/a.png", "cat/labels.csv"], ("cat",), [("cat/a.png", 0)], None),
        (["cat/a.png", "cat/._a.png", ".git/b.png", ".c.png"], ("cat",), [("cat/a.png", 0)], None),
    ],
    ids=["train only", "flat", "unlabelled", "unlabelled with test", "test only", "nested", "a class named test",
         "other folders beside train", "other files", "hidden files"],
)  # fmt: skip
def test_a_layout_is_read_as_it_is_meant(tree, files, classes, train, test):
    root = tree(*files)
    folder = open_folder(root)
    assert folder.classes == classes
    assert listed(folder.train, root) == train
    assert listed(folder.test, root) == test


def test_test_images_are_labelled_by_the_classes_of_train(tree):
    root = tree("train/ant/a.png", "train/bee/b.png", "train/cow/c.png", "test/cow/d.png")
    assert listed(open_folder(root).test, root) == [("test/cow/d.png", 2)]


def test_hidden_folders_within_a_class_are_ignored(tree):
    root = tree("cat/a.png", "cat/.ipynb_checkpoints/a-checkpoint.png")
    assert listed(open_folder(root).train, root) == [("cat/a.png", 0)]


def test_test_and_val_without_train_are_not_taken_for_classes(tree):
    assert open_folder(tree("test/cat/a.png", "val/cat/b.png")).classes == ("cat",)


def test_an_image_beside_class_folders_does_not_make_their_images_vanish(tree):
    root = tree("train/cat/a.png", "train/dog/b.png", "train/overview.png")
    try:
        folder = open_folder(root)
    except EquicliError as error:
        assert "overview.png" in str(error)
    else:
        assert len(folder.train) >= 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["train/cat/a.png", "test/dog/b.png"], ["dog", "no such class", "train"]),
        (["train/a.png", "test/cat/b.png"], ["test", "class folders"]),
        (["readme.txt"], ["no images", ".png"]),
        (["train/readme.txt", "test/cat/a.png"], ["train", "no images"]),
    ],
    ids=["unknown test class", "labels only in test", "none", "empty train"],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line_that_names_it(tree, files, words):
    root = tree(*files)
    with pytest.raises(EquicliError) as error:
        open_folder(root)
    assert str(root) in str(error.value) and "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("name", "what"), [("nowhere", "no such folder"), ("file.png", "is a file")])
def test_what_is_no_folder_is_a_wrong_argument(tmp_path, name, what):
    (tmp_path / "file.png").touch()
    with pytest.raises(UsageError, match=f"{name}: {what}"):
        open_folder(tmp_path / name)


def imaginary(root, counts, test=None):
    samples = [
        Sample(root / f"{label}/{i}.png", label, label) for label, count in enumerate(counts) for i in range(count)
    ]
    return Dataset(root, tuple(f"class {i}" for i in range(len(counts))), tuple(samples), test)


def by_label(samples):
    return Counter(sample.target for sample in samples)


@given(
    st.lists(st.integers(3, 40), min_size=1, max_size=4), st.integers(0, 5), st.floats(0.05, 0.5), st.floats(0.05, 0.4)
)
@settings(deadline=None, max_examples=50)
def test_a_split_is_disjoint_complete_stratified_and_the_same_on_every_call(tmp_path_factory, counts, seed, val, test):
    folder = imaginary(tmp_path_factory.getbasetemp(), counts)
    split = split_folder(folder, validation=val, test=test, seed=seed)
    assert split == split_folder(folder, validation=val, test=test, seed=seed)
    parts = [split.train, split.validation, split.test]
    assert sorted(s.path for part in parts for s in part) == sorted(s.path for s in folder.train)
    for label, count in enumerate(counts):
        held_out = by_label(split.test)[label]
        assert held_out == max(1, round(count * test))
        if count - held_out > 1:
            assert by_label(split.validation)[label] == max(1, round((count - held_out) * val))
            assert by_label(split.train)[label] >= 1


def test_another_seed_gives_another_split_and_shuffles_each_class(tmp_path):
    folder = imaginary(tmp_path, [50, 50])
    splits = [split_folder(folder, validation=0.2, test=0.2, seed=seed) for seed in range(3)]
    assert len({s.test for s in splits}) == len({s.validation for s in splits}) == 3
    names = [{s.path.name for s in splits[0].test if s.target == label} for label in (0, 1)]
    assert names[0] != names[1]


def test_a_split_follows_the_dataset_to_another_place(tmp_path):
    places = [tmp_path / "a", tmp_path / "somewhere" / "else"]
    splits = [split_folder(imaginary(p, [20, 9]), validation=0.2, test=0.2, seed=0).paths(p) for p in places]
    assert splits[0] == splits[1]
    assert set(splits[0]) == {"train", "validation", "test"}
    assert all(not name.startswith("/") for part in splits[0].values() for name in part)


def test_the_folders_own_test_images_stay_test_images(tmp_path):
    own = (Sample(tmp_path / "test/0/x.png", 0, 0),)
    split = split_folder(imaginary(tmp_path, [10], test=own), validation=0.1, test=0.5, seed=0)
    assert split.test == own
    assert (len(split.train), len(split.validation)) == (9, 1)


def test_unlabelled_images_are_split_too(tmp_path):
    samples = tuple(Sample(tmp_path / f"{i}.png", None) for i in range(20))
    split = split_folder(Dataset(tmp_path, (), samples, None), validation=0.25, test=0.2, seed=1)
    assert (len(split.train), len(split.validation), len(split.test)) == (12, 4, 4)


def test_a_class_with_a_single_image_keeps_it_for_training(tmp_path):
    split = split_folder(imaginary(tmp_path, [1, 10]), validation=0.2, test=0.2, seed=0)
    assert by_label(split.train)[0] == 1


@given(st.integers(2, 6), st.sampled_from([0.5, 0.75, 0.9]))
@settings(deadline=None, max_examples=20)
def test_a_large_share_leaves_every_class_an_image_to_train_on(tmp_path_factory, count, share):
    folder = imaginary(tmp_path_factory.getbasetemp(), [count, 50], test=())
    split = split_folder(folder, validation=share, test=0.5, seed=0)
    assert by_label(split.train)[0] >= 1


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_images_to_train_and_validate_are_told(tmp_path, count):
    with pytest.raises(EquicliError, match=f"{count} training images are too few"):
        split_folder(imaginary(tmp_path, [count]), validation=0.1, test=0.2, seed=0)


def fill(root, *folders):
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (8, 8)).save(root / folder / f"{index}.png")
    return open_folder(root)


def test_a_class_may_be_called_train(tmp_path):
    folder = fill(tmp_path, "car", "plane", "train")
    assert folder.classes == ("car", "plane", "train") and folder.test is None


def test_splits_are_known_in_any_case(tmp_path):
    folder = fill(tmp_path, "Train/cat", "Test/cat")
    assert folder.classes == ("cat",) and len(folder.test) == 3


def test_a_validation_folder_beside_a_test_folder_chooses_the_epoch(tmp_path):
    folder = fill(tmp_path, "train/cat", "val/cat", "test/cat")
    split = split_folder(folder, validation=0.5, test=0.5, seed=0)
    assert [{s.path.parts[-3] for s in part} for part in (split.train, split.validation, split.test)] == [
        {"train"}, {"val"}, {"test"}
    ]  # fmt: skip


def test_classes_beside_a_split_are_refused(tmp_path):
    with pytest.raises(EquicliError, match="dog: a class beside the split"):
        fill(tmp_path, "dog", "test/cat")


def test_splits_keep_the_share_of_each_stratum_whatever_the_targets_are(tmp_path):
    samples = tuple(Sample(tmp_path / f"{i}.png", {"boxes": [i]}, stratum=i % 4 == 0) for i in range(40))
    split = split_folder(Dataset(tmp_path, (), samples, None), validation=0.25, test=0.2, seed=1)
    assert [sum(s.stratum for s in part) for part in (split.train, split.validation, split.test)] == [6, 2, 2]
    assert [len(part) for part in (split.train, split.validation, split.test)] == [24, 8, 8]


def test_test_images_are_strata_of_their_class(tree):
    folder = open_folder(tree("train/ant/a.png", "train/bee/b.png", "test/bee/c.png"))
    assert [(s.target, s.stratum) for s in folder.train + folder.test] == [(0, 0), (1, 1), (1, 1)]


def test_a_task_to_which_classes_mean_nothing_has_the_same_images_without_them(tree):
    folder = open_folder(tree("train/cat/a.png", "train/dog/b.png", "test/cat/c.png", "val/dog/d.png"))
    bare = folder.with_targets(lambda sample: None)
    assert bare.classes == () and {s.target for s in bare.samples} == {None}
    assert [s.path for s in bare.samples] == [s.path for s in folder.samples]
    assert [s.stratum for s in bare.samples] == [s.stratum for s in folder.samples]
    without_test = open_folder(folder.root / "train").with_targets(lambda sample: None)
    assert without_test.test is None and without_test.validation is None and len(without_test.train) == 2


def test_a_recorded_split_is_found_again_and_leaves_out_what_came_since(tmp_path):
    folder = fill(tmp_path, "cat", "dog")
    split = split_folder(folder, validation=0.3, test=0.3, seed=0)
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "new.png")
    recorded = split.paths(tmp_path)
    assert recorded_split(open_folder(tmp_path), recorded) == split
    split.test[0].path.unlink()
    with pytest.raises(EquicliError, match=rf"{split.test[0].path.name}: recorded in the run, but gone \(1 such"):
        recorded_split(open_folder(tmp_path), recorded)
