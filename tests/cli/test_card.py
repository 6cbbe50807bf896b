"""The commands of the user's card, typed as they are, with a Hub on this machine that has ViT-B/16."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save

import equicli
from equicli.prediction.short_names import SHORT_NAMES
from tests.hub_server import HubServer

CARD = """
set -e
equicli adapt --model vit_base --group c8 data/
equicli evaluate --rotations 4
"""


@pytest.fixture
def here() -> Iterator[Path]:
    """A working directory with photos of two classes, gone afterwards: ViT-B/16 fills a disk soon."""
    with TemporaryDirectory() as name:
        folder, generator = Path(name), torch.Generator().manual_seed(0)
        for split, count in (("train", 10), ("test", 4)):
            for kind in ("gadget", "widget"):
                (folder / "data" / split / kind).mkdir(parents=True)
                for i in range(count):
                    pixels = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
                    Image.fromarray(pixels).resize((256, 256)).save(folder / "data" / split / kind / f"{i}.jpg")
        yield folder


@pytest.mark.slow
def test_the_users_card_leaves_an_artifact_and_a_c4_averaged_report(here: Path) -> None:
    full = SHORT_NAMES["vit_base"]
    torch.manual_seed(0)
    weights = save(timm.create_model(full.partition(".")[0]).state_dict())
    with HubServer({f"timm/{full}": {"main": {"model.safetensors": weights}}}) as server:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | server.environment(here / "cache") | {"PATH": path}
        done = subprocess.run(
            ["bash", "-c", CARD], cwd=here, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    run = here / "runs" / "latest"
    config = equicli.read_config(run / "model.safetensors")
    assert config.group == "c8" and config.labels == {"gadget": 0, "widget": 1}
    assert config.provenance["model"] == full and config.provenance["repository"] == f"timm/{full}"
    assert config.provenance["revision"] == server.commit(f"timm/{full}", "main")
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["group"], metrics["elements"], metrics["split"], metrics["n"]) == ("c8", "c4", "test", 8)
    for system in ("vanilla", "adapted", "symmetrized", "oracle"):
        counts = [entry["correct"] for entry in metrics[system]["per_element"]]
        assert len(counts) == 4 and metrics[system]["avg_acc"] == pytest.approx(sum(counts) / 32)
    assert "C4-Avg Acc" in (run / "report.md").read_text() and "C4-Avg Acc" in done.stdout
