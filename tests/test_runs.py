import errno
import json
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from equicli.errors import EquicliError, UsageError
from equicli.files import write_atomically
from equicli.progress import Silent
from equicli.runs import (
    RUNS,
    Run,
    become_latest,
    claim_new,
    claim_unfinished,
    find_run,
    find_unfinished,
    new_run,
    short_name,
    start_run,
)

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


def trained(folder):
    run = started(folder)
    run.model.write_bytes(b"weights")
    return run


def finished(folder):
    run = trained(folder)
    run.card.write_text("reports")
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
    with pytest.raises(UsageError, match="points to first, which is gone"):
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


@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"a: b: c",
        b"",
        b"- 1",
        b"text",
        b"\xff\x00",
        b"seed: 1\n",
        b"data: [1]\n",
        b"data: x\nseed: many\n",
        b"data: x\nevaluation: 3\n",
        b"data: x\nevaluation: {rotate: sideways}\n",
        b"{" * 5000,
    ],
)
def test_damaged_settings_are_told_in_one_line(content):
    run = started("out")
    run.settings.write_bytes(content)
    with pytest.raises(EquicliError, match=r"^out/resolved.yaml: damaged \(.+\)\. Put back [^\n]*$"):
        run.read_settings()


@pytest.mark.parametrize("read", ["read_split", "read_config"])
@pytest.mark.parametrize("content", [None, b"", b'{"train": [', b"\xff\x00", b"[]", b"3", b"[" * 5000])
def test_damaged_records_are_told_in_one_line(read, content):
    run = started("out")
    path = run.split if read == "read_split" else run.config
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(EquicliError, match=rf"^{path}: damaged \(.+\)\. Put back [^\n]*$"):
        getattr(run, read)()


@pytest.mark.parametrize("content", ["{}", '{"train": [], "validation": []}', '{"train": 3}', '{"train": [1]}'])
def test_a_split_of_other_types_is_damaged(content):
    run = started("out")
    run.split.write_text(content)
    with pytest.raises(EquicliError, match=r"split.json: damaged"):
        run.read_split()


def test_a_torn_last_line_of_the_log_is_skipped_and_mended():
    run = started("out")
    run.append_log({"epoch": 1})
    whole = run.log.read_bytes()
    for cut in range(1, len(whole)):
        run.log.write_bytes(whole + whole[:cut])
        assert run.read_log() == [{"epoch": 1}]
    run.append_log({"epoch": 2})
    assert run.read_log() == [{"epoch": 1}, {"epoch": 2}]


@pytest.mark.parametrize("line", [b"{", b"\x00\xff", b"[1]", b'"text"', b""])
def test_a_torn_line_in_the_middle_of_the_log_is_named(line):
    run = started("out")
    run.log.write_bytes(b'{"epoch": 1}\n' + line + b'\n{"epoch": 2}\n')
    with pytest.raises(EquicliError, match=r"log.jsonl: line 2 is damaged; remove it\."):
        run.read_log()


def claim(output=None, **overwrite):
    return claim_new(output, "vit_base", "c4", **({"overwrite": False} | overwrite))


def test_runs_that_begin_in_the_same_second_get_folders_of_their_own(monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _: "now")
    # As it is where all look before one makes its folder.
    exists, looked = Path.exists, []
    monkeypatch.setattr(Path, "exists", lambda path: exists(path) if path in looked else bool(looked.append(path)))
    with ExitStack() as held:
        folders = [held.enter_context(claim()).folder.name for _ in range(4)]
        assert folders == ["vit_base-c4-now", "vit_base-c4-now-2", "vit_base-c4-now-3", "vit_base-c4-now-4"]
        assert sorted(p.name for p in RUNS.iterdir()) == folders


def test_a_folder_is_held_by_one_process_at_a_time():
    with claim("out") as run:
        start_run(run, SETTINGS, SPLIT, "{}\n")
        for second in (claim("out", overwrite=True), claim_unfinished("out")):
            with pytest.raises(UsageError, match=r"^out: another equicli is at work in it"), second:
                pass
    with claim_unfinished("out"), pytest.raises(UsageError, match="at work"), claim("out", overwrite=True):
        pass
    with claim("out", overwrite=True):
        pass


def test_what_is_there_is_looked_at_again_when_the_folder_is_held(monkeypatch):
    """Between looking and holding, another process may have come and gone."""

    def come_and_go(folder, *, new):
        finished("out")
        return nullcontext()

    monkeypatch.setattr("equicli.runs.alone_in", come_and_go)
    with pytest.raises(UsageError, match="--output out: exists"), claim("out"):
        pass


@pytest.mark.parametrize("output", [None, "out", "deep/er/out"])
def test_a_run_that_fails_before_it_begins_leaves_nothing(workplace, output):
    with pytest.raises(ValueError), claim(output):
        raise ValueError
    assert list(workplace.iterdir()) == []
    (workplace / "empty").mkdir()
    with pytest.raises(ValueError), claim("empty"):
        raise ValueError
    assert (workplace / "empty").is_dir()


def test_a_run_that_cannot_be_recorded_leaves_nothing(workplace, monkeypatch):
    def full(path, text):
        if path.name == "resolved.yaml":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_atomically(path, text)

    monkeypatch.setattr("equicli.runs.write_atomically", full)
    with pytest.raises(OSError), claim() as run:
        start_run(run, SETTINGS, SPLIT, "{}\n")
    assert list(workplace.iterdir()) == []


def test_a_trained_run_without_reports_can_be_used_and_gone_on_with():
    trained("out")
    assert find_run("out").trained and not find_run("out").finished
    assert find_unfinished("out").begun


def test_the_latest_run_is_the_one_that_was_begun_and_an_unfinished_one_says_so():
    first, second = finished("runs/first"), started("runs/second")
    first.point_latest()
    become_latest(Run(second.folder), Silent())  # one of a comparison
    assert find_run(None).folder == first.folder
    become_latest(second, Silent())
    with pytest.raises(UsageError, match=r"runs/second, the latest run: .*--resume runs/second, or name another"):
        find_run(None)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("models/vit/", "vit"),
        ("transformers:/a/clip//", "clip"),
        ("transformers:.", "here"),
        ("transformers:..", "above"),
        ("sub/..", "here"),
        ("C:\\models\\vit\\", "vit"),
        ("/", "model"),
        ("", "model"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_models_folder_gives_the_run_its_name(workplace, monkeypatch, model, name):
    (workplace / "above" / "here").mkdir(parents=True)
    monkeypatch.chdir(workplace / "above" / "here")
    assert short_name(model) == name


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
