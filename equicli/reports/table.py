"""The one table of a metrics document, as rows of text; the terminal and report.md show the same."""

from collections.abc import Mapping
from typing import Any

from equicli.data.reencode import NONE
from equicli.errors import counted, said_of
from equicli.evaluation.systems import SYSTEMS

MOST_ANGLES = 8  # that are shown one by one


def header(metrics: Mapping[str, Any], *, angles: bool = True) -> list[str]:
    shown = [f"{e['angle']:g}°" + (" m" if e["mirror"] else "") for e in _angles(metrics, "adapted", shown=angles)]
    title = metrics["score"]["title"]
    further = [name for name, _ in metrics.get("shown", ())]
    return [
        "",
        title,
        f"{metrics['elements'].upper()}-Avg {title}",
        "worst",
        *further,
        *shown,
        *["passes"] * _asks(metrics),
    ]


def rows(metrics: Mapping[str, Any], *, angles: bool = True, narrow: bool = False) -> list[list[str]]:
    """One row a system: accuracies in percent with 95 % intervals, correct images by angle, passes an image.

    Args:
        angles: with a column for each angle, where they are few.
        narrow: write an interval as ± the distance to its farther end, so that the table fits a terminal; where that
            would reach beyond 0 or 100 %, as the distance to either end.
    """
    table, score = [], metrics["score"]["name"]
    for name in (name for name in SYSTEMS if name in metrics):
        system = metrics[name]
        counts = [
            str(e["correct"]) if "correct" in e else f"{100 * e[score]:.2f}"
            for e in _angles(metrics, name, shown=angles)
        ]
        table.append(
            [
                name,
                *(
                    f"{100 * system[key]:.2f}"
                    if _by_definition(metrics, name, key)
                    else _with_interval(system[key], system[f"{key}_ci"], narrow)
                    for key in (score, f"avg_{score}")
                ),
                f"{100 * system[f'worst_{score}']:.2f}",
                *(f"{100 * system[key]:.2f}" if key in system else "-" for _, key in metrics.get("shown", ())),
                *counts,
                *[f"{system['passes']:.3g}"] * _asks(metrics),
            ]
        )
    return table


def caption(metrics: Mapping[str, Any], *, angles: bool = True) -> str:
    of, split = f"{metrics['n']} of " * bool(metrics.get("of")), "" if metrics["split"] == "all" else metrics["split"]
    these = f"{'all ' * (not split)}{of}{counted(metrics.get('of') or metrics['n'], f'{split} images'.strip())}"
    shown = _angles(metrics, "adapted", shown=angles)
    counts = "correct images by angle; " if shown and "correct" in shown[0] else ""
    turned = "the preprocessed tensor" if metrics["rotate"] == "input" else "the picture, before preprocessing,"
    oracle = "; oracle: the network at the true pose" if "oracle" in metrics else ""
    if _is_random(metrics):
        times = metrics["rotations"]
        often = "once" if times == 1 else f"{times} times"
        turned = f"each {often}, by random rotations of its own, the same for all systems: it"
    return _said(
        metrics,
        f"{these}; {what_is_scored(metrics)} in %, 95 % intervals; {counts}{turned} is turned by "
        f"{metrics['elements'].upper()}{compressed(metrics)}{oracle}{_prepared(metrics)}",
    )


def _asks(metrics: Mapping[str, Any]) -> bool:
    """Whether there is a prediction network."""
    return bool(metrics.get("network", True))


def _is_random(metrics: Mapping[str, Any]) -> bool:
    """Whether test samples are turned by random rotations of space."""
    return bool(metrics["elements"] in ("so3", "so2z"))


def _said(metrics: Mapping[str, Any], text: str) -> str:
    """A text about images, said of what the samples are."""
    return said_of(metrics.get("things", "images"), text)


def what_is_scored(document: Mapping[str, Any]) -> str:
    """What accuracy is, of an evaluation or a comparison."""
    agreement = document["labels"] == "agreement"
    return "agreement with the upright vanilla prediction" if agreement else str(document["score"]["words"])


def compressed(document: Mapping[str, Any]) -> str:
    """That pictures were compressed again after they were turned, of an evaluation or a comparison."""
    return "" if document["reencode"] == NONE else f" and compressed again ({document['reencode']}), also at 0°"


def left_out(metrics: Mapping[str, Any], *, angles: bool = True) -> str:
    """Which columns there are no room for, and where they are; nothing where all are shown."""
    count = len(metrics["adapted"]["per_element"])
    if count > MOST_ANGLES or _is_random(metrics):
        return f"what is right at each of the {count} turns is in metrics.json"
    return "" if angles else f"{count} columns, one for each turn, do not fit this terminal; report.md has them"


