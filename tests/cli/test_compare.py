"""`equicli compare` on a few digits: the whole table, what it writes, and going on after an interruption."""

import json
import shutil
from pathlib import Path

import pytest

from equicli.comparison.systems import TITLES
from equicli.training import loop
from tests.cli.conftest import thinned

CHOSEN = "vanilla,oracle,augmentation,equioptadapt,symmetrization,equituning"


def command(*more: object) -> tuple[object, ...]:
    shared = ("compare", "data", "--recipe", "compare-quickstart", "--checkpoint", "network.safetensors")
    return (*shared, "--epochs", "2", "--batch-size", "32", "--systems", CHOSEN, "--seeds", "2", *more)


@pytest.fixture(scope="session")
def compared(cli, few: Path, shared) -> Path:
    """The comparison's folder, in a folder that has the data, too; all that is made of it again is the same."""

    def make(here: Path) -> None:
        thinned(few, here)
        result = cli(*command(), cwd=here)
        assert result.returncode == 0, result.stderr
        assert "augmentation" in result.stdout and "few: accuracies are uncertain" in result.stdout

    return shared("compared", make) / "runs" / "compare-test_resnet-c4"


def rows_of(folder: Path) -> dict[str, dict]:
    document = json.loads((folder / "compare.json").read_text())
    assert document["n"] == 9 * 2 and document["rotations"] == 4
    return {row["system"]: row for row in document["systems"]}


def test_systems_are_counted_on_the_same_images(compared: Path) -> None:
    rows = rows_of(compared)
    assert list(rows) == [name for name in TITLES if name in CHOSEN.split(",")]
    assert [len(rows[name]["seeds"]) for name in rows] == [1, 1, 2, 2, 1, 2]
    # Acc is that of the network where nothing is turned; and what is exact at 90° has one accuracy.
    assert rows["oracle"]["mean"]["avg_acc"] == rows["vanilla"]["mean"]["acc"]
    for name in ("equioptadapt", "symmetrization", "equituning"):
        assert rows[name]["mean"]["invariance_residual"] == 0
        assert rows[name]["mean"]["avg_acc"] == rows[name]["mean"]["acc"] == rows[name]["mean"]["worst_acc"]
    assert rows["vanilla"]["mean"]["invariance_residual"] > 0.5
    assert [name for name in rows if rows[name]["to_reference"] is None] == ["equioptadapt"]
    assert rows["equioptadapt"]["mean"]["identity_rate"] > 0.3 and rows["equituning"]["mean"]["identity_rate"] is None


def test_cost_tells_what_trains_and_how_often_the_network_runs(compared: Path) -> None:
    mean = {name: row["mean"] for name, row in rows_of(compared).items()}
    assert mean["augmentation"]["trainable_parameters"] > mean["equioptadapt"]["trainable_parameters"] > 0
    assert mean["vanilla"]["trainable_parameters"] == mean["symmetrization"]["training_seconds"] == 0
    assert [mean[name]["passes"] for name in ("vanilla", "equioptadapt", "symmetrization", "equituning")] == [
        1,
        1,
        4,
        4,
    ]


def test_reports_hold_the_whole_table(compared: Path) -> None:
    for name in ("compare.md", "compare.tex", "compare.html"):
        text = (compared / name).read_text()
        for word in ("C4-augmentation", "EquiOptAdapt", "equi-tuning", "C4-Avg Acc", "identity rate", "trainable"):
            assert word in text, (name, word)
    assert (compared / "compare.html").read_text().count("data:image/png;base64,") == 1


@pytest.mark.parametrize("system", ["vanilla", "augmentation", "equioptadapt", "symmetrization", "equituning"])
def test_each_system_is_counted_as_it_is_alone(cli, compared: Path, tmp_path: Path, system: str) -> None:
    """Frozen ones get what the network said of the same pixels to another; alone each asks it."""
    result = cli("evaluate", compared / f"{system}-seed0", "--json", "-o", tmp_path / "alone", cwd=compared.parents[1])
    assert result.returncode == 0, result.stderr
    alone, run = json.loads(result.stdout)["adapted"], rows_of(compared)[system]["runs"][0]
    assert [element["correct"] for element in alone["per_element"]] == run["correct"]
    for number in ("top5_acc", "avg_ece", "invariance_residual", "identity_rate", "passes"):
        assert run.get(number) == (None if alone[number] is None else pytest.approx(alone[number], abs=1e-4)), number


