"""Figures and charts -> one HTML file that needs nothing else.

Dialogues are hostile text: everything is escaped, and a content security policy allows no request and no script but
the page's own, by its hash.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from selection.deciding.stability import DOUBT
from selection.report.charts.draw import MOST_JOINTS
from selection.report.charts.style import set_colour

_TEMPLATES = Path(__file__).parent / "templates"
_NARROW = "\u202f"
_NONE = "–"


def render(figures: Mapping[str, Any], charts: Mapping[str, str]) -> str:
    """Return the page; ``charts`` are SVG by name and are taken as they are."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "n": whole_number,
        "pct": percent,
        "f": decimal,
        "ci": interval,
        "pci": percent_interval,
        "usd": dollars,
        "day": day,
        "colour": set_colour,
        "listed": listed,
    }
    style = _text("style.css").replace("DARK", _text("dark.css"))
    script = _text("script.js")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    template = "one.html.jinja" if len(figures["sources"]) == 1 else "several.html.jinja"
    page: str = environment.get_template(template).render(
        figures,
        charts={name: Markup(svg) for name, svg in charts.items()},  # noqa: S704 - ours
        style=Markup(style),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_hash=digest,
        doubt=DOUBT,
        most_joints=MOST_JOINTS,
    )
    return page.encode("utf-8", "replace").decode() + "\n"  # a lone surrogate cannot be written


def whole_number(value: float | None) -> str:
    """Return 3473 as 3,473."""
    return _NONE if _unknown(value) else f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return 0.6057 as 60.6 %, with a narrow space that does not break."""
    return _NONE if _unknown(value) else _minus(f"{100 * float(value or 0):.{digits}f}{_NARROW}%")


def decimal(value: float | None, digits: int = 2, sign: str = "") -> str:
    """Return a number with so many digits after the point and a true minus."""
    return _NONE if _unknown(value) else _minus(f"{value:{sign}.{digits}f}")


def interval(ends: Sequence[float | None], digits: int = 2) -> str:
    """Return an interval, its ends as ``decimal``."""
    return "" if any(map(_unknown, ends)) else f"{decimal(ends[0], digits)} to {decimal(ends[1], digits)}"


def percent_interval(ends: Sequence[float | None]) -> str:
    """Return an interval of shares, the sign once."""
    if any(map(_unknown, ends)):
        return ""
    low, high = (100 * float(end or 0) for end in ends)
    return f"{low:.1f} to {high:.1f}{_NARROW}%"


def dollars(value: float | None) -> str:
    """Return US dollars: cents above ten, else three significant digits."""
    if _unknown(value):
        return _NONE
    amount = float(value or 0)
    return f"${amount:,.0f}" if amount >= 1000 else f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.3g}"


def day(value: str | None) -> str:
    """Return 2026-11-25 as 25 November 2026; what is no date as it is."""
    try:
        found = date.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return f"{found.day} {found:%B %Y}"


def listed(values: Any) -> str:
    """Return texts as one, a single one as it is."""
    return values if isinstance(values, str) else ", ".join(map(str, values))


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _unknown(value: float | None) -> bool:
    return value is None or value != value


def _minus(text: str) -> str:
    return text.replace("-", "−")
