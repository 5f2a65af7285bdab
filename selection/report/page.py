"""Figures and charts -> one HTML file that needs nothing else.

Dialogues are hostile text: everything is escaped, and a content security policy allows no request and no script but
the page's own, by its hash.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scorer.apart import check_own
from scorer.outputs import check_new
from selection.report import text
from selection.report.charts.palette import set_colour
from selection.report.numbers import Section
from selection.settings import DOUBT

_TEMPLATES = Path(__file__).parent / "templates"
_FILTERS = {
    "n": text.whole_number,
    "pct": text.percent,
    "f": text.decimal,
    "ci": text.interval_text,
    "pci": text.percent_interval,
    "usd": text.dollars,
    "day": text.day,
    "colour": set_colour,
    "listed": text.listed,
}


def render_report(figures: Section, charts: Mapping[str, str]) -> str:
    """Return the page of a report; ``charts`` are SVG by name and are taken as they are."""
    return render_template(
        "one.html.jinja" if len(figures["sources"]) == 1 else "several.html.jinja",
        **figures,
        charts={name: Markup(svg) for name, svg in charts.items()},  # noqa: S704 - ours
        doubt=DOUBT,
        joints=sum(name.startswith("joint") for name in charts),
    )


def render_template(name: str, **values: Any) -> str:
    """Return a page made from a template of this package; every value is escaped, unless it is Markup.

    All pages have a ``title``, the day they were ``created`` on and the ``version`` that made them.
    """
    style = _source("style.css").replace("DARK", _source("dark.css"))
    script = _source("script.js")
    own = {
        "style": Markup(style),  # noqa: S704 - ours
        "script": Markup(script),  # noqa: S704 - ours
        "script_hash": b64encode(sha256(script.encode()).digest()).decode(),
    }
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    page: str = environment.get_template(name).render(own | values)
    return page.encode("utf-8", "replace").decode() + "\n"  # a lone surrogate cannot be written


def is_page(path: Path) -> bool:
    """Whether a file is a page that was made here."""
    with open(path, "rb") as file:
        return b'name="generator" content="empathy-scorer' in file.read(4096)


def check_page(output: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless a page can be written: it is new, or one from before that may be replaced."""
    check_new(output, overwrite=overwrite)
    check_own(output, is_page, "page")


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