def test_a_run_of_the_comparison_says_what_it_is(cli, compared: Path, tmp_path: Path) -> None:
    told = cli("inspect", compared / "equituning-seed0", cwd=tmp_path).stdout
    assert "of the logits at all poses" in told and "fine-tuned" in told
    plain = cli("inspect", compared / "equioptadapt-seed0", cwd=tmp_path).stdout
    assert "at all poses" not in plain and "fine-tuned" not in plain


@pytest.mark.slow
def test_all_systems_are_counted_on_pictures_that_are_compressed_again(cli, few: Path, tmp_path: Path) -> None:
    shutil.copytree(few, tmp_path, dirs_exist_ok=True)
    result = cli(*command("--systems", "energy", "--reencode", "jpeg:5", "--json"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    mean = {row["system"]: row["mean"] for row in document["systems"]}
    assert document["reencode"] == "jpeg:5" and mean["energy"]["invariance_residual"] > 0
    assert mean["oracle"]["acc"] == mean["vanilla"]["acc"]
    text = (tmp_path / "runs" / "compare-test_resnet-c4" / "compare.md").read_text()
    assert "turned and compressed again (jpeg:5), also at 0°" in text


def test_what_is_finished_is_taken_over(cli, compared: Path, tmp_path: Path) -> None:
    shutil.copytree(compared, tmp_path / "again")
    arguments = command("--systems", "equioptadapt", "-o", tmp_path / "again", "--json")
    again = cli(*arguments, cwd=compared.parents[1])
    assert again.returncode == 0 and again.stderr.count("finished before") == 3  # and of the network alone
    before, after = rows_of(compared), {row["system"]: row for row in json.loads(again.stdout)["systems"]}
    assert list(after) == ["vanilla", "oracle", "equioptadapt"]
    for name, row in after.items():
        assert [run["correct"] for run in row["runs"]] == [run["correct"] for run in before[name]["runs"]]


def test_an_interrupted_comparison_goes_on_to_the_same_accuracies(
    cli, compared: Path, fewer: Path, tmp_path: Path, monkeypatch
) -> None:
    save, calls = loop._Trainer.save, []

    def interrupt(trainer, path: Path) -> None:
        save(trainer, path)
        calls.append(path)
        if len(calls) == 3:  # in the middle of the second run that trains
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._Trainer, "save", interrupt)
    one = command("--systems", "augmentation,equioptadapt", "--seeds", "1", "-o", tmp_path / "other")
    stopped = cli(*one, cwd=fewer)
    assert stopped.returncode == 130 and "give the same command again" in stopped.stderr
    monkeypatch.setattr(loop._Trainer, "save", save)
    assert cli(*one, cwd=fewer).returncode == 0
    whole, resumed = rows_of(compared), rows_of(tmp_path / "other")
    assert list(resumed) == ["vanilla", "oracle", "augmentation", "equioptadapt"]
    for name, row in resumed.items():
        assert [run["correct"] for run in row["runs"]] == [whole[name]["runs"][0]["correct"]]


@pytest.mark.slow
def test_runs_of_other_settings_are_taken_over_or_replaced_only_if_asked(cli, fewer: Path, tmp_path: Path) -> None:
    base = ("compare", "data", "--recipe", "compare-quickstart", "--checkpoint", "network.safetensors")
    chosen = ("--systems", "equioptadapt", "--seeds", "1", "--epochs", "1", "-o", tmp_path / "o")
    assert cli(*base, *chosen, cwd=fewer).returncode == 0
    model = tmp_path / "o" / "equioptadapt-seed0" / "model.safetensors"
    before = model.read_bytes()
    refused = cli(*base, *chosen, "--batch-size", "32", cwd=fewer)
    assert refused.returncode == 2 and "other settings (batch_size = 64, now 32)" in refused.stderr
    assert "--overwrite" in refused.stderr
    # Nothing is lost where the new run cannot be made.
    (tmp_path / "no").write_bytes(b"no weights")
    failed = cli(*base, *chosen, "--overwrite", "--checkpoint", tmp_path / "no", cwd=fewer)
    assert failed.returncode and model.read_bytes() == before
    assert cli(*base, *chosen, "--batch-size", "32", "--overwrite", cwd=fewer).returncode == 0
    assert model.read_bytes() != before


@pytest.mark.slow
def test_runs_that_others_could_have_been_tested_on_are_refused(cli, fewer: Path, tmp_path: Path) -> None:
    """An image that came between two calls must not move a part's test images."""
    base = ("compare", "data", "--recipe", "compare-quickstart", "--checkpoint", "network.safetensors", "--epochs", "1")
    chosen = ("--systems", "equioptadapt", "--seeds", "1", "-o", tmp_path / "o")
    assert cli(*base, *chosen, cwd=fewer).returncode == 0
    split = tmp_path / "o" / "equioptadapt-seed0" / "split.json"
    parts = json.loads(split.read_text())
    split.write_text(json.dumps({**parts, "test": parts["test"][1:]}))
    refused = cli(*base, *chosen, cwd=fewer)
    assert refused.returncode == 2 and "other test images" in refused.stderr
    split.write_text(json.dumps(parts))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes.txt").write_text("mine")
    refused = cli(*base, "--systems", "energy", "-o", tmp_path / "elsewhere", cwd=fewer)
    assert refused.returncode == 2 and "holds no comparison" in refused.stderr


@pytest.mark.slow
def test_a_group_off_the_grid_is_compared_with_its_oracle(cli, fewer: Path, tmp_path: Path) -> None:
    base = ("compare", "data", "--recipe", "compare-quickstart", "--checkpoint", "network.safetensors", "--epochs", "1")
    chosen = ("--systems", "equioptadapt,symmetrization", "--seeds", "1", "--group", "c8")
    result = cli(*base, *chosen, "--set", "artifact_weight=0.1", "-o", tmp_path / "o", "--json", cwd=fewer)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    rows = {row["system"]: row["mean"] for row in document["systems"]}
    assert document["rotations"] == 8 and rows["oracle"]["avg_acc"] > rows["vanilla"]["avg_acc"]


def test_images_without_labels_are_compared_by_what_needs_none(cli, few: Path, tmp_path: Path) -> None:
    data = few / "data" / "train" / "1"
    base = ("compare", data, "--recipe", "compare-quickstart", "--checkpoint", "network.safetensors", "--epochs", "1")
    result = cli(*base, "--systems", "learned,equioptadapt,augmentation", "--seeds", 1, "-o", tmp_path / "o", cwd=few)
    assert result.returncode == 0, result.stderr
    assert "no labels to train on: augmentation, learned" in result.stderr
    document = json.loads((tmp_path / "o" / "compare.json").read_text())
    assert [row["system"] for row in document["systems"]] == ["vanilla", "oracle", "equioptadapt"]
    assert document["systems"][0]["mean"]["acc"] == 1  # it agrees with itself
    assert document["labels"] == "agreement" and "agreement with" in (tmp_path / "o" / "compare.md").read_text()
    none = cli(*base, "--systems", "augmentation", "-o", tmp_path / "none", cwd=few)
    assert none.returncode == 2 and "no labels, which all of these --systems train on" in none.stderr


@pytest.mark.slow
def test_a_sweep_is_a_table_and_a_figure(cli, fewer: Path, tmp_path: Path) -> None:
    here = shutil.copytree(fewer, tmp_path / "here")
    base = ("compare", "data", "--recipe", "compare-quickstart", "--checkpoint", "network.safetensors", "--epochs", "1")
    swept = (
        "--systems",
        "equioptadapt",
        "--seeds",
        "1",
        "--sweep",
        "canonicalizer.width=4,8",
    )
    result = cli(*base, *swept, cwd=here)
    assert result.returncode == 0, result.stderr
    folder = here / "runs" / "compare-test_resnet-c4-canonicalizer.width"  # so that no other table is lost
    document = json.loads((folder / "compare.json").read_text())
    assert [row["settings"] for row in document["systems"]] == [
        [],
        [],
        ["canonicalizer.width=4"],
        ["canonicalizer.width=8"],
    ]
    assert document["provenance"]["command"] and document["provenance"]["versions"]
    assert "added parameters and cost" in (folder / "compare.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--systems", "equiadpat"], ["--systems equiadpat", "Did you mean 'equiadapt'"]),
        (["--sweep", "width"], ["--sweep width", "key=value"]),
        (["--set", "canonicalizer.nothing=1"], ["canonicalizer.nothing=1", "no system compared"]),
        (["--train-split", "nosuch"], ["--train-split nosuch: no such folder"]),
        (["--class-map", "nosuch.json"], ["--class-map", "nosuch.json: cannot be read"]),
        (["--reference", "energy"], ["--reference energy", "is not compared", "equituning"]),
        (["-o", "network.safetensors"], ["--output network.safetensors", "is a file"]),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(cli, few: Path, arguments, words) -> None:
    result = cli(*command(*arguments), cwd=few)
    lines = [line for line in result.stderr.splitlines() if line.startswith("equicli: ")]
    assert result.returncode == 2 and len(lines) == 1, result.stderr
    assert all(word in lines[0] for word in words)
