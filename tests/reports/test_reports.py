"""What people read of one evaluation: the table, the report, the model card."""

import dataclasses
import re
import sys

import pytest
import torch
import yaml

from equicli.canonicalization.prior import Prior
from equicli.cli.output import Output
from equicli.evaluation.metrics import metrics_document
from equicli.evaluation.systems import SYSTEMS
from equicli.groups import is_finite, parse_group
from equicli.reports import table
from equicli.reports.markdown import model_card, report
from equicli.tasks.task import Task
from tests.evaluation.handmade import CLASSIFICATION, ClosenessTask, PointTask, recorded

UPRIGHT = Prior(("r0",))
SOURCE = {"model": "hf-hub:timm/resnet", "repository": "timm/resnet", "revision": "abc", "sha256": "f" * 64}


def metrics(elements="c4", group="c4", prior=UPRIGHT, task=CLASSIFICATION, records=None, **options):
    n, turns = 40, parse_group(elements)
    generator = torch.Generator().manual_seed(1)
    changed = torch.randint(0, 3, (n, turns.order), generator=generator) > 0
    changes = {name: options.pop(name) for name in ("agreement", "frames") if name in options}
    evaluation = recorded(
        elements,
        group,
        n,
        changed=changed & (torch.arange(turns.order) > 0),
        expected=torch.arange(n)[:, None].expand(-1, turns.order) < 30,
        consistent=torch.arange(n)[:, None] + torch.arange(turns.order) < 30,
        poses=torch.arange(n) // 10 if is_finite(parse_group(group)) else None,
        ties=torch.arange(n) < 3,
        max_delta=0.125 * torch.arange(turns.order).clamp(max=1),
        **changes,
    )
    if records is not None:
        evaluation = dataclasses.replace(evaluation, records=records)
    if options.pop("no_poses", False):
        evaluation = dataclasses.replace(evaluation, found=None)
    versions = {"equicli": "0.1.0", "torch": "2.15.0"}
    provenance = {**SOURCE, "command": "equicli evaluate --rotations 4", "seed": 7, "versions": versions}
    options = {"rotate": "input", "split": "test", "unreadable": 0, **options}
    cost = {
        "added_parameters": 12345,
        "relative_time": 0.0314,
        "relative_time_range": [0.0301, 0.0333],
        "canonicalizer_flops": 280_000_000,
        "network_flops": 35_000_000_000,
    }
    return metrics_document(evaluation, task, prior=prior, cost=cost, provenance=provenance, **options)


def card_config(source=SOURCE, library="timm", size=224, head_outputs=None, canonicalizer=None):
    return {
        "task": "classification",
        "task_settings": {},
        "provenance": source,
        "trained_base": False,
        "prediction_network": {"library": library, "architecture": "resnet50", "head_outputs": head_outputs},
        "labels": {"cat": 0, "dog": 1},
        "class_names": (),
        "preprocess": {"size": size, "normalization": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))},
        "canonicalizer": canonicalizer or {"kind": "optimized", "spec": {"size": 64}},
    }


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("elements", ["c1", "c4", "c8", "d4", "c16"])
@pytest.mark.parametrize("narrow", [False, True])
def test_every_row_has_a_cell_below_each_heading(elements, narrow):
    made = metrics(elements)
    heading, rows = table.header(made), table.rows(made, narrow=narrow)
    assert [row[0] for row in rows] == list(SYSTEMS)
    assert all(len(row) == len(heading) for row in rows)


@pytest.mark.parametrize("elements", ["c1", "c4", "d4"])
def test_rows_show_the_counts_of_the_document(elements):
    made = metrics(elements)
    angles = [f"{e['angle']:g}°" + " m" * e["mirror"] for e in made["vanilla"]["per_element"]]
    assert table.header(made)[4:-1] == angles
    for row in table.rows(made):
        system = made[row[0]]
        assert row[4:-1] == [str(entry["correct"]) for entry in system["per_element"]]
        assert row[1].startswith(f"{100 * system['acc']:.2f} [")
        assert row[2].startswith(f"{100 * system['avg_acc']:.2f} [")
        assert row[3] == f"{100 * system['worst_acc']:.2f}"
        assert row[-1] == str(int(system["passes"]))


