"""`equicli predict`: every input once, in order, however often it is killed and however the work is shared out."""

import csv
import io
import json
import multiprocessing
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import equicli
from equicli.artifact import write_artifact
from equicli.data.clouds.preprocess import CloudPreprocess
from equicli.data.decode import Decoder
from equicli.errors import EquicliError, UsageError
from equicli.serving import decoding
from equicli.serving.decoding import workers_for
from equicli.serving.parts import Shard, to_json
from equicli.serving.predict import Served
from equicli.tasks.registry import find_task


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def predict(cli, here, *arguments):
    done = cli("predict", "run", *arguments, cwd=here)
    assert done.returncode == 0, done.stderr
    return done


def test_each_file_has_a_row_that_says_what_the_model_says(cli, here) -> None:
    found = rows(predict(cli, here, "photos", "--batch-size", "8").stdout)
    paths = sorted(path for path in (here / "photos").rglob("*.png"))
    assert [here / str(row["path"]) for row in found] == paths
    model = equicli.load(here / "run")
    logits, pose = model.predict([str(path) for path in paths[:8]])
    for row, scores, element in zip(found, logits.softmax(dim=1), pose.element.tolist(), strict=False):
        assert row["label"] == ("ant", "bee")[int(scores.argmax())]
        assert row["score"] == pytest.approx(float(scores.max()), abs=1e-5)
        assert row["pose"] == f"r{90 * element}" and row["passes"] == 1
        assert 0.25 <= float(str(row["sure"])) <= 1


def test_inputs_are_files_folders_patterns_and_lists_each_once(cli, here, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("photos/bee/03.png\nphotos/gone.png\n"))
    done = predict(cli, here, "photos/bee/01.png", "photos/ant", "photos/*/01.png", "-")
    names = [str(row["path"]).removeprefix("photos/") for row in rows(done.stdout)]
    assert names == ["bee/01.png", *(f"ant/{i:02}.png" for i in range(10)), "bee/03.png", "gone.png"]
    assert "2 files named more than once" in done.stderr
    assert "error" in rows(done.stdout)[-1] and "skipped photos/gone.png" in done.stderr


