"""`--checkpoint hf-hub:owner/name[@revision]/file`: weights from the Hub for a network that is not described there."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision.models as zoo
from safetensors.torch import save

import equicli
from equicli import artifact
from equicli.config import build_config
from equicli.errors import EquicliError, UsageError
from equicli.prediction.load import load_network
from equicli.progress import Silent
from equicli.runs import Run
from equicli.training.adapt import train_canonicalizer
from tests.prediction.test_zero_shot import picture_folder
from tests.prediction.tiny import pickled, same

MODEL, CLASSES = "torchvision:squeezenet1_1", ("cat", "dog")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return zoo.squeezenet1_1(num_classes=len(CLASSES)).state_dict()


def load(checkpoint: str):
    return load_network(MODEL, checkpoint=checkpoint, arguments={"num_classes": len(CLASSES)})


@pytest.mark.parametrize("file", ["squeeze.safetensors", "weights/v2/squeeze.pth"])
def test_a_file_of_a_repository_is_fetched_and_recorded_by_its_commit(hub, state, file: str) -> None:
    content = save(state) if file.endswith("safetensors") else pickled(state)
    server = hub({"acme/weights": {"main": {"README.md": b""}, "v1": {file: content}}})
    found = load(f"hf-hub:acme/weights@v1/{file}")
    assert same(found.network, state)
    commit = server.commit("acme/weights", "v1")
    assert found.provenance == {
        "model": MODEL,
        "checkpoint": f"hf-hub:acme/weights@{commit}/{file}",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_an_adapter_fetches_the_same_commit_again(hub, state, tmp_path: Path) -> None:
    server = hub({"acme/weights": {"v1": {"squeeze.safetensors": save(state)}}})
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    flags = {"data": str(picture_folder(tmp_path / "data", CLASSES)), "model": MODEL, "group": "c4"}
    flags |= {"checkpoint": "hf-hub:acme/weights@v1/squeeze.safetensors", "model_args.num_classes": len(CLASSES)}
    few = ["epochs=1", "preprocess=none", "canonicalizer={size: 16, width: 4}"]
    adapted = train_canonicalizer(build_config(flags, few, None), run, Silent())
    path = tmp_path / "adapter.safetensors"
    artifact.write_artifact(path, adapted.model, adapted.config, adapter_only=True)
    loaded, x = equicli.load(path), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(x), equicli.load(run.folder)(x))
    assert same(loaded.prediction_network, state)

    other = {key: value + 1 for key, value in state.items()}
    server.repositories = {"acme/weights": {"v1": {"squeeze.safetensors": save(other)}}}
    with pytest.raises(EquicliError, match="the weights that it was adapted to"):
        equicli.load(path, checkpoint="hf-hub:acme/weights@v1/squeeze.safetensors")


@pytest.mark.parametrize(
    ("checkpoint", "kind", "message"),
    [
        ("hf-hub:acme/weights", UsageError, "hf-hub:owner/name[@revision]/file"),
        ("hf-hub:acme", UsageError, "hf-hub:owner/name[@revision]/file"),
        ("hf-hub:acme/weights/../../outside.pth", UsageError, "hf-hub:owner/name[@revision]/file"),
        ("hf-hub:acme/weights/other.pth", EquicliError, "other.pth"),
        ("hf-hub:acme/nothing/squeeze.pth", EquicliError, "no such repository"),
        ("hf-hub:acme/weights@v9/squeeze.pth", EquicliError, "no such revision"),
        ("hf-hub:acme/weights@../../x/squeeze.pth", EquicliError, "acme/weights"),
        ("nowhere.pth", UsageError, "no such file"),
    ],
)
def test_what_cannot_be_had_is_one_clear_line(hub, state, checkpoint: str, kind: type, message: str) -> None:
    hub({"acme/weights": {"main": {"squeeze.pth": pickled(state)}}})
    with pytest.raises(kind) as refused:
        load(checkpoint)
    assert message in str(refused.value) and "\n" not in str(refused.value)