def test_the_heading_names_the_group_that_was_averaged_over():
    assert table.header(metrics("d4"))[2] == "D4-Avg Acc"


@pytest.mark.parametrize("narrow", [False, True])
def test_intervals_are_written_in_percent(narrow):
    made = metrics()
    low, high = made["vanilla"]["acc_ci"]
    shown = table.rows(made, narrow=narrow)[0][1]
    numbers = [float(number) for number in re.findall(r"[\d.]+", shown)]
    acc = made["vanilla"]["acc"]
    expected = [100 * max(acc - low, high - acc)] if narrow else [100 * low, 100 * high]
    assert numbers[1:] == pytest.approx(expected, abs=0.501 if narrow else 0.051)


@pytest.mark.parametrize(
    ("value", "interval", "shown"),
    [
        (1.0, (0.9123, 1.0), "100.00 -8.8"),
        (0.0, (0.0, 0.12), "0.00 +12"),
        (0.5, (0.49, 0.51), "50.00 ±1.0"),
        (0.926, (0.908, 0.941), "92.60 ±1.8"),
        (0.99, (0.975, 0.996), "99.00 -1.5 +0.6"),
        (0.01, (0.004, 0.025), "1.00 -0.6 +1.5"),
    ],
)
def test_no_interval_of_a_terminal_reaches_beyond_0_or_100_percent(value, interval, shown):
    made = metrics()
    made["vanilla"] |= {"acc": value, "acc_ci": interval}
    assert table.rows(made, narrow=True)[0][1] == shown


@pytest.mark.parametrize("narrow", [False, True])
def test_what_is_100_percent_by_definition_has_no_interval(narrow):
    made = metrics(agreement=True)
    for system in ("vanilla", "adapted", "symmetrized", "oracle"):
        made[system] |= {"acc": 1.0, "acc_ci": (0.9, 1.0), "avg_acc": 1.0, "avg_acc_ci": (0.9, 1.0)}
    shown = {row[0]: row[1:3] for row in table.rows(made, narrow=narrow)}
    measured = "100.00 -10" if narrow else "100.00 [90.0, 100.0]"
    assert shown["oracle"] == ["100.00", "100.00"] and shown["vanilla"] == ["100.00", measured]
    assert shown["adapted"] == shown["symmetrized"] == [measured, measured]
    turned = {row[0]: row[1] for row in table.rows({**made, "prior": ["r90"]}, narrow=narrow)}
    assert turned["vanilla"] == measured  # at another pose than the one that it is compared with
    labelled = {row[0]: row[1] for row in table.rows({**made, "labels": "folders"}, narrow=narrow)}
    assert set(labelled.values()) == {measured}


def test_the_caption_tells_which_images_and_what_was_shown_in_place_of_the_models_own():
    assert "40 of 130 validation images" in table.caption(metrics(split="validation", of=130))
    own = table.caption(metrics())
    assert own.startswith("40 test images") and "in place of" not in own
    other = metrics(overrides={"--preprocess": "none"}, precision="bf16")
    for text in (table.caption(other), report(other)):
        assert "with --preprocess none and --precision bf16 in place of the model's own" in text


def test_the_card_says_which_evaluation_it_shows():
    assert "Of the last evaluation on the run's own test images" in model_card(metrics(), card_config())
    closing = model_card(metrics(split="validation"), card_config())
    assert "Of the last evaluation" not in closing and "These are validation images" in closing


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ["40 test images", "accuracy", "preprocessed tensor", "C4"]),
        ({"agreement": True}, ["agreement with the upright vanilla prediction"]),
        ({"rotate": "file"}, ["the picture, before preprocessing, is turned by C4; oracle"]),
        ({"rotate": "file", "reencode": "jpeg:75"}, ["is turned by C4 and compressed again (jpeg:75), also at 0°"]),
        ({"split": "validation"}, ["40 validation images"]),
    ],
)
def test_the_caption_says_what_was_measured_on_what(options, words):
    assert all(word in table.caption(metrics(**options)) for word in words)


