"""The live page: one file that loads nothing, fed by a stream of events."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from selection import report

_TEMPLATES = Path(__file__).parent / "templates"
_REPORT = Path(report.__file__).parent / "templates"
"""The page looks as a report does."""


def page_and_policy() -> tuple[str, str]:
    """Return the page and the content security policy that it is to be served with: no script but its own."""
    style = _read(_REPORT / "style.css").replace("DARK", _read(_REPORT / "dark.css")) + _read(_TEMPLATES / "live.css")
    script = _read(_TEMPLATES / "live.js")
    page = _read(_TEMPLATES / "live.html")
    for name, value in (("VERSION", version("empathy-scorer")), ("STYLE", style), ("SCRIPT", script)):
        page = page.replace(f"{{{{ {name} }}}}", value)
    allowed = [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return page, "; ".join(allowed)


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
