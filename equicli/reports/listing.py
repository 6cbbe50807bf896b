"""What `equicli inspect` found, as sections of aligned lines that fit a terminal."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from equicli.canonicalization.prior import Prior

WIDTH = 80
FEW = 4  # classes that are shown
TITLES = {
    "run": "Run",
    "model": "Adapted model",
    "adapter": "Adapter, without its prediction network",
    "network": "Pretrained network",
}

Rows = list[tuple[str, Any]]


def listing(found: Mapping[str, Any]) -> str:
    """The listing of what `inspect_artifact` or `inspect_model` returned."""
    network = dict(found["prediction_network"])
    sections: dict[str, Rows] = {}
    if found["kind"] == "network":
        sections[TITLES["network"]] = [("model", found["model"]), *_network(network), ("outputs", _outputs(found))]
    else:
        canonicalizer = found["canonicalizer"]
        sections[TITLES[found["kind"]]] = _artifact(found)
        sections["Canonicalizer"] = [
            ("kind", canonicalizer["kind"]),
            *canonicalizer["spec"].items(),
            ("parameters", _parameters(canonicalizer)),
        ]
        sections["Prediction network"] = _network(network)
    sections["Preprocessing"] = _preprocessing(found["preprocess"])
    sections["Provenance"] = list(found["provenance"].items())
    sections["Remarks"] = [("", remark) for remark in found.get("remarks", ())]
    ...
