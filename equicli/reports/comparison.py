"""The table of a comparison: in the terminal, as Markdown, LaTeX and HTML."""

import base64
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from equicli.reports.table import compressed, what_is_scored
from equicli.reports.templating import HTML, LATEX, PLAIN

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]

# Columns that a terminal of at least so many characters has, too.
_FROM_WIDTH = {
    90: ("identity rate",),
    105: ("cost",),
    115: ("residual",),
    130: ("worst",),
    165: ("avg ECE", "trainable", "passes"),
}


def files(document: Mapping[str, Any]) -> dict[str, str]:
    """The reports by file name."""
    seeds = max((row["seeds"] for row in document["systems"]), key=len)
    context = {
        "document": document,
        "provenance": {**document["provenance"], "seed": ", ".join(map(str, seeds))},
        "group": document["group"].upper(),
        "elements": document["elements"].upper(),
        "caption": caption(document),
        "columns": [title for title, _ in columns(document)],
        "rows": rows(document),
        "definitions": definitions(document),
    }
    latex = {
        "columns": [_tex(title) for title in context["columns"]],
        "rows": [[_tex(cell) for cell in row] for row in context["rows"]],
    }
    return {
        "compare.md": PLAIN.get_template("compare.md").render(context),
        "compare.tex": LATEX.get_template("compare.tex").render({**context, **latex}),
        "compare.html": HTML.get_template("compare.html").render({**context, "figures": _figures(document)}),
    }


def columns(document: Mapping[str, Any], width: int | None = None) -> list[Column]:
    """Titles, and what stands in a row below each; with `width` those that fit a terminal of so many columns."""
    score, title, group = document["score"]["name"], document["score"]["title"], document["group"].upper()
    average = f"{document['elements'].upper()}-Avg {title}"
    to_reference = f"to {document['reference']}"
    found: list[Column] = [
        (title, _percent(score)),
        (average, _percent(f"avg_{score}")),
        (to_reference, _to_reference),
        ("worst", _percent(f"worst_{score}")),
        ("residual", _percent("invariance_residual")),
        ("identity rate", _percent("identity_rate")),
        *((title, _percent(key)) for title, key in document["columns"]),
        ("TV", _number("total_variation", "{:.3f}")),
        ("W1 [°]", _number("wasserstein", "{:.1f}")),
        ("MMD", _number("mmd", "{:.3f}")),
        ("trainable", _number("trainable_parameters", "{:,.0f}")),
        ("added", _number("added_parameters", "{:,.0f}")),
        ("training [s]", _number("training_seconds", "{:.0f}")),
        ("passes", _number("passes", "{:.3g}")),
        ("cost", _cost),
        ("operations", _number("relative_flops", "{:.2f}")),
    ]
    # Of five classes or fewer the right one is always among five.
    untold = {
        title: all(row["mean"].get(key) == 1 for row in document["systems"]) for title, key in document["columns"]
    }
    found = [column for column in found if not untold.get(column[0])]
    if width is None:
        return [("", lambda row: row["title"].replace("Cn-", f"{group}-")), *found]
    fitting = [title, average, to_reference]
    for least, titles in _FROM_WIDTH.items():
        fitting += titles if width >= least else ()
    # By the names that `--systems` takes.
    return [("", lambda row: " ".join((row["system"], *row["settings"]))), *(c for c in found if c[0] in fitting)]


def rows(document: Mapping[str, Any], width: int | None = None) -> list[list[str]]:
    shown = columns(document, width)
    return [[cell(row) for _, cell in shown] for row in document["systems"]]


def left_out(document: Mapping[str, Any], width: int) -> str:
    """Which columns a terminal has no room for, and where they are; nothing where all are shown."""
    shown = {title for title, _ in columns(document, width)}
    missing = [title for title, _ in columns(document) if title not in shown]
    return f"{len(missing)} more columns are in compare.md: {', '.join(missing)}" if missing else ""


