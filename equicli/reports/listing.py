"""What `equicli inspect` found, as sections of aligned lines that fit a terminal."""

import textwrap
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from equicli.canonicalization.prior import Prior
from equicli.errors import shown

WIDTH = 80
COLUMN = WIDTH - 64  # where values begin, so that a SHA-256 fits the line
FEW = 4  # of the classes are shown
TITLES = {"run": "Run", "model": "Adapted model", "adapter": "Adapter", "network": "Pretrained network"}

Rows = Mapping[str, Any]


def listing(found: Mapping[str, Any]) -> str:
    """Write out what `inspect_artifact` or `inspect_model` returned."""
    sections = _of_network(found) if found["kind"] == "network" else _of_artifact(found)
    sections |= {"Preprocessing": _preprocessing(found["preprocess"]), "Provenance": found["provenance"]}
    texts = {title: {name: _text(value) for name, value in rows.items()} for title, rows in sections.items()}
    column = max(COLUMN, *(3 + len(name) for rows in texts.values() for name in rows))
    blocks = [
        "\n".join([title, *(_wrap(f"  {shown(name)}".ljust(column), text) for name, text in rows.items() if text)])
        for title, rows in texts.items()
    ]
    if found.get("remarks"):
        blocks.append("\n".join(["Remarks", *(_wrap("  ", remark) for remark in found["remarks"])]))
    return "\n\n".join(blocks)


def _of_artifact(found: Mapping[str, Any]) -> dict[str, Rows]:
    labels, canonicalizer = found["labels"], found["canonicalizer"]
    where = " in this file" if found["kind"] == "adapter" else ""
    return {
        TITLES[found["kind"]]: {
            "path": found["path"],
            "size": f"{found['bytes']:,} bytes",
            "sha256": found["sha256"],
            "task": found["task"],
            "group": found["group"],
            "prior": str(Prior(**found["prior"])),
            "padding": found["padding"],
            "classes": _classes(labels, found["class_names"]),
            "pictures": "" if found["pictures_seen"] is None else f"{found['pictures_seen']:,} seen in training",
        },
        "Canonicalizer": {
            "kind": canonicalizer["kind"],
            **canonicalizer["spec"],
            "parameters": _parameters(canonicalizer),
            "source": canonicalizer["source"],
            "policy": _policy(found["policy"]),
        },
        "Prediction network": {
            **_network(found["prediction_network"], where),
            "weights": "fine-tuned; provenance tells from what" if found["trained_base"] else "",
        },
    }


def _of_network(found: Mapping[str, Any]) -> dict[str, Rows]:
    outputs, names = found["outputs"], found["class_names"]
    known = ((f"{first} ({also[0]})" if also else first, i) for i, (first, *also) in enumerate(names or ()))
    return {
        TITLES["network"]: {
            "model": found["model"],
            **_network(found["prediction_network"]),
            "outputs": "unknown" if outputs is None else outputs,
            "classes": _examples(known) if names else "not named",
        }
    }


def _classes(labels: Mapping[str, int], names: Iterable[Iterable[str]]) -> str:
    """The classes of the dataset, or of one without labels the network's own."""
    if labels:
        return f"{len(labels)}: {_examples(labels.items())}"
    own = [(first, output) for output, (first, *_) in enumerate(names)]
    return f"the network's own {len(own)}: {_examples(own)}" if own else ""


def _policy(policy: Mapping[str, Any]) -> str:
    if policy["kind"] == "mean":
        return f"mean of the {policy['of']} at all poses"
    if policy["kind"] == "gate":
        likeliest = (
            f"the {policy['most']} likeliest poses where the one found is less than {policy['threshold']:.0%} sure"
        )
        return f"{likeliest} ({policy['combine']} of them, by {policy['evidence']})"
    return "one pass, at the pose found"


def _network(network: Mapping[str, Any], where: str = "") -> Rows:
    outputs = network["head_outputs"]
    return {
        "library": network["library"],
        "architecture": network["architecture"],
        "arguments": network["arguments"],
        "last layer": f"replaced by one of {outputs} outputs" if outputs is not None else "",
        "parameters": _parameters(network, where),
    }


def _parameters(part: Mapping[str, Any], where: str = "") -> str:
    return f"{part['parameters']:,} ({part['dtype']}){where}" if part["parameters"] else f"none{where}"


def _preprocessing(preprocess: Mapping[str, Any]) -> Rows:
    if "points" in preprocess:  # of clouds
        return dict(preprocess)
    size, resize = preprocess["size"], preprocess["resize"]
    edges = "both edges" if preprocess["squash"] else "the shorter edge"
    sized = {
        "resize": f"{edges} to {resize} pixels, {preprocess['interpolation']}",
        "crop": f"the central {size} x {size}",
    }
    return {
        **({"images": "as they are"} if size is None or resize is None else sized),
        "mean": preprocess["mean"],
        "std": preprocess["std"],
    }


def _examples(classes: Iterable[tuple[str, int]]) -> str:
    texts = [f"{name} = {output}" for name, output in islice(classes, FEW + 1)]
    return ", ".join([*texts[:FEW], "…"] if len(texts) > FEW else texts)


def _text(value: Any) -> str:
    """A value of a specification in a line; what is not set is left out."""
    if isinstance(value, Mapping):
        items = ((key, _text(item), isinstance(item, Mapping)) for key, item in value.items())
        return ", ".join(f"{key}=({text})" if nested else f"{key}={text}" for key, text, nested in items if text)
    if isinstance(value, list | tuple):
        return " ".join(f"({_text(item)})" if isinstance(item, list | tuple) else _text(item) for item in value)
    return "" if value is None else str(value)


def _wrap(label: str, text: str) -> str:
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(map(shown, lines))  # names in files of others could steer the terminal
