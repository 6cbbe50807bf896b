"""A gated model through `evaluate`: the same at every turn by 90°, and a point on its own curve."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import equicli
from equicli.artifact import write_artifact
from equicli.canonicalization.canonicalizer import posterior
from equicli.policy import Gate
from tests.training.small_runs import VIEWS, run_adapt


@pytest.mark.parametrize(
    ("group", "changes"), [("c4", {}), *((g, {"canonicalizer": VIEWS}) for g in ("c4", "d4", "c8"))]
)
def test_pictures_are_counted_alike_at_every_turn_by_90_degrees(group, changes, cli, workplace: Path) -> None:
    run, made = run_adapt("out", group=group, epochs=1, split={"test_fraction": 0.6}, **changes)
    pictures = [workplace / "photos" / name for name in run.read_split()["test"]]
    p, _ = posterior(made.model.predict(pictures).pose.scores)
    gate = Gate(float(p[:, 0].median()) + 1e-4, 3, 1.0, 0.5)
    made.model.policy = gate
    write_artifact(run.model, made.model, replace(made.config, policy=gate))

    evaluated = cli("evaluate", "out", "--json", cwd=workplace)
    assert evaluated.returncode == 0, evaluated.stderr
    metrics = json.loads(evaluated.stdout)
    adapted = metrics["adapted"]
    assert 1 < adapted["passes"] < 3 and adapted["ties"] == 0
    exact = adapted if group != "c8" else adapted["quarter_turns"]
    assert (exact["invariance_residual"], exact["max_logit_delta"]) == (0, 0)
    counts = {e["element"]: e["correct"] for e in adapted["per_element"]}
    for orbit in [counts] if group != "c8" else [dict([*counts.items()][start::2]) for start in (0, 1)]:
        assert len(set(orbit.values())) == 1

    assert "likeliest poses" in cli("inspect", "out", cwd=workplace).stdout
    exported = cli("export", "out", "-o", "model.safetensors", cwd=workplace)
    assert exported.returncode == 0 and equicli.load(workplace / "model.safetensors").policy == gate

    points = {point["way"]: point for point in metrics["curve"]["points"] if point["way"] != "gate" or point["own"]}
    for system, way in (("adapted", "gate"), ("symmetrized", "symmetrized")):
        for number in ("avg_acc", "passes"):
            assert points[way][number] == pytest.approx(metrics[system][number])
    assert "## Accuracy against time" in (run.folder / "report.md").read_text()
    assert (run.folder / "curve.png").read_bytes().startswith(b"\x89PNG")
