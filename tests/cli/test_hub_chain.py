"""adapt → evaluate → export of networks from a Hub on this machine, with it and without; one line where they fail."""

import json
import time
from functools import cache
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from PIL import Image

import equicli
from tests.cli.test_errors import check
from tests.hub_server import Files, HubServer, digest
from tests.prediction import test_transformers_source as theirs
from tests.prediction import tiny
from tests.prediction.test_hostile import Touch

FEW = ("--group", "c4", "--image-size", "32", "--canonicalizer-size", "16", "--epochs", "1", "--seed", "3", "data")
ADAPTER = "adapter.safetensors"
SYSTEMS = ("vanilla", "adapted", "symmetrized", "oracle")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with pictures of two classes."""
    folder, generator = tmp_path / "here", torch.Generator().manual_seed(0)
    for split, count in (("train", 4), ("test", 2)):
        for name in ("gadget", "widget"):
            (folder / "data" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
                Image.fromarray(pixels).resize((32, 32)).save(folder / "data" / split / name / f"{i}.png")
    return folder


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's client waits for half a minute in all before it gives a server up."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@cache
def repositories() -> dict[str, Files]:
    """Good ones and bad ones, by name; code in them would make a folder `sprung`."""
    timms, transformers = tiny.repository("test_vit", 2), theirs.repository()
    bare, their_bare = ({"config.json": files["config.json"]} for files in (timms, transformers))
    evil = {"pytorch_model.bin": tiny.pickled({"head.weight": Touch(Path("sprung"))})}
    own_code = {"auto_map": {"AutoModelForImageClassification": "mine.Mine"}, "architectures": ["Mine"]}
    return {
        **dict.fromkeys(("tiny-vit", "secret", "locked"), timms),
        "tiny": transformers,
        "empty": {"README.md": b""},
        "weightless": bare,
        "their-weightless": their_bare,
        "evil": bare | evil,
        "their-evil": their_bare | evil,
        "wider": tiny.repository("test_vit", 2, model_args={"embed_dim": 96}),
        "their-wider": theirs.repository(hidden_size=32),
        "named": tiny.repository("test_vit", 2, label_names=["tench", "goldfish"]),
        "headless-vit": tiny.repository("test_vit", 0),
        "headless-resnet": tiny.repository("test_resnet", 0),
        "bert": theirs.repository(architectures=["BertForSequenceClassification"], model_type="bert"),
        "backbone": theirs.written("ViT", "Model"),
        "remote": theirs.repository(**own_code, model_type="mine") | {"mine.py": b"import os; os.mkdir('sprung')"},
    }


@pytest.fixture
def all_of_them(hub) -> HubServer:
    served = {f"acme/{name}": {"main": files} for name, files in repositories().items()}
    return hub(served, private={"acme/secret"}, gated={"acme/locked"}, tokens={"hf_good"})


def refused(cli, here: Path, code: int, words: list[str], *arguments: str) -> None:
    """`adapt` ends in one line with these words, and leaves nothing."""
    result = cli("adapt", *arguments, *FEW, cwd=here)
    check(result, code, *words)
    assert result.stdout == "" and [path.name for path in here.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("model", "name", "source"),
    [
        ("hf-hub:acme/tiny-vit@v1", "tiny-vit", "hf-hub"),
        pytest.param("acme/tiny", "tiny", "transformers", marks=pytest.mark.slow),
    ],
    ids=["timm", "transformers"],
)
def test_the_chain_starts_from_the_hub_and_without_it_gives_the_same_bits_again(
    cli, hub, here: Path, monkeypatch, model: str, name: str, source: str
) -> None:
    files = repositories()[name]

    def run(*command: str) -> str:
        done = cli(*command, cwd=here)
        assert done.returncode == 0, done.stderr
        return done.stdout

    server = hub({f"acme/{name}": {"main": files, "v1": files}})
    run("adapt", "--model", model, *FEW, "-o", "first")
    server.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    run("evaluate", "--rotations", "4")
    run("export", "--adapter-only", "-o", ADAPTER)
    run("adapt", "--model", model, *FEW, "-o", "again")
    evaluated = run("evaluate", ADAPTER, "--data", "data", "--json")

    first, again = (here / folder / "model.safetensors" for folder in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()
    documents = json.loads(evaluated), json.loads((here / "first" / "metrics.json").read_text())
    assert documents[0]["n"] == 4 and all(documents[0][key] == documents[1][key] for key in SYSTEMS)
    provenance = dict(equicli.read_config(here / ADAPTER).provenance)
    assert len(provenance.pop("state_sha256")) == 64
    assert provenance == {
        "model": f"{source}:acme/{name}",
        "repository": f"acme/{name}",
        "revision": server.commit(f"acme/{name}", "v1"),
        "file": "model.safetensors",
        "sha256": digest(files["model.safetensors"]),
    }
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(equicli.load(here / ADAPTER)(x), equicli.load(first)(x))


def test_a_connection_that_breaks_in_mid_file_is_taken_up_again(cli, hub, here: Path, no_waiting) -> None:
    files = repositories()["tiny-vit"]
    server = hub({"acme/tiny-vit": {"main": files}}, cuts=[20, 10_000, 10_000, 500_000])
    result = cli("adapt", "--model", "acme/tiny-vit", *FEW, cwd=here)
    assert result.returncode == 0, result.stderr
    sha256 = digest(files["model.safetensors"])
    assert server.cuts == [] and server.requests.count(f"GET /blobs/{sha256}") == 3
    assert equicli.read_config(here / "runs" / "latest" / "model.safetensors").provenance["sha256"] == sha256


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("hf-hub:acme/gone", ["hf-hub:acme/gone: no such repository", "Check the name"]),
        ("acme/gone", ["acme/gone: no such repository", "Check the name"]),
        ("hf-hub:acme/secret", ["hf-hub:acme/secret: ", "private", "set HF_TOKEN"]),
        ("acme/locked", ["acme/locked: access to it is restricted", "Ask for access", "set HF_TOKEN"]),
        ("hf-hub:acme/tiny-vit@v9", ["hf-hub:acme/tiny-vit@v9: no such revision", "Name a branch, tag or commit"]),
        ("acme/tiny@v9", ["acme/tiny@v9: no such revision", "Name a branch, tag or commit"]),
        ("acme/empty", ["acme/empty: ", "config.json"]),
        ("acme/weightless", ["hf-hub:acme/weightless", "model.safetensors or pytorch_model.bin", "--checkpoint"]),
        ("acme/their-weightless", ["acme/their-weightless", "model.safetensors or pytorch_model.bin", "--checkpoint"]),
        ("acme/evil", ["acme/evil, pytorch_model.bin: ", "never run", "save the weights alone"]),
        ("acme/their-evil", ["acme/their-evil, pytorch_model.bin: ", "never run", "as safetensors"]),
        ("acme/wider", ["79 of another shape (cls_token: (1, 1, 64) in the file, (1, 1, 96)", "Check --model"]),
        ("acme/their-wider", [" of another shape (vit.embeddings.cls_token: (1, 1, 16) in the file", "--model-arg"]),
        ("acme/headless-vit", ["acme/headless-vit: not a classifier", "Name a checkpoint"]),
        ("acme/headless-resnet", ["acme/headless-resnet: not a classifier", "Name a checkpoint"]),
        (
            "acme/bert",
            ["BertForSequenceClassification", "no network that equicli", "ends in ForImageClassification"],
        ),
        ("acme/backbone", ["ViTModel", "no network that equicli can load", "Name a checkpoint"]),
        ("acme/remote", ["auto_map", "code from a repository is never run", "--model python:module:factory"]),
    ],
)
def test_what_cannot_be_loaded_is_one_line_with_the_remedy(cli, all_of_them, here: Path, model: str, words) -> None:
    refused(cli, here, 1, words, "--model", model)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("acme/tiny", ["4 outputs, the data 2 class folders", "--head none", "--head auto"]),
        ("acme/named", ["not classes of the checkpoint (2 outputs)", "name folders", "--head auto"]),
    ],
)
def test_classes_that_do_not_fit_are_refused_where_no_head_may_be_fitted(cli, all_of_them, here, model, words) -> None:
    refused(cli, here, 2, words, "--model", model, "--head", "none")


def test_a_wrong_token_is_said_to_be_wrong(cli, all_of_them, here: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    for model in ("hf-hub:acme/secret", "acme/tiny"):
        refused(cli, here, 1, [f"{model}: the Hub does not know your token", "Renew HF_TOKEN"], "--model", model)


@pytest.mark.parametrize("why", ["offline", "gone", "down"])
def test_without_the_hub_and_a_cached_copy_one_line_says_so(
    cli, all_of_them: HubServer, here: Path, no_waiting, monkeypatch, why: str
) -> None:
    if why == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif why == "gone":
        all_of_them.close()
    all_of_them.down = why == "down"
    for model in ("hf-hub:acme/tiny-vit", "acme/tiny"):
        refused(cli, here, 1, [f"{model}: not in the local cache", "Connect once"], "--model", model)
