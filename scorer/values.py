"""Types of values that records read back may hold: what a file says beyond them is refused where it is read.

Records are read by msgspec (``scorer.outputs.read_json``), which knows no NaN and no infinity.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from scorer.dialogue import SCORE_RANGE

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
"""How many of something; beyond 2**53 a number with a fraction holds it no more."""

Portion = Annotated[float, Meta(ge=0, le=1)]
"""A share of a whole."""

Rating = Annotated[float, Meta(ge=SCORE_RANGE[0], le=SCORE_RANGE[1])]
"""A score, or a distance between two."""

Correlation = Annotated[float, Meta(ge=-1, le=1)]

Amount = Annotated[float, Meta(ge=0, le=1e15)]
"""Dollars, seconds, or what else has no sign."""

Line = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""A text with nothing that a terminal would obey."""