def test_the_oracle_is_said_to_be_the_network_at_the_true_pose_and_no_bound(capsys):
    made = metrics()
    Output().metrics(made)
    for text in (capsys.readouterr().out, report(made)):
        assert "the network at the true pose" in " ".join(text.split()) and "reach" not in text


def test_the_report_holds_the_table_the_facts_and_how_to_repeat_them():
    made = metrics()
    text = report(made)
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    assert [cells(line) for line in (lines[start], *lines[start + 2 : start + 6])] == [
        table.header(made),
        *table.rows(made),
    ]
    assert set(lines[start + 1]) <= set("|- ")
    assert not lines[start + 6].startswith("|")
    for name, value in table.facts(made):
        assert f"- {name}: {value}" in lines
    for words in ("equicli evaluate --rotations 4", "Seed 7.", "torch 2.15.0.", SOURCE["sha256"]):
        assert words in text


@pytest.mark.parametrize(("elements", "width", "angles"), [("c4", 80, True), ("d4", 80, False), ("d4", 120, True)])
def test_a_terminal_too_narrow_for_all_angles_shows_none_rather_than_parts(
    elements, width, angles, monkeypatch, capsys
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    Output().metrics(metrics(elements))
    printed = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert "…" not in printed and max(map(len, printed.splitlines()[:6])) <= width
    assert ("270°" in printed) == ("by angle" in printed) == angles
    told = "8 columns, one for each turn, do not fit this terminal; report.md has them"
    assert (told in " ".join(printed.split())) != angles


def test_where_turns_are_many_the_file_that_has_them_is_named():
    assert "each of the 16 turns is in metrics.json" in table.left_out(metrics("c16"))
    assert "Each" not in table.left_out(metrics("c4")) and "16 turns" in report(metrics("c16"))


@pytest.mark.parametrize("width", [40, 80])
def test_on_a_narrow_terminal_lines_break_at_words_and_numbers_keep_their_unit(width, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    made = metrics("c8", group="c8")
    Output().metrics(made)
    printed = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)
    assert "…" not in printed and "passes" in printed
    below = printed.partition("\n 40 test images")[2].splitlines()
    assert max(map(len, below)) <= width and not any(line.split()[:1] == ["%"] for line in below)
    for _, value in table.facts(made):
        assert set(value.split()) <= set(printed.split())


def test_the_report_says_what_each_of_its_rows_columns_and_facts_is():
    made = metrics("c8", group="c8")
    _, _, defined = report(made).partition("## What is what")
    angles = table.header(made)[4:-1]
    names = [*table.header(made)[1:4], "passes", f"{angles[0]} … {angles[-1]}", *(row[0] for row in table.rows(made))]
    for name in [*names, *(name for name, _ in table.facts(made))]:
        assert f"- *{name}*: " in defined


def test_a_folder_without_a_split_is_counted_as_all_of_it():
    assert table.caption(metrics(split="all")).startswith("all 40 images; ")
    assert table.caption(metrics()).startswith("40 test images; ")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"unreadable": 2}, "2 unreadable images were skipped"), ({"split": "validation"}, "chose the best epoch")],
)
def test_what_limits_the_numbers_is_said_only_where_it_holds(options, words):
    assert words in report(metrics(**options))
    assert words not in report(metrics())


def test_the_identity_rate_is_said_to_be_of_another_folder_where_it_is():
    words = "75.00 %, of a folder that the canonicalizer was not trained on"
    assert dict(table.facts(metrics(seen=0, elsewhere=True)))["identity rate"] == words
    assert "chose the best epoch" not in report(metrics(seen=0, split="validation"))


def test_a_model_card_says_what_a_canonicalizer_was_taken_from():
    taken = {"kind": "optimized", "spec": {"size": 64}, "source": {"name": "runs-a", "sha256": "12ab"}}
    assert "- taken from: `runs-a`, sha256 `12ab`\n" in model_card(metrics(), card_config(canonicalizer=taken))
    assert "taken from" not in model_card(metrics(), card_config())


