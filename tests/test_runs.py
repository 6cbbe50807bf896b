import json
from pathlib import Path

import pytest

from equicli.errors import UsageError
from equicli.runs import find_run, find_unfinished, new_run, start_run

SETTINGS = {"data": "photos", "model": "vit_base", "seed": 3}
SPLIT = {"train": ["a.png"], "validation": ["b.png"], "test": ["c.png"]}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(folder):
    run = new_run(folder, "vit_base", "c4", overwrite=False)
    start_run(run, SETTINGS, SPLIT, "{}\n")
    return run


def finished(folder):
    run = started(folder)
    run.model.write_bytes(b"weights")
    return run


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("vit_base", "vit_base"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("hf-hub:owner/name", "name"),
        ("hf-hub:owner/name@main", "name"),
        ("torchvision:resnet18", "resnet18"),
        ("python:package.module:factory", "factory"),
    ],
)
def test_a_run_without_a_name_is_called_by_model_group_and_time(model, name):
    run = new_run(None, model, "c4", overwrite=False)
    assert run.folder.parent.name == "runs"
    assert run.folder.name.startswith(f"{name}-c4-")
    assert not run.folder.exists()


def test_two_runs_started_in_the_same_second_do_not_share_a_folder():
    first = started(None)
    second = new_run(None, "vit_base", "c4", overwrite=False)
    assert second.folder != first.folder


def test_choosing_a_folder_writes_nothing(workplace):
    new_run("out/deep", "vit_base", "c4", overwrite=False)
    new_run(None, "vit_base", "c4", overwrite=False)
    assert list(workplace.iterdir()) == []


def test_a_started_run_tells_what_it_was_made_from():
    run = started("out")
    assert run.read_settings() == SETTINGS
    assert run.read_split() == SPLIT
    assert not run.finished


def test_an_empty_folder_may_be_taken(workplace):
    (workplace / "out").mkdir()
    assert started("out").settings.is_file()


@pytest.mark.parametrize("make", [started, finished])
def test_an_existing_run_is_kept_unless_it_may_be_overwritten(make):
    make("out").append_log({"epoch": 1})
    with pytest.raises(UsageError, match="--overwrite"):
        new_run("out", "vit_base", "c4", overwrite=False)
    run = new_run("out", "vit_base", "c4", overwrite=True)
    assert run.log.is_file()
    start_run(run, SETTINGS, SPLIT, "{}\n")
    assert not run.log.exists()
    assert not run.finished


def test_where_an_unfinished_run_lies_resuming_is_proposed():
    started("out")
    with pytest.raises(UsageError, match="--resume out"):
        new_run("out", "vit_base", "c4", overwrite=False)
    finished("whole")
    with pytest.raises(UsageError) as error:
        new_run("whole", "vit_base", "c4", overwrite=False)
    assert "--resume" not in str(error.value)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_run_folder_is_never_overwritten(workplace, overwrite):
    (workplace / "photos").mkdir()
    (workplace / "photos" / "holiday.jpg").touch()
    (workplace / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(UsageError, match=f"--output {name}: exists and is not a run folder"):
            new_run(name, "vit_base", "c4", overwrite=overwrite)


def test_a_run_is_found_by_its_folder_or_as_the_latest(workplace):
    first, second = finished("runs/first"), finished("runs/second")
    first.point_latest()
    assert find_run(None).folder.samefile(first.folder)
    second.point_latest()
    assert find_run(None).folder.samefile(second.folder)
    assert find_run("runs/first").folder.samefile(first.folder)
    assert find_run("runs/latest").folder.samefile(second.folder)
    assert sorted(p.name for p in (workplace / "runs").iterdir()) == ["first", "latest", "second"]


def test_latest_moves_with_the_runs_folder_and_points_to_runs_elsewhere_too(workplace):
    finished("runs/first").point_latest()
    assert (workplace / "runs" / "latest").readlink() == Path("first")
    elsewhere = finished("elsewhere/out")
    elsewhere.point_latest()
    assert find_run(None).folder.samefile(elsewhere.folder)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_named_latest_is_refused_or_overwritten_in_words(overwrite):
    run = finished("runs/first")
    run.point_latest()
    try:
        start_run(new_run("runs/latest", "vit_base", "c4", overwrite=overwrite), SETTINGS, SPLIT, "{}\n")
    except UsageError as error:
        assert "--output" in str(error)
        assert run.finished
    else:
        assert overwrite
        assert not run.finished


@pytest.mark.parametrize(
    ("path", "words"),
    [(None, "equicli adapt"), ("nowhere", "no such run folder"), ("photos", "model.safetensors is missing")],
)
def test_where_no_run_is_the_remedy_is_told(workplace, path, words):
    (workplace / "photos").mkdir()
    with pytest.raises(UsageError, match=words):
        find_run(path)


def test_a_deleted_latest_run_is_no_run(workplace):
    run = finished("runs/first")
    run.point_latest()
    run.folder.rename("moved")
    with pytest.raises(UsageError, match="no run"):
        find_run(None)


def test_an_unfinished_run_is_not_found_as_finished_and_how_to_go_on_is_told():
    started("out")
    with pytest.raises(UsageError, match="equicli adapt --resume out"):
        find_run("out")
    assert find_unfinished("out").read_settings() == SETTINGS


@pytest.mark.parametrize(("make", "words"), [(finished, "finished"), (lambda _: None, "no run folder")])
def test_only_an_unfinished_run_can_be_resumed(make, words):
    make("out")
    with pytest.raises(UsageError, match=f"--resume out: .*{words}"):
        find_unfinished("out")


@pytest.mark.parametrize("content", ["a: [", "a: b: c", "", "- 1", "text"])
def test_damaged_settings_are_told_in_one_line(content):
    run = started("out")
    run.settings.write_text(content)
    with pytest.raises(UsageError) as error:
        run.read_settings()
    assert "resolved.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_log_entries_are_lines_of_json_in_the_order_they_came():
    run = started("out")
    run.append_log({"epoch": 1})
    run.append_log({"epoch": 2, "note": "ä\n"})
    lines = run.log.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 1}, {"epoch": 2, "note": "ä\n"}]


def test_files_appear_whole_and_leave_nothing_beside_them():
    run = started("out")
    run.write("notes.txt", "text")
    run.write("numbers.json", {"a": [1]})
    with pytest.raises(TypeError):
        run.write("numbers.json", {"a": object()})
    assert (run.folder / "notes.txt").read_text() == "text"
    assert json.loads((run.folder / "numbers.json").read_text()) == {"a": [1]}
    started_with = ["config.json", "resolved.yaml", "split.json"]
    assert sorted(p.name for p in run.folder.iterdir()) == sorted([*started_with, "notes.txt", "numbers.json"])
