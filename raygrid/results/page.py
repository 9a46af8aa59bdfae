"""The page that all reports share: one self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

from raygrid.results.svg import STYLE


@dataclass(frozen=True)
class Tile:
    """A key figure with its name and a word of detail."""

    name: str
    value: str
    detail: str = ""


def render_page(**values: Any) -> str:
    """The page as HTML; every text is escaped.

    Parameters
    ----------
    **values
        What `templates/report.html` shows.
    """
    from jinja2 import Environment, StrictUndefined

    # Only the SVG, which escapes its own texts, and the style sheet are passed as markup.
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("raygrid.results").joinpath("templates/report.html")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(chart_style=STYLE, **values)