def test_the_facts_tell_rates_ties_and_cost():
    facts = dict(table.facts(metrics()))
    made = metrics()["adapted"]
    low, high = made["below_upright_ci"]
    assert facts["below upright"] == f"{100 * made['below_upright']:.2f} points [{100 * low:.2f}, {100 * high:.2f}]"
    assert facts["identity rate"] == "75.00 %"
    assert facts["pose accuracy"] == "75.00 %"
    assert "0.125" in facts["invariance residual"] and "3 ties" in facts["invariance residual"]
    assert not {"poses found", "pose consistency"} & facts.keys()
    assert facts["added parameters"] == "12,345"
    assert facts["relative time"].startswith("0.031 ")


def test_that_the_network_was_trained_is_said_where_it_was():
    facts = dict(table.facts(metrics(trained_base=True)))
    assert "not the one that was loaded" in facts["network"]
    assert "network" not in dict(table.facts(metrics()))


@pytest.mark.parametrize(
    ("source", "base"),
    [(SOURCE, "timm/resnet"), ({"model": "resnet50", "checkpoint": "w.pth", "sha256": "0"}, None)],
    ids=["from the Hub", "from a file"],
)
def test_a_model_card_has_metadata_that_the_hub_reads(source, base):
    _, metadata, text = model_card(metrics(), card_config(source)).split("---\n", 2)
    fields = yaml.safe_load(metadata)
    assert fields.get("base_model") == base
    assert fields["library_name"] == "equicli"
    assert "c4" in fields["tags"]
    assert f"# {source['model']}, made equivariant to c4" in text
    assert all(f"- {key}: `{value}`" in text for key, value in source.items() if key != "model")


def test_a_model_card_says_how_to_load_and_to_normalize():
    card = model_card(metrics(), card_config())
    assert 'equicli.load("model.safetensors")' in card
    assert "0.485, 0.456, 0.406" in card and "224x224" in card
    own = model_card(metrics(), card_config(library="python", size=None))
    assert 'equicli.load("model.safetensors", network=your_network)' in own
    assert "None" not in own


def test_the_card_and_the_report_show_the_same_table():
    made = metrics()
    tables = [
        [line for line in text.splitlines() if line.startswith("|")]
        for text in (report(made), model_card(made, card_config()))
    ]
    assert tables[0] == tables[1] and len(tables[0]) == 6


@pytest.mark.parametrize(("outputs", "words"), [(None, "weights are untouched."), (2, "new last layer with 2 outputs")])
def test_a_model_card_says_whether_a_head_was_fitted_and_for_which_classes(outputs, words):
    card = model_card(metrics(), card_config(head_outputs=outputs))
    assert words in card and "Classes: cat, dog." in card


def test_off_the_grid_consistency_and_residuals_are_told_apart():
    facts = dict(table.facts(metrics("c8", "c8")))
    assert "off the grid" in facts["pose consistency"]
    assert "by 90° steps" in facts["invariance residual"]


@pytest.mark.parametrize(
    ("prior", "words"),
    [
        (Prior(("r0", "r90")), "r0 25.0 %, r90 25.0 %, r180 25.0 %, r270 25.0 %"),
        (
            Prior(("r0", "r90"), (0.75, 0.25)),
            "r0 25.0 % (prior 75.0 %), r90 25.0 % (prior 25.0 %), r180 25.0 % (prior 0.0 %)",
        ),
    ],
    ids=["set", "distribution"],
)
def test_beside_a_prior_of_several_poses_those_found_are_told(prior, words):
    assert dict(table.facts(metrics(prior=prior)))["poses found"].startswith(words)


def test_of_a_continuous_group_no_poses_are_told():
    made = metrics("c8", "so2", Prior(("r0", "r90")))
    assert "poses found" not in dict(table.facts(made))
    assert "made equivariant to so2" in model_card(made, card_config(canonicalizer=CANONICALIZERS["steerable"]))


