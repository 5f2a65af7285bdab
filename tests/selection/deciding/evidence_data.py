"""What is known of dialogues when they are dealt, for the tests of the decision."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from scorer.bundle.cuts import Cuts
from scorer.bundle.uncertainty import Uncertainty
from selection.deciding.decide import Decision, Evidence
from selection.deciding.ranking import Units

Columns = TypeVar("Columns", Evidence, Decision, Units)
SHRUNK: Cuts = {
    "sensibility": [2, 2.5, 3, 3.5, 4, 4.75, 5.5, 6.5, 7, 8],
    "rationality": [1, 2.25, 3.25, 4, 4.5, 5, 5.5, 6, 7, 8.5],
}
ERROR = Uncertainty(
    edges={"sensibility": [5.0], "rationality": []},
    widths={"sensibility": [2.0, 3.0], "rationality": [2.5]},
    coverage=0.9,
)


def make_evidence(count: int = 300, seed: int = 0, **more: Any) -> Evidence:
    """Return dialogues in conversations of one to six, with many ties, three categories and some of none."""
    rng = np.random.default_rng(seed)
    known: dict[str, Any] = {
        "scores": np.round(rng.normal((5.6, 4.6), 1.6, (count, 2)).clip(0, 10) * 4) / 4,
        "cuts": SHRUNK,
        "judged": np.zeros(count, dtype=bool),
        "error": None,
        "hashes": rng.integers(0, 1 << 64, count, dtype=np.uint64),
        "conversations": np.sort(rng.integers(0, max(1, count // 3), count)).astype(np.uint64) * np.uint64(7919),
        "categories": rng.integers(-1, 3, count),
        "tokens": rng.integers(1, 40, count),
    }
    known |= more
    known["scores"] = np.asarray(known["scores"], dtype=np.float32)
    return Evidence(**known)


def some_judged(evidence: Evidence, share: float = 0.3) -> Evidence:
    """Return them with the judge's integers on a share of them."""
    rng = np.random.default_rng(9)
    judged = rng.random(len(evidence)) < share
    return replace(evidence, judged=judged, scores=np.where(judged[:, None], evidence.scores.round(), evidence.scores))


def sets(decision: Decision) -> list[str]:
    """Return the set of each dialogue."""
    return [decision.names[code] for code in decision.sets]


def reasons(decision: Decision) -> list[str]:
    """Return the reason of each dialogue."""
    return [decision.texts[code] for code in decision.reasons]


def rows(of: Columns, order: npt.NDArray[np.int64]) -> Columns:
    """Return the same rows in another order."""
    known = {field.name: getattr(of, field.name) for field in fields(of)}
    moved: dict[str, Any] = {name: value[order] for name, value in known.items() if isinstance(value, np.ndarray)}
    return replace(of, **moved)
