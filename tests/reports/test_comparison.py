"""The table of a comparison, from a document."""

import pytest

from equicli.reports import comparison

NUMBERS = (
    "acc avg_acc worst_acc top5_acc avg_top5_acc ece avg_ece invariance_residual identity_rate total_variation "
    "wasserstein mmd trainable_parameters added_parameters training_seconds passes relative_cost "
    "relative_cost_low relative_cost_high relative_flops"
).split()
KNOWN = {"acc": 0.9, "avg_acc": 0.8, "avg_top5_acc": 1.0, "added_parameters": 7}


def row(system, *settings, std=None, **mean):
    return {
        "system": system,
        "settings": list(settings),
        "title": f"Cn-{system} & λ_1",
        "seeds": [0],
        "mean": {
            **dict.fromkeys(NUMBERS),
            "acc": 0.9,
            "avg_acc": 0.8,
            "avg_top5_acc": 1.0,
            "added_parameters": 7,
            **mean,
        },
        "std": {**dict.fromkeys(NUMBERS), "avg_acc": std},
        "runs": [],
        "to_reference": None if system == "energy" else {"value": -0.1, "low": -0.2, "high": 0.05},
    }


def document(*systems, curves=()):
    shared = {
        "model": "m",
        "data": "d",
        "score": {"name": "acc", "title": "Acc", "words": "accuracy"},
        "columns": [["avg top-5", "avg_top5_acc"], ["avg ECE", "avg_ece"]],
        "group": "c4",
        "elements": "c4",
        "rotations": 4,
        "reencode": "none",
        "labels": "folders",
        "n": 100,
        "epochs": 2,
        "reference": "energy",
    }
    rest = {"n": 100, "epochs": 2, "batch_size": 8, "warnings": ["few <images>"], "curves": list(curves)}
    provenance = {"model": "m", "sha256": "ffff", "revision": None, "command": "equicli compare --model m", "seed": 0}
    versions = {"equicli": "0.1.0", "torch": "2.0"}
    return {
        **shared,
        **rest,
        "systems": list(systems),
        "provenance": {**provenance, "versions": versions, "device": "cpu"},
    }


def titles(made, width=None):
    return [title for title, _ in comparison.columns(made, width)]


@pytest.mark.parametrize(("width", "most"), [(80, 4), (90, 5), (105, 6), (140, 8), (165, 11)])
def test_a_terminal_has_the_columns_that_fit(width, most):
    assert len(titles(document(row("vanilla")), width)) == most


def test_top_5_is_told_where_it_tells_anything():
    assert "avg top-5" not in titles(document(row("vanilla"), row("energy")))
    assert "avg top-5" in titles(document(row("vanilla"), row("energy", avg_top5_acc=0.99)))


def test_cells_are_percent_with_the_spread_over_seeds_and_the_interval_to_the_reference():
    made = document(row("vanilla", std=0.012), row("energy"))
    shown = [dict(zip(titles(made), cells, strict=True)) for cells in comparison.rows(made)]
    assert shown[0]["C4-Avg Acc"] == "80.00 ± 1.20" and shown[1]["C4-Avg Acc"] == "80.00"
    assert shown[0]["to energy"] == "-10.0 [-20.0, 5.0]" and shown[1]["to energy"] == "reference"
    assert shown[0]["added"] == "7" and shown[0]["identity rate"] == "-"
    assert shown[0][""] == "C4-vanilla & λ_1"


def test_without_labels_it_is_agreement_and_not_accuracy():
    made = {**document(row("vanilla")), "labels": "agreement"}
    assert "agreement with the upright vanilla prediction in %" in comparison.caption(made)
    assert "accuracy in %" in comparison.caption(document(row("vanilla")))


def test_no_system_is_set_off_as_the_best_which_the_test_images_would_choose():
    made = document(row("vanilla"), row("energy", avg_acc=0.99))
    for text in comparison.files(made).values():
        assert "best" not in text and "**C4" not in text and "textbf" not in text
        assert "to energy: paired difference of C4-Avg Acc to it" in text


def test_latex_has_minus_signs_and_says_what_it_shows():
    latex = comparison.files(document(row("vanilla"), row("energy")))["compare.tex"]
    assert r"$-$10.0 [$-$20.0, 5.0]" in latex
    assert "% 100 test images" in latex and "% mind: few" in latex