def test_unreadable_files_have_a_row_are_counted_and_stop_a_strict_call(cli, here) -> None:
    (here / "photos" / "ant" / "00.png").write_bytes(b"no picture")
    done = predict(cli, here, "photos", "--output", "out.csv", "--json")
    summary = json.loads(done.stdout)
    assert summary["inputs"] == 20 and summary["unreadable"] == {"photos/ant/00.png": "not an image"}
    with (here / "out.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["path", "label", "score", "pose", "sure", "passes", "error"]
    assert len(table) == 20 and table[0]["error"] == "not an image" and table[1]["error"] == ""
    strict = cli("predict", "run", "photos", "--strict", cwd=here)
    assert strict.returncode == 1 and "00.png" in strict.stderr
    kept = cli("predict", "run", "photos", "--strict", "-o", "a b.csv", cwd=here)
    assert kept.returncode == 1 and "What is done is kept" in kept.stderr
    assert "equicli predict run photos -o 'a b.csv' --resume" in kept.stderr
    predict(cli, here, "photos", "-o", "a b.csv", "--resume")


def test_a_file_none_of_which_can_be_read_is_a_table_of_reasons(cli, here) -> None:
    (here / "bad.png").write_bytes(b"")
    predict(cli, here, "bad.png", "--output", "out.csv")
    assert (here / "out.csv").read_text() == "path,error\nbad.png,an empty file\n"


class Killed(BaseException):
    pass


def test_a_killed_call_goes_on_and_every_input_is_there_once(cli, here, monkeypatch) -> None:
    from equicli.serving.parts import Part

    predict(cli, here, "photos", "--output", "whole.jsonl", "--batch-size", "3")
    append, calls = Part.append, 0

    def torn(self: Part, number: int, found: object) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:  # half a line is written
            self._file.write(b'{"batch": 1, "ro')
            self._file.flush()
            raise Killed
        append(self, number, found)  # type: ignore[arg-type]

    monkeypatch.setattr(Part, "append", torn)
    command = ("predict", "run", "photos", "--output", "out.jsonl", "--batch-size", "3", "--resume")
    for _ in range(9):
        if (here / "out.jsonl").exists():
            break
        try:
            cli(*command, cwd=here)
        except Killed:
            refused = cli(*command[:-1], cwd=here)
            assert refused.returncode == 2 and "--resume" in refused.stderr
    assert (here / "out.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()
    assert not list(here.glob("*.part*"))


def test_shards_joined_are_what_one_process_writes(cli, here) -> None:
    predict(cli, here, "photos", "--output", "whole.jsonl", "--batch-size", "3")
    for shard in ("1/2", "2/2"):
        unfinished = cli("join", "out.jsonl", cwd=here)
        assert unfinished.returncode == 2
        predict(cli, here, "photos", "--output", "out.jsonl", "--batch-size", "3", "--shard", shard)
    done = cli("join", "out.jsonl", cwd=here)
    assert done.returncode == 0 and done.stdout == "out.jsonl\n"
    assert (here / "out.jsonl").read_bytes() == (here / "whole.jsonl").read_bytes()


def test_parts_of_other_work_are_neither_gone_on_with_nor_joined(cli, here) -> None:
    photos = ("predict", "run", "photos/ant", "--output", "out.csv")
    predict(cli, here, *photos[2:], "--shard", "1/2")
    other = cli(*photos, "--shard", "1/2", "--resume", "--max-pixels", "5000", cwd=here)
    assert other.returncode == 2 and "begun with --max-pixels 178956970: add it" in other.stderr
    other = cli(*photos, "--shard", "1/2", "--resume", "--precision", "bf16", cwd=here)
    assert other.returncode == 2 and "begun with --precision fp32: add it" in other.stderr
    predict(cli, here, *photos[2:], "--shard", "2/2", "--max-pixels", "5000")
    mixed = cli("join", "out.csv", cwd=here)
    assert mixed.returncode == 1 and "no part of the same work" in mixed.stderr
    predict(cli, here, *photos[2:], "--shard", "1/1")
    beside = cli("join", "out.csv", cwd=here)
    assert beside.returncode == 2 and "lies beside" in beside.stderr


def test_answers_that_are_not_finite_are_no_rows(here) -> None:
    task = find_task("classification", {})
    with pytest.raises(EquicliError, match="not finite"):
        task.answers(torch.tensor([[1.0, float("nan")]]), ("ant", "bee"))
    with pytest.raises(EquicliError, match="not finite"):
        to_json({"sure": float("inf")})


@pytest.mark.parametrize("command", [("predict", "a.onnx", "photos"), ("inspect", "a.pt2"), ("upright", "a.pt2", "x")])
def test_programs_are_for_others_to_run(cli, here, command) -> None:
    (here / command[1]).write_bytes(b"")
    done = cli(*command, cwd=here)
    assert done.returncode == 2 and "is a program, which" in done.stderr and ".safetensors" in done.stderr


def test_clouds_are_for_python(here) -> None:
    model, config = equicli.load(here / "run"), equicli.read_config(here / "run")
    config = replace(config, preprocess=CloudPreprocess())
    with pytest.raises(UsageError, match=r"of clouds use model.predict\(paths\)"):
        Served.of(model, config, "", 9, "fp32")


def test_where_the_system_knows_no_affinity_or_fork_server_others_serve(monkeypatch, tmp_path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert workers_for(1000) == 3 and workers_for(1) == 0
    asked = []
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr(
        decoding, "DataLoader", lambda *a, multiprocessing_context, **k: asked.append(multiprocessing_context) or []
    )
    assert not list(decoding._in_processes(decoding._Files([], [], 1, 1, Decoder()), 2))
    assert asked[0].get_start_method() == "spawn"


@pytest.mark.parametrize("lines, message", [(slice(0, -1), "unfinished"), (slice(0, None), "twice")])
def test_a_part_that_lacks_a_batch_or_has_one_twice_is_not_joined(cli, here, lines, message) -> None:
    predict(cli, here, "photos", "--output", "out.jsonl", "--batch-size", "5", "--shard", "1/1")
    part = here / "out.jsonl.part"
    content = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(content[lines] + content[-1:] * (lines.stop is None)))
    done = cli("join", "out.jsonl", cwd=here)
    assert done.returncode == 1 and message in done.stderr
    assert not (here / "out.jsonl").exists()


@pytest.mark.slow
def test_processes_beside_give_the_same_rows(run_cli, cli, here) -> None:
    alone = predict(cli, here, "photos", "--workers", "0").stdout
    beside = run_cli("predict", "run", "photos", "--workers", "2", "--quiet", cwd=here)
    assert beside.returncode == 0 and beside.stdout == alone


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "INPUT is missing"),
        (("nothing*",), "no such file or folder"),
        (("photos", "--output", "out.txt"), ".jsonl or .csv"),
        (("photos", "--output", "there.csv"), "exists"),
        (("photos", "--resume"), "--output"),
        (("photos", "--output", "o.csv", "--shard", "3/2"), "--shard 3/2"),
        (("photos", "--output", "begun.csv", "--resume"), "other inputs"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(cli, here, arguments, message) -> None:
    (here / "there.csv").touch()
    if "begun.csv" in arguments:
        predict(cli, here, "photos/ant", "--output", "begun.csv", "--shard", "1/1")
    done = cli("predict", "run", *arguments, cwd=here)
    assert done.returncode == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_shards_take_all_batches_between_them() -> None:
    taken = [number for index in (1, 2, 3) for number in Shard(index, 3).numbers(10)]
    assert sorted(taken) == list(range(10))
    assert Shard(2, 3).path(Path("a/b.csv")) == Path("a/b.csv.part-2-of-3")


@pytest.mark.real
def test_real_photos_are_answered(cli, here, real_data, tmp_path) -> None:
    (tmp_path / "coco").mkdir()
    for path in sorted(real_data.rglob("coco-tiny/**/*.jpg"))[:6]:
        shutil.copy(path, tmp_path / "coco")
    # The small network takes pictures of any size.
    found = rows(predict(cli, here, str(tmp_path / "coco")).stdout)
    assert len(found) == 6 and all("label" in row for row in found)


def test_resuming_what_has_ended_is_done_at_once_and_other_inputs_are_refused(cli, here) -> None:
    for name in ("done.csv", "done.jsonl"):
        predict(cli, here, "photos", "--output", name)
        before = (here / name).read_bytes()
        again = cli("predict", "run", "photos", "--output", name, "--resume", cwd=here)
        assert again.returncode == 0 and "has every input already" in again.stderr
        other = cli("predict", "run", "photos/ant", "--output", name, "--resume", cwd=here)
        assert other.returncode == 2 and "of other inputs" in other.stderr
        assert (here / name).read_bytes() == before


def test_a_canonicalizer_near_chance_is_told(cli, here) -> None:
    file = here / "run" / "model.safetensors"
    model, config = equicli.load(file), equicli.read_config(file)
    for name, rate, n in (("chance", 0.3, 100), ("good", 0.6, 100), ("few", 0.3, 4)):
        known = {"identity_rate": rate, "identity_rate_of": n}
        write_artifact(here / f"{name}.safetensors", model, replace(config, **known))
        for command, *options in (("predict",), ("upright", "--dry-run")):
            done = cli(command, f"{name}.safetensors", "photos/ant/01.png", *options, cwd=here)
            told = "mind: the canonicalizer of chance.safetensors is near chance: training found 30.0%" in done.stderr
            assert done.returncode == 0 and told == (name == "chance")


def test_a_file_that_is_not_there_is_called_a_file(cli, here) -> None:
    done = cli("predict", "gone.safetensors", "photos", cwd=here)
    assert done.returncode == 2 and done.stderr.startswith("equicli: gone.safetensors: no such file.")