def definitions(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What each column of the reports is."""
    title, elements = document["score"]["title"], document["elements"].upper()
    known = {
        title: f"{what_is_scored(document)} on untouched images, in %; ± is the standard deviation over seeds",
        f"{elements}-Avg {title}": f"its mean over all turns by {elements}",
        f"to {document['reference']}": "paired difference of that mean to this system's, and its 95 % interval",
        "worst": "the least of the turns",
        "residual": "share of images whose prediction changes under some turn, in %",
        "identity rate": "share of untouched images that are found in a pose of the prior, in %",
        "avg top-5": "share of images whose class is among the first five, over all turns, in %",
        "avg ECE": "calibration error over all turns, in %",
        "TV": "total variation between the poses found and the prior, from 0 to 1",
        "W1 [°]": "Wasserstein-1 distance between them on the circle, in degrees",
        "MMD": "maximum mean discrepancy between them, from 0 to √2",
        "trainable": "parameters that were trained",
        "added": "parameters of the canonicalizer as it is stored",
        "training [s]": "seconds of training",
        "passes": "of the prediction network, for each image",
        "cost": "processor time of the whole ÷ that of the network alone, and its spread",
        "operations": "floating-point operations ÷ those of the network alone",
    }
    return [(name, known[name]) for name, _ in columns(document) if name in known]


def caption(document: Mapping[str, Any], width: int | None = None) -> str:
    """What is shown, and what its columns are; with `width` those of `columns`."""
    what = what_is_scored(document)
    seeds = max(len(row["seeds"]) for row in document["systems"])
    spread = f"mean ± std over {seeds} seeds; " if seeds > 1 else ""
    over = " and seeds" if seeds > 1 else ""
    swept = {setting.partition("=")[0] for row in document["systems"] for setting in row["settings"]}
    epochs = "" if "epochs" in swept else f"epochs: {document['epochs']}; "
    average = f"{document['elements'].upper()}-Avg {document['score']['title']}"
    to_reference = f"to {document['reference']}: paired difference of {average} to it, 95 % interval over images{over}"
    of_costs = {
        "cost": "; cost: processor time ÷ that of the network alone, and its spread",
        "operations": "; operations: floating-point operations ÷ its own",
    }
    shown = [title for title, _ in columns(document, width)]
    costs = "".join(words for title, words in of_costs.items() if title in shown)
    turned = f"turned{compressed(document)}; " if compressed(document) else ""
    return f"{document['n']} test images; {turned}{epochs}{spread}{what} in %; {to_reference}{costs}"


def _percent(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value, spread = row["mean"].get(name), row["std"].get(name)
        return "-" if value is None else f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")

    return cell


def _number(name: str, form: str) -> Callable[[Row], str]:
    return lambda row: "-" if row["mean"].get(name) is None else form.format(row["mean"][name])


def _cost(row: Row) -> str:
    mean = row["mean"]
    if mean.get("relative_cost") is None:
        return "-"
    return f"{mean['relative_cost']:.1f} [{mean['relative_cost_low']:.1f}, {mean['relative_cost_high']:.1f}]"


def _to_reference(row: Row) -> str:
    apart = row["to_reference"]
    return (
        "reference"
        if apart is None
        else f"{100 * apart['value']:.1f} [{100 * apart['low']:.1f}, {100 * apart['high']:.1f}]"
    )


def _tex(text: str) -> str:
    for old, new in (
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("±", r"$\pm$"),
        ("λ", r"$\lambda$"),
        ("°", r"$^\circ$"),
    ):
        text = text.replace(old, new)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text)


def _figures(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Caption and PNG, in base64, of each figure."""
    swept = [row for row in document["systems"] if row["settings"]]
    figures = []
    if swept:
        figures.append(
            ("Accuracy against the swept value, added parameters and cost.", _sweep_figure(swept, document["score"]))
        )
    curves = [curve for curve in document["curves"] if len(curve["points"]) > 1]
    if curves:
        figures.append(("Identity rate on validation images against training time.", _curve_figure(curves)))
    return figures


def _sweep_figure(swept: Sequence[Row], score: Mapping[str, str]) -> str:
    figure, (left, middle, right) = _subplots(3)
    values = _in_order({_value(row) for row in swept})
    for system in dict.fromkeys(row["system"] for row in swept):
        own = sorted((row for row in swept if row["system"] == system), key=lambda row: values.index(_value(row)))
        accuracy = [100 * row["mean"][f"avg_{score['name']}"] for row in own]
        left.plot([values.index(_value(row)) for row in own], accuracy, "o-", label=system)
        middle.plot([row["mean"]["added_parameters"] for row in own], accuracy, "o-")
        right.plot([row["mean"]["relative_cost"] for row in own], accuracy, "o-")
    left.set_xticks(range(len(values)), values)
    left.set(xlabel=swept[0]["settings"][0].partition("=")[0], ylabel=f"group-averaged {score['title']} [%]")
    middle.set(xlabel="added parameters")
    right.set(xlabel="time ÷ that of the network alone")
    left.legend()
    return _png(figure)


def _value(row: Row) -> str:
    return str(row["settings"][0].partition("=")[2])


def _in_order(values: Iterable[str]) -> list[str]:
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def _curve_figure(curves: Sequence[Mapping[str, Any]]) -> str:
    from matplotlib import colormaps

    figure, (axes,) = _subplots(1, beside=3)  # for the legend, which would hide a curve
    names = [" ".join((curve["system"], *curve["settings"])) for curve in curves]
    rows = list(dict.fromkeys(names))
    for index, (name, curve) in enumerate(zip(names, curves, strict=True)):
        seconds, rates = zip(*((p["seconds"], 100 * p["identity_rate"]) for p in curve["points"]), strict=True)
        color = colormaps["tab20" if len(rows) > 10 else "tab10"](rows.index(name) % 20)
        axes.plot(seconds, rates, color=color, label=name if index == names.index(name) else None)
    axes.set(xlabel="training time [s]", ylabel="identity rate [%]")
    figure.legend(loc="outside right upper")
    return _png(figure)


def _subplots(count: int, beside: float = 0) -> tuple[Any, Any]:
    """A figure of so many axes, with so many inches beside them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * count + beside, 3.6), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return base64.b64encode(buffer.getvalue()).decode()
