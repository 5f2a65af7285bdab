"""The kinds of bad replies, and the scores that the rubric gives them."""

from __future__ import annotations

TARGETS: dict[str, tuple[float, float]] = {
    "hostile": (0, 1),
    "contempt": (0, 1.5),
    "dismissive": (1, 2),
    "filler": (1, 0.5),
    "refusal": (1, 2),
    "injection": (0, 0.5),
    "salad": (0.5, 0),
    "letters": (0, 0),
    "loop": (1, 0.5),
    "echo": (1, 0.5),
    "unrelated": (2, 1),
}
"""Each kind's sensibility and rationality, 0 to 10, by the rubric's descriptions of 0 to 3."""