def test_each_format_is_escaped_as_it_wants():
    made = comparison.files(document(row("vanilla"), row("energy")))
    assert r"\& $\lambda$\_1" in made["compare.tex"] and "few <images>" in made["compare.md"]
    for name in ("compare.md", "compare.html"):
        assert "equicli compare --model m" in made[name] and "ffff" in made[name]
    assert "&amp; λ_1" in made["compare.html"] and "few &lt;images&gt;" in made["compare.html"]


def test_figures_are_drawn_of_what_was_swept_and_of_training():
    points = [{"seconds": 1.0, "identity_rate": 0.5}, {"seconds": 2.0, "identity_rate": 0.7}]
    curve = {"system": "equiadapt", "settings": [], "seed": 0, "points": points}
    cost = {"relative_cost": 1.2, "relative_cost_low": 1.1, "relative_cost_high": 1.3}
    swept = [row("equiadapt", f"canonicalizer.width={w}", **cost) for w in (4, 8)]
    for made, count in (
        (document(row("vanilla")), 0),
        (document(row("vanilla"), curves=[curve]), 1),
        (document(*swept, curves=[curve]), 2),
    ):
        assert comparison.files(made)["compare.html"].count("data:image/png;base64,") == count


def test_swept_values_are_drawn_in_their_order_whichever_system_lacks_one(monkeypatch):
    from matplotlib.axes import Axes

    drawn, plot = [], Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, x, y, *a, **k: drawn.append((x, y)) or plot(axes, x, y, *a, **k))
    cost = {"relative_cost": 1.2, "relative_cost_low": 1.1, "relative_cost_high": 1.3}
    swept = [row("equiadapt", f"prior_weight={w}", avg_acc=w / 1000, **cost) for w in (1, 10, 100)]
    swept += [row("equiadapt-joint", f"prior_weight={w}", avg_acc=w / 1000, **cost) for w in (0, 1, 10, 100)]
    comparison.files(document(*swept))
    left = [x for x, y in drawn if x[0] in (0, 1) and len(x) > 2 and len(set(x)) == len(x)]
    assert left == [[1, 2, 3], [0, 1, 2, 3]]
    assert all(list(y) == sorted(y) for _, y in drawn)


def test_the_caption_says_nothing_that_a_sweep_makes_untrue():
    assert "epochs: 2" in comparison.caption(document(row("vanilla")))
    assert "epochs" not in comparison.caption(document(row("vanilla"), row("equiadapt", "epochs=1")))


def test_a_task_of_another_score_has_its_own_columns_and_none_of_classification():
    numbers = {"iou": 0.7, "avg_iou": 0.6, "worst_iou": 0.5, "added_parameters": 7, "passes": 1.0}
    rows = [{**row(name), "mean": numbers, "std": dict.fromkeys(numbers)} for name in ("vanilla", "energy")]
    made = {**document(*rows), "score": {"name": "iou", "title": "IoU", "words": "IoU"}, "columns": []}
    assert titles(made)[:4] == ["", "IoU", "C4-Avg IoU", "to energy"]
    assert not {"avg top-5", "avg ECE"} & {*titles(made)}
    assert dict(zip(titles(made), comparison.rows(made)[0], strict=True))["worst"] == "50.00"
    assert "; IoU in %" in comparison.caption(made) and "C4-Avg IoU" in comparison.caption(made)
    assert all("C4-Avg IoU" in text for text in comparison.files(made).values())
    assert titles(made, 80) == ["", "IoU", "C4-Avg IoU", "to energy"]


def test_columns_that_a_terminal_has_no_room_for_are_named_with_the_file_that_has_them():
    made = document(row("vanilla"))
    told = comparison.left_out(made, 80)
    for title in set(titles(made)) - set(titles(made, 80)):
        assert title in told
    assert "compare.md" in told
    assert "; cost: " not in comparison.caption(made, 80) and "; cost: " in comparison.caption(made, 105)


def test_each_column_of_the_reports_is_defined():
    made = document(row("vanilla"))
    assert [name for name, _ in comparison.definitions(made)] == titles(made)[1:]
    files = comparison.files(made)
    for name, _ in comparison.definitions(made):
        assert f"- *{name}*: " in files["compare.md"] and f"<dt>{name}</dt>" in files["compare.html"]
