"""Accuracy against time of an evaluation: a table, and the figure beside report.md."""

import io
from collections.abc import Mapping
from typing import Any

FIGURE = "curve.png"

Point = Mapping[str, Any]

TICKS = (1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)


def is_drawn(metrics: Mapping[str, Any]) -> bool:
    """Whether there is a figure; the report that closes a training has none."""
    return metrics["curve"] is not None and metrics["split"] != "validation"


def section(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """What report.md says of it; None where there is nothing to choose between."""
    if metrics["curve"] is None:
        return None
    return {
        "figure": FIGURE if is_drawn(metrics) else None,
        "header": ["", "asks again below", "passes", "time", _average(metrics)],
        "rows": [_row(metrics, point) for point in metrics["curve"]["points"]],
        "chosen": _chosen(metrics),
        "definitions": _definitions(metrics["curve"]["gate"]),
    }


def _definitions(gate: Mapping[str, Any]) -> list[tuple[str, str]]:
    asked = f"the {gate['most']} likeliest poses where the likeliest is less sure than is said; of these"
    evidence = f" and the network's {gate['evidence']}" if gate["weight"] else ""
    said = "the mean of the probabilities" if gate["combine"] == "mean" else "the best"
    return [
        ("one", "the pose that is found"),
        ("gate", f"{asked} {said}, by p(g given x){evidence}"),
        ("mean", "all poses; the mean of the probabilities, by p(g given x)"),
        ("energy", "all poses; the one of which the network itself is most confident, without a canonicalizer"),
        ("symmetrized", "all poses alike, which is test-time augmentation by rotation, without a canonicalizer"),
        ("time", "of the canonicalizer and so many passes, where one pass takes 1"),
    ]


def figure(metrics: Mapping[str, Any]) -> bytes:
    """The same as a PNG: the gate's curve, the other ways as points, and as a line the network alone, upright."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8, 4.5))
    axes = drawing.subplots(gridspec_kw={"left": 0.09, "right": 0.76, "bottom": 0.13, "top": 0.96})
    score, points = metrics["score"], metrics["curve"]["points"]

    def place(point: Point) -> tuple[float, float]:
        return point["time"], 100 * point[f"avg_{score['name']}"]

    curve = [point for point in points if point["way"] in ("one", "gate")]
    others = [point for point in points if point not in curve]
    axes.plot(*zip(*map(place, curve), strict=True), "o-", color="tab:blue", markersize=4)
    axes.plot(*zip(*map(place, others), strict=True), "s", color="tab:gray")
    upright = 100 * metrics["vanilla"][score["name"]]
    axes.axhline(upright, color="black", linestyle="--", linewidth=1)
    _label(axes, "one", place(curve[0]), (-4, 10), "right")
    _label(axes, "gate", place(curve[-1]), (-4, 10), "right")
    own = next((point for point in points if point["own"]), None)
    if own is not None:
        axes.plot(*place(own), "o", color="tab:red", markersize=12, markerfacecolor="none", markeredgewidth=2)
        aside = (-10, "right") if own in others else (10, "left")
        _label(axes, f"this model, passes: {own['passes']:.3g}", place(own), (aside[0], -14), aside[1], color="tab:red")
    longest = max(point["time"] for point in points)
    axes.set_xscale("log")
    ticks = [time for time in TICKS if time <= longest]
    axes.set_xticks(ticks, [f"{time:g}" for time in ticks])
    axes.set_xticks([], minor=True)
    axes.set(
        xlabel="time of an image ÷ one pass of the network, canonicalizer included",
        ylabel=f"{_average(metrics)} [%]",
        xlim=(0.94, 1.06 * longest),
    )
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    beside = [(upright, "network alone, upright"), *((place(point)[1], point["way"]) for point in others)]
    low, high = axes.get_ylim()
    height = low
    for value, text in sorted(beside):
        height = max(value, height + (high - low) / 18)  # no two lines of text in one place
        axes.annotate(text, (1.02, height), xycoords=("axes fraction", "data"), va="center")
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def _label(
    axes: Any, text: str, at: tuple[float, float], offset: tuple[int, int], side: str, color: str = "black"
) -> None:
    axes.annotate(text, at, offset, textcoords="offset points", ha=side, va="center", color=color)


def _row(metrics: Mapping[str, Any], point: Point) -> list[str]:
    score = f"avg_{metrics['score']['name']}"
    low, high = point[f"{score}_ci"]
    cells = [
        point["way"],
        "" if point["threshold"] is None else f"{100 * min(point['threshold'], 1):.0f} %",
        f"{point['passes']:.3g}",
        f"{point['time']:.2f}",
        f"{100 * point[score]:.2f} [{100 * low:.1f}, {100 * high:.1f}]",
    ]
    return [f"**{cell}**" if cell and point["own"] else cell for cell in cells]


def _average(metrics: Mapping[str, Any]) -> str:
    return f"{metrics['elements'].upper()}-Avg {metrics['score']['title']}"


def _chosen(metrics: Mapping[str, Any]) -> str:
    """What the curve may have chosen, and what not."""
    fitted = any(point["own"] and point["way"] == "gate" for point in metrics["curve"]["points"])
    if metrics["split"] == "validation":
        return "The gate was fitted on validation images, so that its rows flatter." if fitted else ""
    drawn = "The gate's rows are drawn on these images and chose nothing"
    return f"{drawn}; the bold one was fitted on validation images." if fitted else f"{drawn}."
