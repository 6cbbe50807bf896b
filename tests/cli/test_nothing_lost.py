"""Whatever stops a command, nothing is lost: what was computed is printed, and what was begun can be gone on with."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import equicli
from equicli.cli import main
from equicli.data.decode import Decoder
from equicli.training import loop
from tests.cli.test_errors import check

MODEL = ("--model", "test_resnet", "--model-arg", "num_classes=2", "--preprocess", "none")
SMALL = ("--epochs", "2", "--canonicalizer-size", "16", "--set", "canonicalizer.width=4", "--device", "cpu")
COMPARE = ("compare", "photos", *MODEL, "--checkpoint", "weights.safetensors", "--systems", "vanilla,symmetrization")
ADAPT = ("adapt", "photos", *MODEL, "--checkpoint", "weights.safetensors", *SMALL)


@pytest.fixture(scope="module")
def made(cli, tmp_path_factory) -> Path:
    """A folder with photos, weights and a finished run. Leave it as it is."""
    here = tmp_path_factory.mktemp("made")
    for name in ("ant", "bee"):
        (here / "photos" / name).mkdir(parents=True)
        for i in range(10):
            picture = Image.linear_gradient("L").resize((32, 32)).point(lambda v, i=i: v // 2 + 9 * i)
            picture.save(here / "photos" / name / f"{i}.png")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), here / "weights.safetensors")
    result = cli(*ADAPT, "-o", "runs/first", cwd=here)
    assert result.returncode == 0, result.stderr
    return here


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "here", symlinks=True))


def stop(*_, **__):
    raise KeyboardInterrupt


def test_what_is_stopped_after_training_goes_on_with_its_reports(cli, here: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("equicli.pipeline.evaluate_images", stop)
        stopped = cli(*ADAPT, "-o", "runs/second", cwd=here)
    assert stopped.returncode == 130 and "to go on: equicli adapt --resume runs/second" in stopped.stderr
    assert not (here / "runs/second/metrics.json").exists()
    second = (here / "runs/second/model.safetensors").read_bytes()
    evaluated = cli("evaluate", "-o", "measured", cwd=here)  # the latest run, whose model is whole
    assert evaluated.returncode == 0, evaluated.stderr
    assert (here / "runs/latest").resolve().name == "second"
    monkeypatch.setattr("equicli.training.teaching.fit", lambda *_, **__: pytest.fail("it is trained"))
    resumed = cli("adapt", "--resume", "runs/second", cwd=here)
    assert resumed.returncode == 0 and "only its reports are missing" in resumed.stderr
    assert (here / "runs/second/model.safetensors").read_bytes() == second
    first, second = (json.loads((here / "runs" / run / "metrics.json").read_text()) for run in ("first", "second"))
    for timed in ("cost", "curve", "provenance", "warnings", "run"):
        first.pop(timed), second.pop(timed)
    assert first == second
    check(cli("adapt", "--resume", "runs/second", cwd=here), 2, "this run is finished")


def test_a_bare_evaluate_never_measures_an_earlier_run_than_was_begun_last(cli, here: Path, monkeypatch) -> None:
    save = loop._Trainer.save
    monkeypatch.setattr(loop._Trainer, "save", lambda *arguments: (save(*arguments), stop()))
    assert cli(*ADAPT, "-o", "runs/second", cwd=here).returncode == 130
    for command in ("evaluate", "export", "inspect"):
        check(cli(command, cwd=here), 2, "runs/second, the latest run", "equicli adapt --resume runs/second")
    assert cli("evaluate", "runs/first", cwd=here).returncode == 0


def test_a_run_that_fails_leaves_no_folder_and_the_latest_run_as_it_was(cli, here: Path) -> None:
    before = sorted(p.name for p in (here / "runs").iterdir())
    check(cli(*ADAPT, "--checkpoint", "none.pth", cwd=here), 2, "none.pth")
    check(cli(*ADAPT, "--checkpoint", "none.pth", "-o", "deep/er", cwd=here), 2, "none.pth")
    assert sorted(p.name for p in (here / "runs").iterdir()) == before and not (here / "deep").exists()
    assert (here / "runs/latest").resolve().name == "first"


@pytest.mark.parametrize("in_the_way", ["metrics.json", "report.md", "log.jsonl"])
def test_what_evaluate_cannot_write_is_printed_all_the_same(cli, here: Path, in_the_way: str) -> None:
    (here / "runs/first" / in_the_way).unlink()
    (here / "runs/first" / in_the_way / "x").mkdir(parents=True)
    result = cli("evaluate", "runs/first", "--json", cwd=here)
    assert json.loads(result.stdout)["n"] == 4
    check(result, 1, f"runs/first/{in_the_way}: ")


def test_a_folder_that_cannot_be_made_costs_no_table(cli, here: Path) -> None:
    result = cli("evaluate", "runs/first", "-o", "weights.safetensors/below", cwd=here)
    assert "vanilla" in result.stdout
    check(result, 1, "weights.safetensors/below/metrics.json: ")


def test_what_adapt_and_compare_cannot_write_is_printed_all_the_same(cli, here: Path, monkeypatch) -> None:
    def full(path, *_):
        raise OSError(28, "No space left on device", str(path))

    for room in ("equicli.pipeline", "equicli.reports.folder"):
        monkeypatch.setattr(f"{room}.write_atomically", full)
    result = cli(*ADAPT, "-o", "second", "--json", cwd=here)
    assert json.loads(result.stdout)["split"] == "validation"
    check(result, 1, "second/metrics.json: No space left on device.")
    result = cli(*COMPARE, "-o", "compared", "--json", cwd=here)
    assert len(json.loads(result.stdout)["systems"]) == 3
    check(result, 1, "compared/compare.json: No space left on device.")


@pytest.mark.parametrize("command", [ADAPT, ("export", "runs/first"), COMPARE, ("quickstart",)])
def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(cli, here: Path, command, monkeypatch) -> None:
    (here / "locked").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked" and access(path, mode))
    for room in ("equicli.training.setup.open_data", "equicli.artifact.load", "equicli.quickstart.prepare"):
        monkeypatch.setattr(room, lambda *_, **__: pytest.fail("work was begun"))
    output = "locked/model.safetensors" if command[0] == "export" else "locked"
    result = cli(*command, "-o", output, cwd=here)
    check(result, 1, "equicli: locked: Permission denied.")


@pytest.mark.parametrize("command", [ADAPT, COMPARE, ("quickstart",), ("evaluate", "model.safetensors")])
def test_a_folder_that_another_process_works_in_is_refused(cli, here: Path, command) -> None:
    from equicli.files import alone_in

    shutil.copy(here / "runs/first/model.safetensors", here)
    with alone_in(here / "busy"):
        check(cli(*command, "-o", "busy", cwd=here), 2, "busy: another equicli is at work in it")


def test_an_export_never_takes_the_place_of_one_that_came_meanwhile(cli, here: Path, monkeypatch) -> None:
    from equicli import artifact

    load = artifact.load

    def other_export(*arguments, **options):
        (here / "model.safetensors").write_text("of another process")
        return load(*arguments, **options)

    monkeypatch.setattr(artifact, "load", other_export)
    check(cli("export", "runs/first", "-o", "model.safetensors", cwd=here), 2, "exists; name another file")
    assert (here / "model.safetensors").read_text() == "of another process"


def begun(cli, here: Path, monkeypatch) -> Path:
    """A run that was killed after its first epoch."""
    save = loop._Trainer.save
    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "save", lambda *arguments: (save(*arguments), stop()))
        assert cli(*ADAPT, "-o", "out", cwd=here).returncode == 130
    return here / "out"


DAMAGE = {"empty": b"", "binary": b"\x00\xff" * 50, "json": b"[1, 2]", "torn": None}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((name, how) for name in ("split.json", "training_state.safetensors") for how in ("empty", "torn")),
        *((name, how) for name in ("config.json", "resolved.yaml", "model.safetensors") for how in ("binary", "torn")),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_a_remedy(cli, here: Path, monkeypatch, name, how) -> None:
    trained = name == "model.safetensors"
    file = (here / "runs/first" if trained else begun(cli, here, monkeypatch)) / name
    content = DAMAGE[how]
    file.write_bytes(file.read_bytes()[:-10] if content is None else content)
    if name == "resolved.yaml" and how == "torn":
        file.write_bytes(file.read_bytes()[:8])
    result = cli(*(("evaluate", "runs/first") if trained else ("adapt", "--resume", "out")), cwd=here)
    check(result, 1, str(file.relative_to(here)))
    if name == "training_state.safetensors":
        assert "Remove it" in result.stderr
        file.unlink()
        assert cli("adapt", "--resume", "out", cwd=here).returncode == 0
        weights = [load_file(run / "model.safetensors") for run in (here / "out", here / "runs/first")]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])


def test_a_state_of_another_training_is_damaged(cli, here: Path, monkeypatch) -> None:
    file = begun(cli, here, monkeypatch) / "training_state.safetensors"
    whole = load_file(file)
    for change in (
        {"progress": torch.tensor([9.0, 10.0, 0.0, 0.0], dtype=torch.float64)},
        {"progress": torch.zeros(2)},
        {key: value[..., :1] for key, value in whole.items() if key.startswith("optimizer") and value.ndim > 1},
        {key: value[:1] for key, value in whole.items() if key.startswith("best") and value.ndim > 1},
        {"else": torch.zeros(1)},
    ):
        save_file({**whole, **{key: value.contiguous() for key, value in change.items()}}, file)
        check(cli("adapt", "--resume", "out", cwd=here), 1, "training_state.safetensors: damaged", "Remove it")


def test_damaged_features_are_named_and_made_again(cli, here: Path, monkeypatch) -> None:
    for name in ("cow", "dog"):
        shutil.copytree(here / "photos" / "ant", here / "photos" / name)
    file = begun(cli, here, monkeypatch) / "features.safetensors"
    whole = load_file(file)
    for content in ({}, {**whole, "more": torch.zeros(1)}, {**whole, "samples": whole["samples"][:1]}):
        save_file(content, file)
        check(cli("adapt", "--resume", "out", cwd=here), 1, "features.safetensors: damaged", "Remove it")
    file.unlink()
    assert cli("adapt", "--resume", "out", cwd=here).returncode == 0


def test_a_torn_line_of_the_log_is_mended(cli, here: Path, monkeypatch) -> None:
    log = begun(cli, here, monkeypatch) / "log.jsonl"
    with log.open("a") as file:
        file.write('{"epoch": 2, "loss')
    assert cli("adapt", "--resume", "out", cwd=here).returncode == 0
    assert [json.loads(line).get("epoch") for line in log.read_text().splitlines()].count(2) == 1


def test_what_a_run_was_begun_with_must_be_the_same(cli, here: Path, monkeypatch) -> None:
    out = begun(cli, here, monkeypatch)
    config = json.loads((out / "config.json").read_text())
    for key, value, what in (
        ("provenance", config["provenance"] | {"state_sha256": "0"}, "the prediction network's weights or prompts"),
        ("labels", {"ant": 0}, "the folder's classes"),
        ("padding", "zeros", "padding"),
    ):
        (out / "config.json").write_text(json.dumps({**config, key: value}))
        check(cli("adapt", "--resume", "out", cwd=here), 1, f"--resume out: {what} changed since")


# Going on.


def test_a_run_whose_folder_moved_goes_on_there_and_is_evaluated_there(cli, here: Path, monkeypatch) -> None:
    begun(cli, here, monkeypatch)
    (here / "photos").rename(here / "moved")
    check(cli("adapt", "--resume", "out", cwd=here), 2, "photos", "--resume out DATA")
    assert cli("adapt", "--resume", "out", "moved", cwd=here).returncode == 0
    weights = [load_file(run / "model.safetensors") for run in (here / "out", here / "runs/first")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[1])
    assert cli("evaluate", cwd=here).returncode == 0


def test_images_that_are_gone_stop_a_run_only_where_it_needs_them(cli, here: Path, monkeypatch) -> None:
    split = json.loads((begun(cli, here, monkeypatch) / "split.json").read_text())
    needed = here / "photos" / split["train"][0]
    content = needed.read_bytes()
    needed.unlink()
    check(cli("adapt", "--resume", "out", cwd=here), 1, str(needed.relative_to(here)), "gone")
    needed.write_bytes(content)
    (here / "photos" / split["test"][0]).unlink()
    result = cli("adapt", "--resume", "out", cwd=here)
    assert result.returncode == 0 and "1 of the run's test images are gone" in result.stderr


def test_more_epochs_go_on_where_they_give_what_as_many_from_the_start_would(cli, here: Path, monkeypatch) -> None:
    constant = ("--set", "schedule=constant")
    assert cli(*ADAPT, *constant, "--epochs", "3", "-o", "whole", cwd=here).returncode == 0
    save = loop._Trainer.save
    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "save", lambda *arguments: (save(*arguments), stop()))
        assert cli(*ADAPT, *constant, "--epochs", "1", "-o", "longer", cwd=here).returncode == 130
    resumed = cli("adapt", "--resume", "longer", "--epochs", "3", cwd=here)
    assert resumed.returncode == 0, resumed.stderr
    weights = [load_file(here / name / "model.safetensors") for name in ("whole", "longer")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    check(cli("adapt", "--resume", "longer", "--epochs", "4", cwd=here), 2, "finished", "--recipe longer/resolved.yaml")


def test_more_epochs_are_refused_where_the_learning_rate_was_for_fewer(cli, here: Path, monkeypatch) -> None:
    out = begun(cli, here, monkeypatch)
    check(cli("adapt", "--resume", "out", "--epochs", "1", cwd=here), 2, "--epochs 1: the run was to take 2")
    longer = ("adapt", "--resume", "out", "--epochs", "3")
    check(cli(*longer, cwd=here), 2, "--epochs 3", "schedule=cosine", "--recipe out/resolved.yaml --epochs 3")
    (out / "training_state.safetensors").unlink()  # nothing is done yet
    assert cli(*longer, cwd=here).returncode == 0


# Streams.


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A pipe whose reader is gone, as after `| head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


def evaluate(here: Path, monkeypatch, *more: str, **streams: TextIO | None) -> int:
    """The exit code of `equicli evaluate` with these streams in place of the process's own."""
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "argv", ["equicli", "evaluate", "runs/first", *more])
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_where_nobody_reads_the_table_the_files_are_written_all_the_same(
    here: Path, monkeypatch, unread, capsys, more
) -> None:
    (here / "runs/first/metrics.json").unlink()
    assert evaluate(here, monkeypatch, *more, stdout=unread) == 141
    assert "rror" not in capsys.readouterr().err
    assert json.loads((here / "runs/first/metrics.json").read_text())["n"] == 4


