"""adapt → evaluate → export as a user types them, on the quickstart's real digits."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Client, Listener
from pathlib import Path
from threading import Thread

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import equicli
from equicli.data.decode import read_picture
from equicli.data.folders import open_folder
from equicli.data.normalization import HALF
from equicli.policy import One
from tests.cli.conftest import Quickstart

ADAPT = ("--recipe", "quickstart", "--epochs", "2")


@pytest.fixture
def here(few: Path, tmp_path: Path) -> Path:
    """A working directory with some digits and the small network's weights."""
    return shutil.copytree(few, tmp_path, dirs_exist_ok=True)


def adapt(cli, here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    result = cli("adapt", "data", *ADAPT, "--checkpoint", "network.safetensors", *arguments, cwd=here)
    assert result.returncode == 0, result.stderr
    return result


def test_quickstart_ends_with_the_table_and_the_next_commands(quickstart: Quickstart) -> None:
    for word in ("vanilla", "adapted", "symmetrized", "oracle", "identity rate"):
        assert word in quickstart.stdout
    assert "equicli adapt --model" in quickstart.stderr
    assert "gate: asking the network about the 4 likeliest poses of 130 validation images" in quickstart.stderr
    assert {p.name for p in quickstart.folder.iterdir()} == {"data", "network.safetensors", "run", "model.safetensors"}


def test_a_run_folder_holds_every_promised_file(quickstart: Quickstart) -> None:
    names = {path.name for path in (quickstart.folder / "run").iterdir()}
    promised = (
        "model.safetensors config.json resolved.yaml split.json log.jsonl metrics.json report.md curve.png README.md"
    )
    assert names == set(promised.split())


def test_quickstart_is_equivariant_and_far_better_than_vanilla(quickstart: Quickstart) -> None:
    metrics = json.loads((quickstart.folder / "run" / "metrics.json").read_text())
    counts = {entry["correct"] for entry in metrics["adapted"]["per_element"]}
    assert metrics["split"] == "test" and metrics["n"] == 313
    assert len(counts) == 1 or metrics["adapted"]["ties"] > 0
    assert metrics["adapted"]["avg_acc"] > metrics["vanilla"]["avg_acc"] + 0.3
    assert metrics["vanilla"]["acc"] > 0.95


def test_the_prediction_network_is_bit_identical_in_the_artifact(quickstart: Quickstart) -> None:
    original = load_file(quickstart.folder / "network.safetensors")
    with safe_open(quickstart.folder / "model.safetensors", "pt") as artifact:
        stored = {k.removeprefix("prediction_network."): k for k in artifact.keys() if k.startswith("prediction_")}
        assert stored.keys() == original.keys()
        for name, key in stored.items():
            assert torch.equal(artifact.get_tensor(key), original[name])


def test_the_exported_file_loads_as_a_module_whose_canonical_form_is_exact(quickstart: Quickstart) -> None:
    model = equicli.load(quickstart.folder / "model.safetensors")
    samples = open_folder(quickstart.folder / "data").test
    x = HALF(torch.stack([read_picture(sample.path) for sample in samples[:64]]))
    with torch.inference_mode():
        canonical, logits = model.canonicalize(x), model(x)
        for quarter in range(1, 4):
            turned = torch.rot90(x, quarter, (-2, -1))
            assert torch.equal(model.canonicalize(turned), canonical)
            assert torch.equal(model(turned).argmax(dim=1), logits.argmax(dim=1))
        model.policy = One()  # a gate weighs more answers than that of the canonical form
        assert torch.equal(model(x), model.prediction_network(canonical))
        assert torch.equal(model(torch.rot90(x, 1, (-2, -1))), model(x))


def test_the_readmes_python_snippet_goes_from_a_photo_to_logits(quickstart: Quickstart) -> None:
    artifact, photo = (
        quickstart.folder / "model.safetensors",
        next((quickstart.folder / "data" / "test").rglob("*.png")),
    )
    model, config = equicli.load(artifact), equicli.read_config(artifact)
    images = config.preprocess.normalization(config.preprocess(Image.open(photo).convert("RGB"))[None])
    assert model(images).shape == (1, 9)
    assert config.labels == {str(digit): digit for digit in range(9)}
    assert torch.equal(equicli.load(quickstart.folder / "run")(images), model(images))


def test_evaluate_and_export_use_the_latest_run_and_its_recorded_test_images(cli, here: Path) -> None:
    adapt(cli, here)
    assert (here / "runs" / "latest").resolve().parent == (here / "runs").resolve()
    evaluated = cli("evaluate", "--rotations", "4", "--json", cwd=here)
    piped = subprocess.run(
        [sys.executable, "-m", "json.tool"], input=evaluated.stdout, capture_output=True, text=True, check=False
    )
    assert piped.returncode == 0
    assert json.loads(evaluated.stdout)["split"] == "test"
    refused = cli("export", "--output", "model.pth", cwd=here)
    assert refused.returncode == 2 and "safetensors" in refused.stderr
    exported = cli("export", "--output", "model.safetensors", "--json", cwd=here)
    assert json.loads(exported.stdout)["path"] == "model.safetensors"
    again = cli("export", "--output", "model.safetensors", cwd=here)
    assert again.returncode == 2 and "--overwrite" in again.stderr
    from_file = cli("evaluate", "model.safetensors", "--data", "data", "--json", cwd=here)
    same = ("n", "vanilla", "adapted", "symmetrized", "oracle")
    assert [json.loads(from_file.stdout)[k] for k in same] == [json.loads(evaluated.stdout)[k] for k in same]


@pytest.mark.slow
def test_turning_files_of_unresized_squares_gives_the_same_counts_as_turning_tensors(cli, quickstart, few, tmp_path):
    evaluate = ("evaluate", quickstart.folder / "run", "--data", few / "data" / "test", "--json")
    documents = [
        json.loads(cli(*evaluate, "--rotate", how, "-o", tmp_path / how, cwd=tmp_path).stdout)
        for how in ("input", "file")
    ]
    assert [d["rotate"] for d in documents] == ["input", "file"]
    for system in ("vanilla", "adapted", "symmetrized", "oracle"):
        assert documents[0][system]["per_element"] == documents[1][system]["per_element"]


def test_an_existing_output_is_kept_unless_overwrite_is_given(cli, here: Path) -> None:
    adapt(cli, here, "--output", "mine")
    before = (here / "mine" / "model.safetensors").read_bytes()
    refused = cli("adapt", "data", *ADAPT, "--checkpoint", "network.safetensors", "-o", "mine", cwd=here)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    assert (here / "mine" / "model.safetensors").read_bytes() == before
    adapt(cli, here, "--output", "mine", "--overwrite", "--seed", "1")
    assert (here / "mine" / "model.safetensors").read_bytes() != before


def test_resolved_settings_are_a_recipe_that_repeats_the_run(cli, here: Path) -> None:
    adapt(cli, here, "--output", "first", "--set", "canonicalizer.width=8")
    settings = yaml.safe_load((here / "first" / "resolved.yaml").read_text())
    assert settings["canonicalizer"]["width"] == 8 and settings["training"]["epochs"] == 2
    again = cli("adapt", "--recipe", "first/resolved.yaml", "--output", "second", cwd=here)
    assert again.returncode == 0, again.stderr
    first, second = (load_file(here / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_json_leaves_nothing_else_on_stdout_and_quiet_nothing_on_stderr(cli, here: Path) -> None:
    result = adapt(cli, here, "--json", "--quiet")
    assert json.loads(result.stdout)["split"] == "validation"
    assert result.stderr == ""


def test_unlabelled_images_are_judged_by_agreement(cli, here: Path) -> None:
    flat = here / "pictures"
    flat.mkdir()
    for index, path in enumerate(sorted((here / "data" / "train").rglob("*.png"))[:100]):
        shutil.copy(path, flat / f"{index}.png")
    adapt(cli, here, "--output", "plain")  # labelled, for the same network
    arguments = ("--checkpoint", "network.safetensors", "--output", "unlabelled")
    result = cli("adapt", "pictures", *ADAPT, *arguments, cwd=here)
    assert result.returncode == 0, result.stderr
    metrics = json.loads(cli("evaluate", "unlabelled", "--json", cwd=here).stdout)
    assert metrics["labels"] == "agreement"
    assert metrics["vanilla"]["acc"] == 1.0 and metrics["n"] == 20


def test_a_flat_folder_is_split_once_and_evaluated_on_what_was_held_out(cli, here: Path) -> None:
    arguments = ("--checkpoint", "network.safetensors", "--output", "flat")
    result = cli("adapt", "data/train", *ADAPT, *arguments, cwd=here)
    assert result.returncode == 0, result.stderr
    split = json.loads((here / "flat" / "split.json").read_text())
    parts = [set(split[name]) for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(list((here / "data" / "train").rglob("*.png")))
    assert json.loads(cli("evaluate", "flat", "--json", cwd=here).stdout)["n"] == len(parts[2])


def test_a_head_is_fitted_where_outputs_and_folders_do_not_match(cli, here: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(here / "data" / part / "8")
        (here / "data" / part / "7").rename(here / "data" / part / "seven")  # else names are numbers of outputs
    result = adapt(cli, here, "--output", "fitted")
    assert "fitting a linear head" in result.stderr
    metrics = json.loads(cli("evaluate", "fitted", "--json", cwd=here).stdout)
    assert metrics["vanilla"]["acc"] > 0.9
    stored, original = load_file(here / "fitted" / "model.safetensors"), load_file(here / "network.safetensors")
    assert stored["prediction_network.fc.weight"].shape[0] == 8
    assert all(
        torch.equal(stored[f"prediction_network.{k}"], v) for k, v in original.items() if not k.startswith("fc.")
    )
    adapter = cli("export", "fitted", "--adapter-only", "-o", "adapter.safetensors", cwd=here)
    (call,) = re.findall(r"equicli\.load\(.*\)", adapter.stderr)  # as printed, it loads
    assert str(here / "network.safetensors") in call
    assert adapter.returncode == 0, adapter.stderr
    whole = equicli.load(here / "fitted" / "model.safetensors")
    part = equicli.load(here / "adapter.safetensors", checkpoint=here / "network.safetensors")
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(whole(x), part(x))


def test_own_code_is_asked_for_again_and_never_recorded(cli, here: Path) -> None:
    (here / "mynet.py").write_text(
        "import timm\ndef make(classes): return timm.create_model('test_resnet', num_classes=classes)\n"
    )
    own = ("--model", "python:mynet:make", "--model-arg", "classes=9")
    arguments = (
        "--mean",
        "0.5",
        "0.5",
        "0.5",
        "--std",
        "0.5",
        "0.5",
        "0.5",
        "--output",
        "own",
        "--set",
        "model_args={classes: 9}",
    )
    adapt(cli, here, *own, *arguments)
    header = (here / "own" / "config.json").read_text()
    assert "mynet" not in header
    for command in (("evaluate", "own"), ("export", "own", "-o", "own.safetensors")):
        refused = cli(*command, cwd=here)
        assert refused.returncode == 1 and "--model python:" in refused.stderr
        assert cli(*command, *own, cwd=here).returncode == 0


KILLED = """
import os, signal, sys
from equicli.cli import main
from equicli.training.loop import _Trainer

def die(trainer, images, whole=_Trainer.judge):
    if trainer.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(trainer, images)

_Trainer.judge = die
sys.argv[0] = "equicli"
main()
"""


def test_a_killed_run_resumes_to_the_same_weights(cli, run_code, here: Path) -> None:
    adapt(cli, here, "--output", "whole", "--epochs", "4")
    command = ["adapt", "data", *ADAPT, "--checkpoint", "network.safetensors", "--epochs", "4", "-o", "cut"]
    assert run_code(KILLED, *command, cwd=here).returncode == -signal.SIGKILL
    assert not (here / "cut" / "model.safetensors").exists()
    refused = cli("evaluate", "cut", cwd=here)
    assert refused.returncode == 2 and "--resume cut" in refused.stderr
    resumed = cli("adapt", "--resume", "cut", cwd=here)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after epoch 2 of 4" in resumed.stderr
    whole, cut = (load_file(here / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_no_image_file_is_opened_after_the_first_pass(here: Path, monkeypatch) -> None:
    from equicli.config import build_config
    from equicli.data.decode import Decoder
    from equicli.progress import Silent
    from equicli.runs import Run
    from equicli.training import adapt as training

    opened: list[Path] = []
    read = Decoder.read
    monkeypatch.setattr(Decoder, "read", lambda decoder, path: opened.append(path) or read(decoder, path))
    monkeypatch.chdir(here)
    # A gate would ask the network about validation images.
    flags = {"data": "data", "checkpoint": "network.safetensors", "epochs": 3, "policy": "one"}
    training.train_canonicalizer(build_config(flags, [], "quickstart"), Run(here / "run"), Silent())
    train = [sample.path for sample in open_folder(here / "data").train]
    first, rest = opened[0], opened[1:]  # one image is tried before all are read
    assert first in train and sorted(rest) == sorted(train)


@pytest.fixture
def path_of_commands(run_cli, tmp_path_factory) -> Iterator[str]:
    """A PATH on which `equicli` is one that runs in processes that start at once."""
    folder = tmp_path_factory.mktemp("bin")
    script = f"""#!{sys.executable} -S
import os, sys
from multiprocessing.connection import Client
with Client({str(folder / "socket")!r}) as server:
    server.send((os.getcwd(), sys.argv[1:]))
    code, out, err = server.recv()
sys.stdout.write(out), sys.stderr.write(err)
sys.exit(code)
"""
    (folder / "equicli").write_text(script)
    (folder / "equicli").chmod(0o755)

    def serve() -> None:
        while True:
            with listener.accept() as client:
                if (command := client.recv()) is None:
                    return
                done = run_cli(*command[1], cwd=command[0])
                client.send((done.returncode, done.stdout, done.stderr))

    with Listener(str(folder / "socket")) as listener:
        thread = Thread(target=serve)
        thread.start()
        yield f"{folder}:/usr/bin:/bin"
        with Client(str(folder / "socket")) as last:
            last.send(None)
        thread.join()


def test_the_shipped_shell_script_runs_the_whole_pipeline(here: Path, path_of_commands: str) -> None:
    script = Path(__file__).parents[2] / "recipes" / "pipeline.sh"
    arguments = ["run", "model.safetensors", "data/test", *ADAPT, "--checkpoint", "network.safetensors", "data"]
    environment = {"PATH": path_of_commands, "HOME": str(here)}
    done = subprocess.run(
        ["bash", script, *arguments], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "model.safetensors\nmodel.csv\n"
    assert len((here / "model.csv").read_text().splitlines()) == 1 + len(list((here / "data" / "test").rglob("*.png")))
    assert json.loads((here / "run" / "evaluation.json").read_text())["schema"] == 1
    assert equicli.load(here / "model.safetensors")(torch.zeros(1, 3, 32, 32)).shape == (1, 9)
    for words, said in (
        (["other", *arguments[1:]], "model.safetensors exists"),
        (["run", "b.safetensors", *arguments[2:]], "exists"),
    ):
        failed = subprocess.run(
            ["bash", script, *words], cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        assert failed.returncode == 2 and said in failed.stderr
    assert not (here / "other").exists() and "--overwrite" in failed.stderr
    poor = subprocess.run(
        ["bash", script, "poor", "poor.onnx", *arguments[2:]],
        cwd=here,
        env=environment | {"LEAST_AVG_ACC": "1.01"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert poor.returncode == 1 and "below 1.01; nothing is exported" in poor.stderr
    assert not (here / "poor.onnx").exists() and not (here / "poor.csv").exists()


@pytest.mark.slow
def test_the_shipped_shell_script_exports_a_gate_to_onnx(here: Path, path_of_commands: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    script = Path(__file__).parents[2] / "recipes" / "pipeline.sh"
    command = ["bash", script, "run", "model.onnx", "data/test", *ADAPT, "--checkpoint", "network.safetensors"]
    environment = {"PATH": path_of_commands, "HOME": str(here)}
    done = subprocess.run(
        [*command, "--passes", "1.5", "data"], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "model.onnx\nmodel.csv\n"
    asked = runtime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
    program = json.loads(asked.get_modelmeta().custom_metadata_map["equicli"])
    logits, *_ = asked.run(None, {"input": torch.zeros(5, 3, 32, 32).numpy()})
    assert logits.shape == (5, 9) and program["program"]["parity"]["turned_alike"]


@pytest.mark.parametrize(
    ("flags", "order"),
    [
        (("--canonicalizer", "equivariant", "--canonicalizer-size", "17", "--padding", "zeros", "--prior", "r90"), 4),
        pytest.param(("--group", "so2", "--canonicalizer-size", "17"), 8, marks=pytest.mark.slow),
        pytest.param(("--canonicalizer", "energy", "--group", "d4"), 8, marks=pytest.mark.slow),
    ],
    ids=["equivariant", "so2", "energy"],
)
def test_every_kind_goes_from_adapt_to_a_loaded_file(cli, fewer: Path, flags, order) -> None:
    here = fewer
    recipe = {"model": "test_resnet", "model_args": {"num_classes": 9}, "preprocess": "none", "epochs": 1}
    (here / "mine.yaml").write_text(yaml.safe_dump(recipe))
    arguments = ("--recipe", "mine.yaml", "--checkpoint", "network.safetensors", "-o", "out", *flags)
    adapted = cli("adapt", "data", *arguments, cwd=here)
    assert adapted.returncode == 0, adapted.stderr
    assert " equicli evaluate\n" in adapted.stderr
    evaluated = cli("evaluate", "out", "--json", cwd=here)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics, settings = json.loads(evaluated.stdout), yaml.safe_load((here / "out" / "resolved.yaml").read_text())
    assert len(metrics["adapted"]["per_element"]) == order
    assert metrics["prior"] == settings["prior"]
    exact = metrics["adapted"]["quarter_turns"]
    # A pose that is a matrix is a rounding off, and pictures that are turned by it are rounded to grey levels.
    assert exact["max_logit_delta"] < (2e-2 if "so2" in flags else 1e-3) or metrics["adapted"]["ties"] > 0
    if "energy" in flags:
        assert metrics["adapted"]["passes"] == 9 and metrics["cost"]["added_parameters"] == 0
    exported = cli("export", "out", "-o", "model.safetensors", cwd=here)
    assert exported.returncode == 0, exported.stderr
    model = equicli.load(here / "model.safetensors")
    assert model.padding == settings["padding"]
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 9)
    assert settings["canonicalizer"]["kind"] in (here / "out" / "README.md").read_text()


def test_a_distribution_in_a_file_is_a_prior_and_stays_in_the_report(cli, here: Path) -> None:
    (here / "shares.yaml").write_text("r0: 0.7\nr90: 0.3\n")
    result = adapt(cli, here, "--prior", "shares.yaml", "--output", "out", "--epochs", "1")
    assert "r0 70.0%, r90 30.0%" in result.stderr
    assert json.loads((here / "out" / "metrics.json").read_text())["prior"] == {"r0": 0.7, "r90": 0.3}
    assert "(prior 70.0 %)" in (here / "out" / "report.md").read_text()


def test_so2_is_not_evaluated_on_all_of_its_elements(cli, fewer: Path) -> None:
    (fewer / "mine.yaml").write_text("model: test_resnet\nmodel_args: {num_classes: 9}\npreprocess: none\nepochs: 1\n")
    small = ("--group", "so2", "--set", "canonicalizer={size: 17, width: 4}")
    arguments = ("--recipe", "mine.yaml", "--checkpoint", "network.safetensors", "-o", "out", *small)
    assert cli("adapt", "data", *arguments, cwd=fewer).returncode == 0
    refused = cli("evaluate", "out", "--elements", "group", cwd=fewer)
    assert refused.returncode == 2
    assert "--elements group: so2 has infinitely many elements; use --rotations" in refused.stderr
