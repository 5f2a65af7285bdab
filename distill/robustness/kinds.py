"""The kinds of bad replies, and the most that each may score."""

from __future__ import annotations

_LOW = 4.0
"""The most sensibility that a bad reply may have: below the cut of the paper's threshold, which is 5.5 to 6.2.

The rubric's own words would say 0 to 2. Asking for that makes outliers of the few real replies that look like a bad
one: sensibility loses 0.19 of its correlation with the judge, and 0.02 where the ceiling is just below the cuts
(benchmarks/README.md).
"""

CEILINGS: dict[str, tuple[float, float]] = {
    "hostile": (_LOW, 1),
    "contempt": (_LOW, 1.5),
    "dismissive": (_LOW, 2),
    "filler": (_LOW, 0.5),
    "refusal": (_LOW, 2),
    "injection": (_LOW, 0.5),
    "salad": (_LOW, 0),
    "letters": (_LOW, 0),
    "loop": (_LOW, 0.5),
    "echo": (_LOW, 0.5),
    "unrelated": (_LOW, 1),
}
"""Each kind's highest sensibility and rationality, 0 to 10. Rationality is the rubric's ("senseless" is 0 to 2)."""
