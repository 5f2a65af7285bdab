"""How far the judge's score may be from the scorer's: a half-width for every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.dialogue import HEADS
from scorer.values import Rating

UNCERTAINTY_COLUMNS = tuple(f"{head}_uncertainty" for head in HEADS)
"""Names of the columns that `empathy score --uncertainty` writes after the scores."""


_Edge = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]  # NaN is no JSON, and what reads metadata takes it


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """Half-widths per head and region of scores: the judge's is within score +- width for a share of ``coverage``.

    ``edges`` (R - 1 ascending scores) part the scale into R regions, to which ``widths`` (R) belong. That share was
    promised by held-out dialogues of the training domain and holds for others like them, nowhere else.
    """

    coverage: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    edges: Mapping[str, Sequence[_Edge]]
    widths: Mapping[str, Sequence[Rating]]

    def __post_init__(self) -> None:
        """Raise ValueError where edges and widths do not fit each other."""
        for head in HEADS:
            edges, widths = self.edges.get(head), self.widths.get(head)
            if edges is None or widths is None:
                raise ValueError(f"uncertainty of {head} is missing")
            if len(widths) != len(edges) + 1 or list(edges) != sorted(edges):
                raise ValueError(f"uncertainty of {head}: {len(edges)} edges and {len(widths)} widths")

    def of(self, scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return the half-widths of scores, both (N, 2), or both (2,); NaN for NaN."""
        columns = [
            np.asarray(self.widths[head])[np.searchsorted(self.edges[head], scores[..., i], side="right")]
            for i, head in enumerate(HEADS)
        ]
        return np.where(np.isnan(scores), np.nan, np.stack(columns, axis=-1)).astype(np.float32)