CANONICALIZERS = {
    "optimized": {"kind": "optimized", "spec": {"size": 64}},
    "equivariant": {"kind": "equivariant", "spec": {"size": 65}},
    "steerable": {"kind": "steerable", "spec": {"size": 65}},
    "energy": {"kind": "energy", "spec": {}},
}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("optimized", "arxiv.org/abs/2405.14089"),
        ("equivariant", "arxiv.org/abs/2310.01647"),
        ("steerable", "arxiv.org/abs/2310.01647"),
        ("energy", "arxiv.org/abs/2010.03759"),
    ],
)
def test_a_model_card_names_the_canonicalizer_its_size_and_its_paper(kind, words):
    card = model_card(metrics(), card_config(canonicalizer=CANONICALIZERS[kind]))
    size = CANONICALIZERS[kind]["spec"].get("size")
    assert f"- canonicalizer: {kind}{f', looking at {size} pixels' if size else ''}\n" in card
    assert words in card


def test_a_model_card_of_a_trained_network_does_not_call_it_frozen():
    text = model_card(metrics(), card_config() | {"trained_base": True})
    assert "trained on together" in text and "rozen" not in text and "untouched" not in text


def of_points(task: Task, *systems: str):
    """A document of a task of one's own, whose baselines are fewer."""
    values = torch.rand(40, 4, generator=torch.Generator().manual_seed(2))
    scores = values if task.score == "closeness" else values < 0.7
    return metrics(task=task, records={name: {task.score: scores} for name in systems})


@pytest.mark.parametrize("task", [PointTask(), ClosenessTask()], ids=lambda task: task.score)
@pytest.mark.parametrize("systems", [("vanilla", "adapted", "oracle"), ("vanilla", "adapted")], ids=len)
def test_systems_that_a_task_does_not_name_are_left_out_of_table_and_report(task, systems, capsys):
    made = of_points(task, *systems)
    assert [row[0] for row in table.rows(made)] == list(systems)
    assert all(len(row) == len(table.header(made)) for row in table.rows(made))
    tabled = [line for line in report(made).splitlines() if line.startswith("|")]
    assert len(tabled) == 2 + len(systems) and not any("symmetrized" in line for line in tabled)
    Output().metrics(made)
    assert "symmetrized" not in capsys.readouterr().out


def test_a_score_is_called_what_its_task_calls_it():
    made = of_points(PointTask(), "vanilla", "adapted")
    assert table.header(made)[1:3] == ["Hits", "C4-Avg Hits"]
    assert "; Hits in %" in table.caption(made) and "accuracy" not in table.caption(made)
    assert "correct images by angle" in table.caption(made)


def test_scores_that_are_no_counts_are_shown_in_percent_at_every_angle():
    made = of_points(ClosenessTask(), "vanilla", "adapted")
    (vanilla, _) = table.rows(made)
    elements = made["vanilla"]["per_element"]
    assert vanilla[4:-1] == [f"{100 * element['closeness']:.2f}" for element in elements]
    assert vanilla[1].startswith(f"{100 * made['vanilla']['closeness']:.2f} [")
    assert "correct images" not in table.caption(made)


def test_the_identity_rate_is_told_by_shape_where_pictures_have_several():
    frames = ((8, 12),) * 10 + ((12, 8),) * 30
    facts = dict(table.facts(metrics(frames=frames)))
    assert facts["identity rate"] == "75.00 % (landscape 100.0 % of 10, portrait 66.7 % of 30)"
    assert dict(table.facts(metrics()))["identity rate"] == "75.00 %"


def test_where_no_poses_are_found_none_are_told():
    made = metrics(no_poses=True)
    facts = dict(table.facts(made))
    assert not {"identity rate", "pose accuracy", "pose consistency", "poses found"} & facts.keys()
    assert "0 ties" in facts["invariance residual"] and "invariance residual" in report(made)


@pytest.mark.parametrize("passes", [1, 4, 2.5])
def test_passes_are_written_as_they_are(passes):
    made = metrics()
    made["adapted"]["passes"] = passes
    assert table.rows(made)[1][-1] == f"{passes:g}"


def test_the_model_card_has_the_tag_of_its_task():
    assert "pipeline_tag: image-classification" in model_card(metrics(), card_config())


def test_the_model_card_says_how_to_go_from_a_photo_to_an_output():
    card = model_card(metrics(), card_config())
    assert 'model.predict(["photo.jpg"])' in card
