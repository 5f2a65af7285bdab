"""The numbers of a report, section by section."""

from typing import Any

Section = dict[str, Any]
"""Numbers as the page and JSON hold them. A section that lacks its data is ``{"needs": what it would take}``."""