def test_where_nobody_reads_the_words_the_work_goes_on(here: Path, monkeypatch, unread, capsys) -> None:
    assert evaluate(here, monkeypatch, "--json", stderr=unread) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 4


def test_where_the_output_is_closed_the_files_are_written_all_the_same(here: Path, monkeypatch) -> None:
    (here / "runs/first/metrics.json").unlink()
    assert evaluate(here, monkeypatch, stdout=None, stderr=None) == 0
    sys.stdout.close()
    sys.stderr.close()
    assert json.loads((here / "runs/first/metrics.json").read_text())["n"] == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_table_that_cannot_be_printed_is_written_all_the_same(here: Path, monkeypatch, capsys, more) -> None:
    (here / "runs/first/metrics.json").unlink()
    with Path("/dev/full").open("w") as full:
        assert evaluate(here, monkeypatch, *more, stdout=full) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "equicli: standard output: No space left on device."
    assert (here / "runs/first/metrics.json").is_file()


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        ("2>&1 >/dev/full", 1, "equicli: standard output: No space left on device.\n"),
        (">&-", 0, ""),
        ("0<&- >&- 2>&-", 0, ""),
        ("2>&-", 0, f"equicli {equicli.__version__}\n"),
    ],
)
def test_a_process_ends_well_whatever_its_streams_are(tmp_path: Path, redirection: str, code: int, words: str) -> None:
    shell = f"{sys.executable} -m equicli --version {redirection}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, words)


