"""The pages' templates: their folder, the functions that they may call, and rendering."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.output_files import has_mark
from pipeline.report import camera_grid, figures

MARK = b'<meta name="generator" content="regallery">'
"""The mark in the head of every page, as in `frame.html`."""


def fill_template(template: str, **values: Any) -> str:
    """Fill a template of this folder with values, as a page; the same values give the same page."""
    page = _environment().get_template(template).render(values)
    # A path may have bytes that are not UTF-8; they are shown as escapes.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def is_page(path: Path) -> bool:
    """Whether a file is a page that was made here."""
    return has_mark(path, MARK)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in (
        "SHOWN_RATES",
        "count",
        "figure",
        "gain",
        "gain_interval",
        "gain_span",
        "is_transductive",
        "label",
        "may_be_chance",
        "operating_point",
        "pairs",
        "percent",
        "points",
        "power",
        "ranks",
        "scalar",
        "seconds",
        "span",
    ):
        environment.globals[name] = getattr(figures, name)
    for name in ("SHOWN", "busiest", "camera_grid"):
        environment.globals[name] = getattr(camera_grid, name)
    return environment
