"""What the tests of score files and of selections share: score files as `empathy score` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scorer.dialogue import HEADS
from scorer.reading.windows import Tally, Window
from scorer.run.manifest import Identity
from scorer.run.output import Run
from scorer.run.settings import ScoreSettings

CUTS = {
    "sensibility": [1.0, 2.0, 3.0, 4.0, 4.625, 5.375, 6.25, 7.0, 8.0, 9.0],
    "rationality": [0.25, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
}
"""Of a scorer whose scores shrink to the mean: S > 5 above 5.375, S < 5 up to 4.625; R > 5 above 5, R < 5 up to 4."""

HALF_WIDTHS = {"coverage": 0.9, "edges": {head: [] for head in HEADS}, "widths": {head: [1.5] for head in HEADS}}
ABOUT = {"name": "shrunk", "sha256": "ab" * 32, "cuts": CUTS, "half_widths": HALF_WIDTHS, "judge": "judge-1"}

Pair = tuple[float, float]
Scores = Mapping[str, Pair]
KINDS = ("scores.parquet", "scores.jsonl", "scores.csv", "scores")

# By hand, at T = 5: the set by CUTS, the set by the judge's own cuts.
BY_HAND: dict[str, tuple[Pair, str, str]] = {
    "a": ((5.5, 3.75), "sensibility", "rationality"),
    "b": ((5.375, 3.75), "rationality", "rationality"),
    "c": ((4.625, 5.125), "discard", "rationality"),
    "d": ((4.75, 9.0), "rationality", "rationality"),
    "e": ((9.0, 4.0), "sensibility", "sensibility"),
    "f": ((9.0, 4.125), "rationality", "sensibility"),
    "g": ((0.0, 10.0), "discard", "discard"),
}
SCORES: Scores = {id_: scores for id_, (scores, *_) in BY_HAND.items()}

OUTSIDE = {"outside_share": 0.5, "outside": {"dialogues": len(SCORES), "counts": {"any": 1}, "of_training": 0.5}}
"""What scores in one shard say of the training domain besides."""


def write_scores(
    path: Path,
    scores: Scores | Sequence[tuple[str, Pair]] = SCORES,
    about: Mapping[str, Any] = ABOUT,
    *,
    shards: int = 1,
    finish: bool = True,
) -> Path:
    """Write scores as `empathy score` does, by what it writes them with."""
    rows = list(scores.items() if isinstance(scores, Mapping) else scores)
    identity = Identity(scorer="", engine="", precision="", window=1, uncertainty=False, shards=1)
    with Run(path, identity, {"sha256": None, "outside_share": 0.5, **about}, ScoreSettings()) as run:
        for number in range(shards):
            part = rows[number * len(rows) // shards : (number + 1) * len(rows) // shards]
            values = np.array([pair for _, pair in part], dtype=np.float32).reshape(-1, 2)
            tally = Tally(scored=len(part), outside={"any": 1})
            run.add(Window(number, str(number), tally), [id_ for id_, _ in part], values, [])
        if finish:
            run.finish()
    return path
