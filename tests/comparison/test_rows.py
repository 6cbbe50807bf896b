"""Rows of the table, from counts."""

import pytest
import torch

from equicli.comparison.count import Counted
from equicli.comparison.rows import rows_of
from equicli.tasks.intervals import bootstrap, wilson


def counted(system, share, *settings, seed=0, n=1000, **numbers):
    """A run that was right about the first images."""
    hits = (torch.arange(n) < round(share * n))[:, None].expand(-1, 4)
    return Counted(system, settings, seed, hits, {"avg_acc": share, **numbers}, {})


def rows(*runs):
    return {(row["system"], *row["settings"]): row for row in rows_of(runs, "acc")}


def test_a_row_has_mean_and_spread_over_its_seeds_and_the_order_is_the_tables():
    runs = [counted("equiadapt", share, seed=seed, mmd=None) for seed, share in enumerate((0.6, 0.7, 0.8))]
    found = rows(*runs, counted("oracle", 0.9), counted("vanilla", 0.5))
    assert list(found) == [("vanilla",), ("oracle",), ("equiadapt",)]
    row = found["equiadapt",]
    assert row["seeds"] == [0, 1, 2] and set(row["mean"]) == set(row["std"]) == {"avg_acc", "mmd"}
    assert row["mean"]["avg_acc"] == pytest.approx(0.7) and row["std"]["avg_acc"] == pytest.approx(0.1)
    assert row["mean"]["mmd"] is None and row["std"]["mmd"] is None
    assert found["vanilla",]["std"]["avg_acc"] is None
    assert row["runs"][0]["acc_ci"] == wilson(600, 1000)
    assert row["runs"][0]["avg_acc_ci"] == pytest.approx(row["runs"][0]["acc_ci"], abs=0.01)
    assert [run["correct"] for run in row["runs"]] == [[600] * 4, [700] * 4, [800] * 4]


def test_others_are_compared_with_the_best_system_which_the_oracle_is_not():
    found = rows(counted("vanilla", 0.5), counted("oracle", 0.9), counted("energy", 0.8), counted("frame", 0.75))
    assert [name for (name,), row in found.items() if row["best"]] == ["energy"]
    assert found["energy",]["to_best"] is None and found["oracle",]["to_best"] is None
    gap = found["frame",]["to_best"]
    assert gap["value"] == pytest.approx(-0.05)
    # 50 of 1,000 images tell them apart, and pairing leaves out the rest.
    assert gap["low"] == pytest.approx(-0.05 - 1.96 * 50**0.5 / 1000, abs=0.003)
    assert gap["high"] == pytest.approx(-0.05 + 1.96 * 50**0.5 / 1000, abs=0.003)


def test_seeds_that_vary_widen_the_interval():
    fixed = counted("energy", 0.8)
    alike = rows(fixed, *(counted("equiadapt", 0.7, seed=seed) for seed in range(3)))["equiadapt",]["to_best"]
    apart = [counted("equiadapt", share, seed=seed) for seed, share in enumerate((0.6, 0.7, 0.8))]
    wide = rows(fixed, *apart)["equiadapt",]["to_best"]
    assert wide["value"] == pytest.approx(-0.1) == alike["value"]
    assert alike["high"] - alike["low"] == pytest.approx(2 * 1.96 * (0.1 * 0.9 / 1000) ** 0.5, rel=0.1)
    # Of three seeds resampling shows √(2/3) of their standard deviation, 0.1 / √3 of a mean.
    assert wide["high"] - wide["low"] == pytest.approx(2 * 1.96 * 0.1 * (2 / 9) ** 0.5, rel=0.15)


def test_the_best_of_swept_values_is_not_chosen_by_the_test_images():
    found = rows(counted("vanilla", 0.5), *(counted("equiadapt", s, f"epochs={e}") for e, s in ((1, 0.6), (2, 0.7))))
    assert list(found) == [("vanilla",), ("equiadapt", "epochs=1"), ("equiadapt", "epochs=2")]
    assert not any(row["best"] or row["to_best"] for row in found.values())


def test_a_number_that_only_some_systems_have_is_none_for_the_others():
    found = rows(counted("vanilla", 0.5), counted("equiadapt", 0.6, identity_rate=0.9))
    assert found["vanilla",]["mean"]["identity_rate"] is None
    assert found["equiadapt",]["mean"]["identity_rate"] == 0.9


def test_scores_that_are_no_counts_have_the_intervals_of_resampled_images_and_no_correct_ones():
    scores = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    runs = [
        Counted(name, (), 0, scores * share, {"avg_iou": share / 2}, {})
        for name, share in (("vanilla", 0.5), ("energy", 1))
    ]
    worse, better = rows_of(runs, "iou")
    assert better["best"] and worse["to_best"]["value"] == pytest.approx(-float(scores.mean()) / 2, abs=1e-6)
    (run,) = better["runs"]
    assert "correct" not in run
    assert run["iou_ci"] == bootstrap(scores[:, :1].numpy()) and run["avg_iou_ci"] == bootstrap(scores.numpy())
