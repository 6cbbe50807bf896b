"""report.md and the model card, from templates."""

from collections.abc import Mapping
from typing import Any

from equicli.canonicalization.registry import kinds_for
from equicli.errors import said_of
from equicli.groups import parse_group
from equicli.reports import curve, table
from equicli.reports.card_metadata import front_matter
from equicli.reports.templating import PLAIN


def report(metrics: Mapping[str, Any]) -> str:
    """The report of one evaluation, as Markdown."""
    return PLAIN.get_template("report.md").render(**_context(metrics), curve=curve.section(metrics))


def model_card(metrics: Mapping[str, Any], config: Mapping[str, Any], licence: str | None = None) -> str:
    """A Hub model card, with metadata, for the run's artifact.

    Args:
        licence: of the base model, where it is known.
    """
    source = config["provenance"]
    return PLAIN.get_template("card.md").render(
        **_context(metrics),
        config=config,
        source=source,
        front_matter=front_matter(metrics, config, licence),
        licence=licence,
        method=kinds_for(parse_group(metrics["group"]))[config["canonicalizer"]["kind"]].method,
    )


def _context(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "metrics": metrics,
        "provenance": metrics["provenance"],
        "header": table.header(metrics),
        "lost": metrics.get("lost_most", []),
        "rows": table.rows(metrics),
        "caption": table.caption(metrics),
        "facts": table.facts(metrics),
        "left_out": table.left_out(metrics),
        "definitions": table.definitions(metrics),
        "of_facts": [
            (name, said_of(metrics.get("things", "images"), table.FACTS[name]))
            for name, _ in table.facts(metrics)
            if name in table.FACTS
        ],
    }
