"""How far the judge's score may lie from the scorer's: a half-width for every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.dialogue import HEADS

COLUMNS = tuple(f"{head}_uncertainty" for head in HEADS)
"""Names of the columns that `empathy score --uncertainty` writes after the scores."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Half-widths a head and region of scores: the judge's lies within score +- width for a share of ``coverage``.

    ``edges`` (R - 1 rising scores) part the scale into R regions, to which ``widths`` (R) belong. That share was
    promised by held-out dialogues of the training domain and holds for others like them, nowhere else.
    """

    edges: Mapping[str, Sequence[float]]
    widths: Mapping[str, Sequence[float]]
    coverage: float

    def of(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return the half-widths of scores, both (N, 2)."""
        columns = [
            np.asarray(self.widths[head])[np.searchsorted(self.edges[head], scores[:, i], side="right")]
            for i, head in enumerate(HEADS)
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return {
            "coverage": self.coverage,
            "edges": {head: list(self.edges[head]) for head in HEADS},
            "widths": {head: list(self.widths[head]) for head in HEADS},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Uncertainty:
        """Return an uncertainty from JSON; KeyError, TypeError or ValueError if it is none."""
        edges = {head: [_number(edge) for edge in value["edges"][head]] for head in HEADS}
        widths = {head: [_number(width) for width in value["widths"][head]] for head in HEADS}
        coverage = _number(value["coverage"])
        for head in HEADS:
            if len(widths[head]) != len(edges[head]) + 1 or edges[head] != sorted(edges[head]):
                raise ValueError(f"uncertainty of {head}: {len(edges[head])} edges and {len(widths[head])} widths")
            if not all(0 <= width <= 10 for width in widths[head]):
                raise ValueError(f"uncertainty of {head}: widths {widths[head]}, expected numbers from 0 to 10")
        if not 0 < coverage < 1:
            raise ValueError(f"uncertainty has coverage {coverage}, expected a share between 0 and 1")
        return cls(edges, widths, coverage)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e300:  # neither NaN, nor too large for a float
        raise ValueError(f"{value!r} in its uncertainty, expected a number")
    return float(value)
