"""How numbers, dates and lists stand on the page and in its charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import PurePosixPath, PureWindowsPath

_NARROW = "\u202f"
_NONE = "–"


def whole_number(value: float | None) -> str:
    """Return 3473 as 3,473."""
    return _NONE if value is None or value != value else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 2, sign: str = "") -> str:
    """Return a number with so many digits after the point and a true minus."""
    return _NONE if value is None or value != value else f"{value:{sign}.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """Return 0.6057 as 60.6 %, with a narrow space that does not break."""
    return _NONE if value is None or value != value else f"{decimal(100 * value, digits)}{_NARROW}%"


def interval_text(ends: Sequence[float | None], digits: int = 2) -> str:
    """Return an interval, its ends as ``decimal``."""
    low, high = (decimal(end, digits) for end in ends)
    return "" if _NONE in (low, high) else f"{low} to {high}"


def percent_interval(ends: Sequence[float | None]) -> str:
    """Return an interval of shares, with one percent sign."""
    text = interval_text([None if end is None else 100 * end for end in ends], 1)
    return text and f"{text}{_NARROW}%"


def dollars(value: float | None) -> str:
    """Return US dollars: whole from a thousand, cents from one, else three significant digits."""
    if value is None or value != value:
        return _NONE
    return f"${value:,.0f}" if value >= 1000 else f"${value:,.2f}" if value >= 1 or not value else f"${value:.3g}"


def day(value: str | None) -> str:
    """Return 2026-11-25 as 25 November 2026; what is no date as it is."""
    try:
        found = date.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return f"{found.day} {found:%B %Y}"


def listed(values: str | Sequence[object]) -> str:
    """Return texts as one, a single one as it is."""
    return values if isinstance(values, str) else ", ".join(map(str, values))


def public_path(text: str) -> str:
    """Return the name of a file that is given by an absolute path, which names its owner; else the text."""
    absolute = next((path for path in (PurePosixPath(text), PureWindowsPath(text)) if path.is_absolute()), None)
    return text if absolute is None else absolute.name
