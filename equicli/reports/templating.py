"""The environments that templates of reports are filled in by."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

_SETTINGS: dict[str, Any] = {
    "loader": PackageLoader("equicli.reports", "templates"),
    "undefined": StrictUndefined,
    "keep_trailing_newline": True,
    "trim_blocks": True,
    "lstrip_blocks": True,
}
PLAIN = Environment(autoescape=False, **_SETTINGS)  # Markdown
HTML = Environment(autoescape=True, **_SETTINGS)
# LaTeX is full of braces.
LATEX = Environment(
    autoescape=False, variable_start_string="<<", variable_end_string=">>",
    block_start_string="<%", block_end_string="%>", **_SETTINGS,
)  # fmt: skip
