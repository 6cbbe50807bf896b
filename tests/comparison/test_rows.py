"""Rows of the table, from counts."""

import pytest
import torch

from equicli.comparison.count import Counted
from equicli.comparison.rows import rows_of


def counted(system, share, *settings, seed=0, n=1000, **numbers):
    """A run that was right about the first images."""
    hits = (torch.arange(n) < round(share * n))[:, None].expand(-1, 4)
    return Counted(system, settings, seed, hits, {"avg_acc": share, **numbers}, {"acc_ci": (0.1, 0.9)}, {})


def rows(*runs, reference="vanilla"):
    return {(row["system"], *row["settings"]): row for row in rows_of(runs, reference)}


def test_a_row_has_mean_and_spread_over_its_seeds_and_the_order_is_the_tables():
    runs = [counted("equiadapt", share, seed=seed, mmd=None) for seed, share in enumerate((0.6, 0.7, 0.8))]
    found = rows(*runs, counted("oracle", 0.9), counted("vanilla", 0.5))
    assert list(found) == [("vanilla",), ("oracle",), ("equiadapt",)]
    row = found["equiadapt",]
    assert row["seeds"] == [0, 1, 2] and set(row["mean"]) == set(row["std"]) == {"avg_acc", "mmd"}
    assert row["mean"]["avg_acc"] == pytest.approx(0.7) and row["std"]["avg_acc"] == pytest.approx(0.1)
    assert row["mean"]["mmd"] is None and row["std"]["mmd"] is None
    assert found["vanilla",]["std"]["avg_acc"] is None
    assert row["runs"][0]["acc_ci"] == (0.1, 0.9)  # as the task measured it
    assert [run["correct"] for run in row["runs"]] == [[600] * 4, [700] * 4, [800] * 4]


def test_all_are_compared_with_the_reference_whichever_is_best():
    systems = counted("vanilla", 0.5), counted("oracle", 0.9), counted("energy", 0.8), counted("frame", 0.75)
    found = rows(*systems, reference="energy")
    assert [name for (name,), row in found.items() if row["to_reference"] is None] == ["energy"]
    assert found["oracle",]["to_reference"]["value"] == pytest.approx(0.1)
    assert "best" not in found["oracle",]
    gap = found["frame",]["to_reference"]
    assert gap["value"] == pytest.approx(-0.05)
    # 50 of 1,000 images tell them apart, and pairing leaves out the rest.
    assert gap["low"] == pytest.approx(-0.05 - 1.96 * 50**0.5 / 1000, abs=0.003)
    assert gap["high"] == pytest.approx(-0.05 + 1.96 * 50**0.5 / 1000, abs=0.003)


def test_seeds_that_vary_widen_the_interval():
    fixed = counted("vanilla", 0.8)
    alike = rows(fixed, *(counted("equiadapt", 0.7, seed=seed) for seed in range(3)))["equiadapt",]["to_reference"]
    apart = [counted("equiadapt", share, seed=seed) for seed, share in enumerate((0.6, 0.7, 0.8))]
    wide = rows(fixed, *apart)["equiadapt",]["to_reference"]
    assert wide["value"] == pytest.approx(-0.1) == alike["value"]
    assert alike["high"] - alike["low"] == pytest.approx(2 * 1.96 * (0.1 * 0.9 / 1000) ** 0.5, rel=0.1)
    # Three seeds are two degrees of freedom, whose t quantile is 4.3.
    assert wide["high"] - wide["low"] == pytest.approx(2 * 4.30 * 0.1 / 3**0.5, rel=0.1)


def test_every_value_of_a_sweep_is_compared_with_the_same_reference():
    found = rows(counted("vanilla", 0.5), *(counted("equiadapt", s, f"epochs={e}") for e, s in ((1, 0.6), (2, 0.7))))
    assert list(found) == [("vanilla",), ("equiadapt", "epochs=1"), ("equiadapt", "epochs=2")]
    gaps = [row["to_reference"] for row in found.values()]
    assert gaps[0] is None and [gap["value"] for gap in gaps[1:]] == pytest.approx([0.1, 0.2])


def test_a_number_that_only_some_systems_have_is_none_for_the_others():
    found = rows(counted("vanilla", 0.5), counted("equiadapt", 0.6, identity_rate=0.9))
    assert found["vanilla",]["mean"]["identity_rate"] is None
    assert found["equiadapt",]["mean"]["identity_rate"] == 0.9


def test_scores_that_are_no_counts_have_no_correct_ones():
    scores = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    runs = [
        Counted(name, (), 0, scores * share, {"avg_iou": share / 2}, {}, {})
        for name, share in (("vanilla", 0.5), ("energy", 1))
    ]
    worse, better = rows_of(runs, "vanilla")
    assert worse["to_reference"] is None
    assert better["to_reference"]["value"] == pytest.approx(float(scores.mean()) / 2, abs=1e-6)
    (run,) = better["runs"]
    assert "correct" not in run