def test_files_do_not_get_the_numbers_of_closed_streams() -> None:
    code = "from equicli.cli.streams import fill_closed; fill_closed(); import os; os._exit(os.open('.', 0))"
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" 0<&- >&- 2>&-'], check=False)
    assert done.returncode > 2


def test_quiet_is_quiet_also_of_what_libraries_write(cli, here: Path, capfd, monkeypatch) -> None:
    """Code in C writes to the process's stderr, past Python's."""
    read = Decoder.read
    monkeypatch.setattr(Decoder, "read", lambda decoder, path: os.write(2, b"noise\n") and read(decoder, path))
    loud = cli("evaluate", "runs/first", "--data", "photos", "-o", "loud", cwd=here)
    assert loud.returncode == 0 and "noise" in capfd.readouterr().err
    quiet = cli("evaluate", "runs/first", "--data", "photos", "-o", "quiet", "--quiet", cwd=here)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("written", ["0.5, 0.4, 0.3", ("0.5", "0.4", "0.3")])
def test_three_values_are_written_as_one_or_as_three(cli, here: Path, written) -> None:
    values = (written,) if isinstance(written, str) else written
    arguments = ("--mean", *values, "photos", "--std", *values, *MODEL, *SMALL, "--epochs", "1", "-o", "out")
    result = cli("adapt", *arguments, "--checkpoint", "weights.safetensors", cwd=here)
    assert result.returncode == 0, result.stderr
    preprocess = json.loads((here / "out" / "config.json").read_text())["preprocess"]
    assert preprocess["normalization"] == [[0.5, 0.4, 0.3], [0.5, 0.4, 0.3]]


@pytest.mark.parametrize("wrong", ["0.5,0.5", "a,b,c", "1,2,3"])
def test_what_is_no_mean_is_told(cli, here: Path, wrong) -> None:
    check(cli(*ADAPT, "--mean", wrong, cwd=here), 2, "mean")


def test_the_pipeline_refuses_an_existing_artifact_first(here: Path) -> None:
    (here / "there.safetensors").touch()
    script = Path(__file__).parents[2] / "recipes" / "pipeline.sh"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(here)}
    command = ["bash", script, "out", "there.safetensors", *ADAPT[1:]]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there.safetensors" in done.stderr
    assert not (here / "out").exists()
