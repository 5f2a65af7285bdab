"""The colours of a report: CSS variables, so that one drawing serves light and dark."""

from __future__ import annotations

INK, MUTED, GRID, LINE, PAPER, ON_STEP = (
    f"var(--{name})" for name in ("ink", "muted", "grid", "line", "paper", "on-step")
)
STEPS = tuple(f"var(--step-{k})" for k in range(1, 8))
"""Colours of a quantity, from little to much."""

DIVERGING = tuple(f"var(--div-{k})" for k in range(1, 8))
"""Colours of a difference, from below over none to above."""

SOURCES = tuple(f"var(--source-{k})" for k in range(1, 7))

_ROLES = {"sensibility": 1, "selected": 1, "rationality": 2, "rational": 2, "discard": 3, "neutral": 3, "rest": 3}


def set_colour(name: str) -> str:
    """Return a set's colour, the same everywhere on the page."""
    return f"var(--set-{_ROLES.get(name, 4)})"