def definitions(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What each row and column of the table is."""
    score, elements = metrics["score"]["title"], metrics["elements"].upper()
    angles = _angles(metrics, "adapted", shown=True)
    counted = "correct images" if angles and "correct" in angles[0] else f"{score}, in %,"
    rows = {
        "vanilla": "the prediction network alone",
        "adapted": "canonicalizer and prediction network, the shipped artifact"
        if _asks(metrics)
        else "the canonicalizer",
        "symmetrized": "the network's probabilities averaged over the group",
        "oracle": "the network at the true pose, which need not be the best for every picture",
    }
    return [
        *((name, words) for name, words in rows.items() if name in metrics),
        (score, _said(metrics, f"{what_is_scored(metrics)} on untouched images, in %, and its 95 % interval")),
        (
            f"{elements}-Avg {score}",
            _said(
                metrics,
                f"its mean over all turns by {elements}; "
                "the interval takes an image and its turned copies for one trial",
            ),
        ),
        ("worst", "the least of the turns"),
        *((title, FURTHER[key]) for title, key in metrics.get("shown", ()) if key in FURTHER),
        *(
            [(f"0° … {angles[-1]['angle']:g}°", f"{counted} when all are turned so{_mirrored(angles)}")]
            if angles
            else []
        ),
        *[("passes", _said(metrics, "of the prediction network, for each image"))] * _asks(metrics),
    ]


def _mirrored(angles: list[Mapping[str, Any]]) -> str:
    return "; m: mirrored left-right, then turned" if any(e["mirror"] for e in angles) else ""


# Columns that only some tasks have.
FURTHER = {
    "z_acc": "the mean over random turns about z; with a network that was trained upright, the literature's z/z",
    "avg_mask_iou": "the mean over all turns of how much each mask overlaps with what its prompt points at, in %",
    "avg_class_acc": "the mean over the classes of the averaged accuracy of each",
}
# What stands below the table.
FACTS = {
    "below upright": "what the network scores on untouched images at their true pose, less the adapted model's mean "
    "over all turns, in points, with its 95 % interval over images",
    "identity rate": "share of untouched images that are found in a pose of the prior; the others are shown to the "
    "network turned",
    "poses found": "how often each pose is found in untouched images",
    "pose accuracy": "share of turned images whose turn is found",
    "pose ECE": "calibration error of the probability of the pose found, over all turns by multiples of 90°; "
    "the temperature, which scores are divided by, is fitted with a gate and else 1",
    "pose consistency": "share of turns h that the pose ĝ follows",
    "invariance residual": "share of images whose prediction changes under some turn; beside it the largest change of "
    "an output, and ties: images whose two best scores are within a rounding",
    "added parameters": "those of the canonicalizer as it is stored",
    "relative time": "processor time (on a GPU the time) of the canonicalizer, the least of several, taken in turns "
    "with the network; in brackets what single repeats say",
    "operations": "floating-point operations, which no clock bends",
}


def _prepared(metrics: Mapping[str, Any]) -> str:
    """What the network was shown or computed in, where that is not the artifact's own."""
    told = [f"{flag} {value}" for flag, value in metrics.get("overrides", {}).items()]
    told += [f"--precision {metrics['precision']}"] if metrics.get("precision", "fp32") != "fp32" else []
    return f"; with {' and '.join(told)} in place of the model's own" if told else ""


def facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is said below the table, name and value."""
    adapted, cost = metrics["adapted"], metrics["cost"]
    lines = _found_poses(metrics)
    if adapted["identity_rate"] is not None:
        rate = f"{100 * adapted['identity_rate']:.2f} %{_by_shape(adapted)}"
        elsewhere = ", of a folder that the canonicalizer was not trained on" if metrics.get("elsewhere") else ""
        lines.insert(0, ("identity rate", rate + elsewhere))
    if adapted.get("below_upright") is not None:
        low, high = adapted["below_upright_ci"]
        lines.insert(
            0, ("below upright", f"{100 * adapted['below_upright']:.2f} points [{100 * low:.2f}, {100 * high:.2f}]")
        )
    if adapted["pose_accuracy"] is not None:
        lines.append(("pose accuracy", f"{100 * adapted['pose_accuracy']:.2f} %"))
    if adapted["pose_ece"] is not None:
        lines.append(("pose ECE", f"{100 * adapted['pose_ece']:.2f} % (temperature {adapted['pose_temperature']:.3g})"))
    if adapted["pose_consistency_off_grid"] is not None:
        lines.append(
            (
                "pose consistency",
                f"ĝ(h·x) = h·ĝ(x) for {100 * adapted['pose_consistency']:.2f} % of turns h, "
                f"off the grid {100 * adapted['pose_consistency_off_grid']:.2f} %",
            )
        )
    change = "max |Δlogit|" if metrics["outputs"] == "logits" else "largest change"
    residuals = f"{100 * adapted['invariance_residual']:.2f} % of images, {change} {adapted['max_logit_delta']:.3g}"
    quarters = adapted["quarter_turns"]
    if adapted["off_grid"] is not None and quarters is not None:
        residuals += (
            f"; by 90° steps {100 * quarters['invariance_residual']:.2f} %, {change} {quarters['max_logit_delta']:.3g}"
        )
    if metrics["trained_base"]:
        lines.append(("network", "fine-tuned; vanilla is this network alone, not the one that was loaded"))
    residuals += f", {adapted['ties']} ties"
    if metrics["reencode"] != NONE:
        residuals += "; compressed again, a picture has other pixels at each turn"
    told = [
        *((name, value) for name, value in metrics.get("facts", ())),
        *lines,
        ("invariance residual", residuals),
        ("added parameters", f"{cost['added_parameters']:,}"),
        *[("relative time", _relative_time(cost))] * _asks(metrics),
        ("operations", _operations(cost, beside=_asks(metrics))),
    ]
    return [(name, _said(metrics, value)) for name, value in told]


def _relative_time(cost: Mapping[str, Any]) -> str:
    low, high = cost["relative_time_range"]
    return f"{cost['relative_time']:.3f} [{low:.3f}, {high:.3f}] (canonicalizer ÷ prediction network)"


def _operations(cost: Mapping[str, Any], *, beside: bool) -> str:
    own, network = cost["canonicalizer_flops"], cost["network_flops"]
    relative = f", {own / network:.3f} of it" if network else ""
    return f"{own / 1e9:.3g} GFLOP an image" + f" beside the network's {network / 1e9:.3g}{relative}" * beside


def _by_shape(adapted: Mapping[str, Any]) -> str:
    shapes = adapted.get("identity_rate_by_shape") or {}
    told = [f"{name} {100 * of['identity_rate']:.1f} % of {of['n']}" for name, of in shapes.items()]
    return f" ({', '.join(told)})" if told else ""


def _angles(metrics: Mapping[str, Any], system: str, *, shown: bool) -> list[Mapping[str, Any]]:
    """The accuracy at each angle, where it has a column."""
    found: list[Mapping[str, Any]] = metrics[system]["per_element"]
    return found if shown and len(found) <= MOST_ANGLES and not _is_random(metrics) else []


def _found_poses(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How often each pose was found, beside a prior that allows several."""
    poses, prior = metrics["adapted"]["poses"], metrics["prior"]
    if poses is None or len(prior) == 1:
        return []
    shares = prior if isinstance(prior, Mapping) else {}
    found = [
        f"{label} {100 * share:.1f} %" + (f" (prior {100 * shares.get(label, 0):.1f} %)" if shares else "")
        for label, share in poses.items()
        if share > 0 or label in prior
    ]
    return [("poses found", ", ".join(found))]


def _by_definition(metrics: Mapping[str, Any], system: str, key: str) -> bool:
    """Whether a score is 1 whatever the images are: of a network that is compared with itself."""
    prior = metrics["prior"]
    main = max(prior, key=prior.__getitem__) if isinstance(prior, Mapping) else prior[0]
    own = system == "oracle" or (system == "vanilla" and main == "r0" and not key.startswith("avg_"))
    return own and metrics["labels"] == "agreement" and metrics[system][key] == 1


def _with_interval(value: float, interval: tuple[float, float] | None, narrow: bool) -> str:
    if interval is None:  # of one sample
        return f"{100 * value:.2f}"
    if not narrow:
        return f"{100 * value:.2f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    below, above = (100 * abs(value - end) for end in interval)
    farther = max(below, above)
    if farther <= 100 * min(value, 1 - value):
        return f"{100 * value:.2f} ±{_distance(farther)}"
    # ± would tell of less than nothing, or of more than all.
    sides = [f"{sign}{_distance(points)}" for sign, points in (("-", below), ("+", above)) if points >= 0.05]
    return " ".join([f"{100 * value:.2f}", *sides])


def _distance(points: float) -> str:
    """In two digits."""
    return f"{points:.1f}" if points < 9.95 else f"{points:.0f}"
