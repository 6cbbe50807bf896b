"""`export --push-to-hub`: what arrives on the Hub is whole, valid, and can be loaded and started from."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from huggingface_hub import errors as hub_errors

import equicli
from equicli.errors import EquicliError, UsageError
from tests.serving.conftest import *  # noqa: F403


@pytest.fixture
def pushed(cli, hub, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The Hub that a run was pushed to, and a folder with the run."""
    server = hub({}, tokens={"hf_writer"})
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    here = shutil.copytree(served, tmp_path / "here")
    done = cli("export", "run", "--push-to-hub", "acme/upright", "--private", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "equicli.load('acme/upright')" in done.stderr
    return server, here


def test_the_card_is_valid_and_files_are_whole(pushed) -> None:
    server, _ = pushed
    files = server.repositories["acme/upright"]["main"]
    assert set(files) == {"model.safetensors", "config.json", "README.md"}
    card = ModelCard(files["README.md"].decode())
    card.validate()
    assert card.data.library_name == "equicli" and card.data.pipeline_tag == "image-classification"
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {"acc", "avg_acc", "invariance_residual"}
    assert results["acc"].dataset_split == "validation" and 0 <= results["acc"].metric_value <= 1
    for heading in ("## Use", "## Limits", "## Provenance"):
        assert heading in card.text


def test_it_loads_by_its_name_and_training_pictures_are_not_told(pushed, tmp_path: Path) -> None:
    server, here = pushed
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(equicli.load("acme/upright")(x), equicli.load(here / "run")(x))
    assert equicli.read_config("acme/upright").group == "c4"
    assert b"training_pictures" not in server.repositories["acme/upright"]["main"]["model.safetensors"]


def test_a_canonicalizer_is_started_from_there(pushed, cli) -> None:
    from tests.serving.conftest import SMALL

    _, here = pushed
    network = SMALL[: SMALL.index("--epochs")]
    start = ("--start-from", "acme/upright", "--epochs", "0", "--output", "other")
    done = cli("adapt", "photos", *network, *start, cwd=here)
    assert done.returncode == 0, done.stderr
    a, b = equicli.read_config(here / "other"), equicli.read_config(here / "run")
    assert a.canonicalizer.source["name"].startswith("hf-hub:acme/upright@")
    assert a.policy.temperature == b.policy.temperature  # of an untouched canonicalizer


def test_the_licence_of_the_base_is_carried_over(hub, served: Path) -> None:
    from equicli.export.hub import licence_of

    hub({"acme/base": {"main": {"README.md": b"---\nlicense: apache-2.0\n---\n# base"}, "bare": {"README.md": b"# b"}}})
    assert licence_of({"repository": "acme/base"}) == "apache-2.0"
    for provenance, why in (
        ({"repository": "acme/base", "revision": "bare"}, "acme/base names none"),
        ({"repository": "acme/gone"}, "no such repository"),
        ({}, "of no repository"),
    ):
        with pytest.raises(EquicliError, match=why):
            licence_of(provenance)


def test_what_exists_is_written_only_when_asked_and_stays_as_public_as_it_is(pushed, cli) -> None:
    server, here = pushed
    again = ("export", "run", "--push-to-hub", "acme/upright")
    refused = cli(*again, cwd=here)
    assert refused.returncode == 2 and "add --overwrite" in refused.stderr
    refused = cli(*again, "--overwrite", "--private", cwd=here)
    assert refused.returncode == 2 and "is public already" in refused.stderr
    for left, overwrite in (({".gitattributes": b""}, ()), ({"README.md": b""}, ("--overwrite",))):
        server.repositories["acme/upright"]["main"] = left  # the first: by a push that failed
        done = cli(*again, *overwrite, cwd=here)
        assert done.returncode == 0 and "no licence of the base model" in done.stderr
        assert "model.safetensors" in server.repositories["acme/upright"]["main"]


@pytest.mark.parametrize(
    "change", [{"overrides": {"--data": "others"}}, {"precision": "bf16"}, {"reencode": "jpeg:75"}]
)
def test_a_card_tells_of_the_runs_own_metrics(served: Path, tmp_path: Path, change) -> None:
    from equicli.sharing import push_to_hub

    run = shutil.copytree(served / "run", tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | change))
    with pytest.raises(UsageError, match="run `equicli evaluate"):
        push_to_hub(str(run), "acme/upright", private=False)


@pytest.mark.parametrize("error", [hub_errors.OfflineModeIsEnabled("offline"), hub_errors.HTTPError("no route")])
def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, error) -> None:
    from equicli.export.hub import push

    def fail(*arguments, **options) -> None:
        raise error

    monkeypatch.setattr(HfApi, "create_repo", fail)
    with pytest.raises(EquicliError, match="cannot be reached") as caught:
        push("acme/upright", {}, private=False, overwrite=False)
    assert len(str(caught.value).splitlines()) == 1


def test_refusals_are_one_line(cli, hub, served: Path, tmp_path: Path, monkeypatch) -> None:
    here = shutil.copytree(served, tmp_path / "here")
    hub({}, tokens={"hf_writer"})
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    for arguments, code, message in (
        (("run", "--push-to-hub", "acme/upright"), 1, "HF_TOKEN must be a token"),
        (("run", "--push-to-hub", "upright"), 2, "owner/name"),
        (("run", "--push-to-hub", "acme/upright", "--format", "onnx"), 2, "--format: --push-to-hub"),
        (("run", "--push-to-hub", "acme/upright", "--no-hashes"), 2, "--no-hashes: --push-to-hub"),
    ):
        done = cli("export", *arguments, cwd=here)
        assert done.returncode == code and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
