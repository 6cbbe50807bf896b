"""Accuracy against time, as people read it."""

import torch

from equicli.evaluation.curve import PLAIN, Ways, curve_of
from equicli.policy import ONE, Gate
from equicli.reports.curve import figure, is_drawn
from equicli.reports.markdown import report
from tests.reports.test_reports import cells, metrics


def drawn(policy=ONE, **options):
    made = metrics(**options)
    certainty = torch.linspace(0.3, 0.99, 40, dtype=torch.float64)[:, None]
    scores = dict.fromkeys(("one", "gated", "mean", "energy", "symmetrized"), certainty > 0.5)
    gate = policy if isinstance(policy, Gate) else PLAIN
    ways = Ways(policy, gate, 4, {way: values.double() for way, values in scores.items()}, certainty)
    return made | {"curve": curve_of(ways, "acc", 0.1)}


def section(made):
    return report(made).partition("## Accuracy against time")[2].partition("## What is what")[0]


def test_the_report_has_a_row_for_each_way_and_says_what_was_fitted():
    text = section(drawn(Gate(0.6, 3)))
    rows = [cells(line) for line in text.splitlines() if line.startswith("| ")]
    assert rows[0][1:] == ["asks again below", "passes", "time", "C4-Avg Acc"]
    assert {row[0] for row in rows[2:]} == {"one", "gate", "**gate**", "mean", "energy", "symmetrized"}
    assert [row[1:4] for row in rows if row[0] == "**gate**"] == [["**60 %**", "**1.85**", "**1.95**"]]
    assert "chose nothing; the bold one was fitted on validation images" in text and "](curve.png)" in text


def test_of_validation_images_it_says_that_they_chose_the_gate_and_draws_nothing():
    made = drawn(Gate(0.6, 3), split="validation")
    assert "its rows flatter" in section(made) and "curve.png" not in section(made) and not is_drawn(made)


def test_where_there_is_nothing_to_choose_between_nothing_is_said():
    assert not section(metrics()) and not is_drawn(metrics())


def test_the_figure_is_a_png_whatever_the_policy():
    made = drawn()
    assert is_drawn(made) and figure(made).startswith(b"\x89PNG")
