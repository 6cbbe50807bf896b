"""Networks from the Hugging Face Hub, by the real client from a real server on this machine."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
from huggingface_hub import constants
from safetensors.torch import save

from equicli.cli import main
from equicli.errors import EquicliError, UsageError
from equicli.prediction.load import load_network
from equicli.prediction.short_names import SHORT_NAMES
from tests.hub_server import HubServer
from tests.prediction.tiny import pickled, repository, same, weights

TINY = "hf-hub:acme/tiny"
CONFIG = {"config.json": repository()["config.json"]}


@pytest.fixture
def no_waiting(monkeypatch) -> None:
    """The Hub's client waits for half a minute in all before it gives a server up."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def error_of(model: str, **options) -> str:
    """The message with which loading fails: one line."""
    with pytest.raises(EquicliError) as caught:
        load_network(model, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_repository_gives_its_weights_bit_for_bit_and_says_where_they_came_from(hub) -> None:
    files = repository()
    server = hub({"acme/tiny": {"main": {"README.md": b""}, "v1": files}})
    found = load_network(f"{TINY}@v1")
    assert same(found.network, weights())
    assert not found.network.training
    assert found.provenance == {
        "model": TINY,
        "repository": "acme/tiny",
        "revision": server.commit("acme/tiny", "v1"),
        "file": "model.safetensors",
        "sha256": hashlib.sha256(files["model.safetensors"]).hexdigest(),
    }


def test_a_branch_a_tag_and_a_commit_name_the_same_revision(hub) -> None:
    old, new = repository(), repository() | {"model.safetensors": save(weights(seed=1))}
    server = hub({"acme/tiny": {"main": new, "v1": old, "dev/old": old}})
    commit = server.commit("acme/tiny", "v1")
    for options in ({"revision": "v1"}, {"revision": "dev/old"}, {"revision": commit}):
        found = load_network(TINY, **options)
        assert same(found.network, weights()) and found.provenance["revision"] == commit
    assert same(load_network(f"{TINY}@{commit}").network, weights())
    assert same(load_network(TINY).network, weights(seed=1))


def test_weights_are_taken_from_the_commit_of_the_configuration(hub) -> None:
    server = hub({"acme/tiny": {"main": repository()}})
    load_network(TINY)
    commit = server.commit("acme/tiny", "main")
    assert f"HEAD /acme/tiny/resolve/{commit}/model.safetensors" in server.requests
    assert "HEAD /acme/tiny/resolve/main/model.safetensors" not in server.requests


@pytest.mark.slow
def test_a_cached_repository_loads_in_a_new_process_after_the_server_is_gone(hub, tmp_path: Path) -> None:
    server = hub({"acme/tiny": {"main": repository()}})
    found = load_network(TINY)
    server.close()
    script = (
        "import sys, safetensors.torch\n"
        "from equicli.prediction.load import load_network\n"
        f"found = load_network({TINY!r})\n"
        "safetensors.torch.save_file(found.network.state_dict(), sys.argv[1])\n"
        "print(found.provenance['revision'])"
    )
    environment = os.environ | server.environment(Path(constants.HF_HUB_CACHE)) | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, str(tmp_path / "out.safetensors")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == found.provenance["revision"]
    assert (tmp_path / "out.safetensors").read_bytes() == save(weights())


def test_pytorch_weights_are_read_where_there_is_no_safetensors_file(hub) -> None:
    content = pickled(weights())
    hub({"acme/tiny": {"main": CONFIG | {"pytorch_model.bin": content}}})
    found = load_network(TINY)
    assert same(found.network, weights())
    assert found.provenance["file"] == "pytorch_model.bin"
    assert found.provenance["sha256"] == hashlib.sha256(content).hexdigest()


def test_pytorch_weights_load_offline_once_cached(hub, monkeypatch) -> None:
    server = hub({"acme/tiny": {"main": CONFIG | {"pytorch_model.bin": pickled(weights())}}})
    load_network(TINY)
    server.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(load_network(TINY).network, weights())


@pytest.mark.parametrize("model", ["test_vit", "test_vit.r160_in1k"])
def test_a_name_from_the_registry_loads_the_repository_that_timm_names(hub, model: str) -> None:
    files = {"model.safetensors": save(weights("test_vit", 1000))}
    server = hub({"timm/test_vit.r160_in1k": {"main": files}})
    found = load_network(model)
    assert same(found.network, weights("test_vit", 1000))
    assert found.provenance["model"] == "test_vit.r160_in1k"
    assert found.provenance["repository"] == "timm/test_vit.r160_in1k"
    assert found.provenance["revision"] == server.commit("timm/test_vit.r160_in1k", "main")
    assert found.class_names is not None and found.class_names[0] == ("n01440764", "tench", "Tinca tinca")


@pytest.mark.parametrize(("short", "full"), SHORT_NAMES.items())
def test_a_short_name_stands_for_an_imagenet_classifier_on_the_hub(short: str, full: str) -> None:
    known = timm.get_pretrained_cfg(full)
    assert timm.is_model(full.partition(".")[0])
    assert f"{known.architecture}.{known.tag}" == full
    assert known.hf_hub_id == f"timm/{full}"
    assert known.num_classes == 1000


def test_a_short_name_asks_for_the_repository_of_its_full_name(hub) -> None:
    hub({})
    assert f"hf-hub:timm/{SHORT_NAMES['vit_base']}: no such repository" in error_of("vit_base")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("hf-hub:acme/gone", ["hf-hub:acme/gone", "no such repository", "HF_TOKEN"]),
        ("hf-hub:acme/secret", ["hf-hub:acme/secret", "private", "HF_TOKEN"]),
        ("hf-hub:acme/locked", ["hf-hub:acme/locked", "restricted", "Ask for access"]),
        ("hf-hub:acme/tiny@v9", ["hf-hub:acme/tiny@v9", "no such revision", "tag"]),
        ("hf-hub:acme/tiny@../../v1", ["hf-hub:acme/tiny", "no such revision"]),
        ("hf-hub:acme/empty", ["hf-hub:acme/empty", "config.json"]),
        ("hf-hub:acme/weightless", ["hf-hub:acme/weightless", "model.safetensors", "pytorch_model.bin"]),
        ("hf-hub:tiny/", ["hf-hub:tiny/", "owner/name"]),
        ("hf-hub:../tiny", ["hf-hub:../tiny", "owner/name"]),
        ("hf-hub:a/b/c", ["hf-hub:a/b/c", "owner/name"]),
        ("hf-hub:", ["owner/name"]),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_the_remedy(hub, model: str, words: list[str]) -> None:
    repositories = {f"acme/{name}": {"main": repository()} for name in ("tiny", "secret", "locked")}
    repositories |= {"acme/empty": {"main": {}}, "acme/weightless": {"main": CONFIG}}
    hub(repositories, private={"acme/secret"}, gated={"acme/locked"})
    message = error_of(model)
    for word in words:
        assert word in message


def test_a_missing_repository_is_one_line_of_the_command_and_no_traceback(hub, digits, monkeypatch, capsys) -> None:
    hub({})
    monkeypatch.setattr(sys, "argv", ["equicli", "adapt", "--quiet", "--model", "hf-hub:acme/gone", str(digits)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("equicli: hf-hub:acme/gone: ") and printed.err.count("\n") == 1


@pytest.mark.parametrize("name", ["acme/secret", "acme/locked"])
def test_a_token_opens_private_and_restricted_repositories(hub, monkeypatch, name: str) -> None:
    hub({name: {"main": repository()}}, private={"acme/secret"}, gated={"acme/locked"}, tokens={"hf_good"})
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    assert same(load_network(f"hf-hub:{name}").network, weights())


def test_a_wrong_token_is_said_to_be_wrong(hub, monkeypatch) -> None:
    hub({"acme/tiny": {"main": repository()}}, tokens={"hf_good"})
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    message = error_of(TINY)
    assert "hf-hub:acme/tiny" in message and "HF_TOKEN" in message
    assert "cannot be reached" not in message


@pytest.mark.parametrize("reason", ["down", "gone", "offline"])
def test_without_the_hub_and_a_cached_copy_a_local_file_is_the_remedy(hub, no_waiting, monkeypatch, reason) -> None:
    server: HubServer = hub({"acme/tiny": {"main": repository()}}, down=reason == "down")
    if reason == "gone":
        server.close()
    if reason == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = error_of(TINY)
    assert "hf-hub:acme/tiny" in message and "cannot be reached" in message and "--checkpoint" in message


def test_a_download_that_breaks_goes_on_where_it_broke(hub, no_waiting) -> None:
    server = hub({"acme/tiny": {"main": repository()}}, cuts=[20, 10_000, 20_000])
    assert same(load_network(TINY).network, weights())
    assert server.cuts == []


def test_a_download_that_keeps_breaking_is_one_line_and_leaves_nothing_half_loaded(hub, no_waiting) -> None:
    server = hub({"acme/tiny": {"main": repository()}}, cuts=[0] * 20)
    message = error_of(TINY)
    assert "hf-hub:acme/tiny" in message and "again" in message
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))
    server.cuts.clear()
    assert same(load_network(TINY).network, weights())


def test_a_revision_is_refused_where_nothing_comes_from_the_hub(tmp_path: Path) -> None:
    (tmp_path / "own.safetensors").write_bytes(save(weights(seed=1)))
    with pytest.raises(UsageError, match="--revision v1"):
        load_network("test_resnet", revision="v1", checkpoint=str(tmp_path / "own.safetensors"))


def test_what_the_server_says_of_a_repository_is_what_the_client_reads(hub) -> None:
    """The server itself, by the client's own interface."""
    from huggingface_hub import HfApi

    server = hub({"acme/tiny": {"main": repository()}})
    api = HfApi(endpoint=server.url)
    info = api.model_info("acme/tiny", revision="main")
    assert info.sha == server.commit("acme/tiny", "main")
    names = {"config.json", "model.safetensors"}
    assert {sibling.rfilename for sibling in info.siblings} == names
    assert {entry.path for entry in api.list_repo_tree("acme/tiny", revision=info.sha)} == names
