"""Golden files: dialogues with the scores that they are expected to get, and a scorer held against them.

A golden file is JSON lines, each a labelled dialogue of the contract and, optional, ``tolerance``: how far this
dialogue's scores may move. ``GOLDEN.meta.json`` beside it, as beside every score file, says which scorer, engine and
precision gave the scores, with which cuts and threshold they are read, and the default tolerance.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from scorer.apart import check_apart
from scorer.arrays import Floats, Ints, Mask
from scorer.bundle.cuts import read_cuts
from scorer.dialogue import HEADS, SCORE_RANGE, Dialogue
from scorer.engines.base import Scores
from scorer.errors import OutputError, reason_of
from scorer.inputs.corpus import Corpus
from scorer.inputs.cursor import Place
from scorer.inputs.files.sources import Source
from scorer.inputs.json_lines import text_lines
from scorer.inputs.parse import RecordError, Reject, parse_json, parse_record, to_record
from scorer.model import Scorer
from scorer.outputs import check_new, read_json, replacing, writing
from scorer.run.score import run_metadata
from scorer.run.score_file import meta_path, metadata_text
from scorer.run.settings import ScoreSettings
from scorer.settings import in_range
from scorer.values import Line, Rating
from selection.errors import GoldenError
from selection.rules import PAPER
from selection.settings import THRESHOLD_RANGE, CheckSettings

THRESHOLD = 5.0
"""T of the paper rule whose decisions are compared."""

EXACT, LOWER, ACROSS = (1e-3, 0.0), (0.02, 0.01), (0.25, 0.01)
"""How far a score may move and which share of decisions may change: in fp32, in one lower precision, and between two.

Between precisions scores differ by design (the starter's in bf16 by up to 0.16), so there the decisions count, and the
tolerance is a quarter of the judge's step.
"""

_AGAIN = "make the golden file again with --write"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBy:
    """The scorer that gave scores, and how it ran."""

    name: Line
    sha256: Line
    engine: Line
    precision: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenInfo(ScoredBy):
    """GOLDEN.meta.json: what `score` writes beside scores, and the day, the threshold and the default tolerance."""

    written: Line
    cuts: dict[str, list[float]]
    threshold: Annotated[float, Meta(ge=THRESHOLD_RANGE[0], le=THRESHOLD_RANGE[1])]
    tolerance: Rating | None

    def __post_init__(self) -> None:
        """Raise ValueError for cuts that are none."""
        read_cuts(self.cuts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Dialogues, the scores expected of them, (N, 2) float32, and each one's own tolerance, (N,), NaN for none."""

    path: Path
    dialogues: tuple[Dialogue, ...]
    scores: Scores
    own: Floats
    info: GoldenInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """A scorer held against a golden file: what was expected and what came, both (N, 2) float32.

    ``tolerances`` (N,) and ``max_flips`` are those that apply; ``before`` and ``after`` (N,) are the sets of the
    paper rule, each read with its own side's cuts; ``scorer`` is the one that ran.
    """

    golden: Golden
    scores: Scores
    tolerances: Floats
    max_flips: float
    before: Ints
    after: Ints
    scorer: ScoredBy

    @cached_property
    def differences(self) -> Floats:
        """Got less expected, (N, 2); exact, as the difference of two float32 is in float64."""
        return self.scores.astype(np.float64) - self.golden.scores.astype(np.float64)

    @cached_property
    def beyond(self) -> Mask:
        """Whether each score moved beyond its tolerance, (N, 2)."""
        return np.asarray(np.abs(self.differences) > self.tolerances[:, None])

    @cached_property
    def flipped(self) -> Mask:
        """Whether each decision changed, (N,)."""
        return np.asarray(self.before != self.after)

    @property
    def passed(self) -> bool:
        """Whether no score moved beyond its tolerance and no more decisions changed than may."""
        return bool(not self.beyond.any() and self.flipped.mean() <= self.max_flips)

    def moved(self) -> Iterator[dict[str, Any]]:
        """Yield each score beyond its tolerance, and both of each changed decision, largest difference first."""
        concerned = self.beyond | self.flipped[:, None]
        order = np.argsort(-np.abs(self.differences), axis=None, kind="stable")
        for row, i in zip(*np.unravel_index(order, concerned.shape), strict=True):
            if concerned[row, i]:
                yield {
                    "id": self.golden.dialogues[row].id,
                    "head": HEADS[i],
                    "expected": shortest(self.golden.scores[row, i]),
                    "got": shortest(self.scores[row, i]),
                    "difference": float(self.differences[row, i]),
                    "tolerance": float(self.tolerances[row]),
                    "beyond": bool(self.beyond[row, i]),
                    "set_before": PAPER.sets[self.before[row]],
                    "set_after": PAPER.sets[self.after[row]],
                }

    def changes(self) -> list[tuple[tuple[str, str], int]]:
        """Return how many decisions changed from which set to which, the most first."""
        pairs = zip(self.before[self.flipped], self.after[self.flipped], strict=True)
        return Counter((PAPER.sets[before], PAPER.sets[after]) for before, after in pairs).most_common()

    def to_json(self) -> dict[str, Any]:
        """Return everything, as `empathy check --json` writes it."""
        info = self.golden.info
        return {
            "golden": str(self.golden.path),
            "passed": self.passed,
            "dialogues": len(self.scores),
            "beyond_tolerance": int(self.beyond.any(axis=1).sum()),
            "largest_difference": float(np.abs(self.differences).max()),
            "decisions_changed": int(self.flipped.sum()),
            "max_flips": self.max_flips,
            "threshold": info.threshold,
            "changes": [{"before": old, "after": new, "count": n} for (old, new), n in self.changes()],
            "expected": {name: getattr(info, name) for name in (*asdict(self.scorer), "written")},
            "got": self.scorer,
            "moved": list(self.moved()),
        }


def read_golden(path: Path) -> Golden:
    """Return a golden file; GoldenError for a line that is no dialogue with scores, and for a missing record."""
    found: dict[str, Dialogue] = {}
    own, scores = [], []
    for dialogue, tolerance in _lines(path):
        if dialogue.id in found:
            raise GoldenError(f"{path}:{dialogue.line}: id {dialogue.id!a} occurred before, expected unique ids")
        found[dialogue.id] = dialogue
        own.append(tolerance)
        scores.append([getattr(dialogue.labels, head) for head in HEADS])
    if not found:
        raise GoldenError(f"{path}: is empty, expected dialogues with scores; make it with --write")
    try:
        info = read_json(meta_path(path), GoldenInfo, _AGAIN, GoldenError)
    except FileNotFoundError:
        raise GoldenError(f"{meta_path(path)}: is missing, and says whose scores {path.name} has; {_AGAIN}") from None
    return Golden(
        path=path,
        dialogues=tuple(found.values()),
        scores=np.array(scores, dtype=np.float32),
        own=np.array(own, dtype=np.float64),
        info=info,
    )


def write_golden(
    path: Path,
    inputs: Sequence[str],
    scorer: Scorer,
    *,
    tolerance: float | None = None,
    overwrite: bool = False,
    fields: Mapping[str, str] | None = None,
) -> int:
    """Write the dialogues of ``inputs`` with the scorer's scores, and the record beside them; return how many.

    Both files are written whole or not at all. ``overwrite`` replaces a golden file only, and lines whose id it had
    keep their own tolerance. OutputError if it may not be written, GoldenError for a record that is no dialogue.
    """
    if path.suffix != ".jsonl":
        raise OutputError(f"{path}: a golden file is JSON lines, expected a name that ends in .jsonl")
    check_new(path, overwrite=overwrite)
    for written in (path, meta_path(path)):
        check_apart(written, *inputs)
    own: dict[str, float] = {}
    if path.exists():
        old = read_golden(path)
        own = {item.id: float(value) for item, value in zip(old.dialogues, old.own, strict=True) if value >= 0}
    dialogues = []
    for record in Corpus(inputs, fields=fields):
        if isinstance(record, Reject):
            raise GoldenError(f"{record}; a golden file holds dialogues only, so fix or remove this record")
        dialogues.append(record)
    scores = scorer.score(dialogues, progress=False)
    more = {"written": date.today().isoformat(), "threshold": THRESHOLD, "tolerance": tolerance}
    with writing(path), replacing(path) as file, replacing(meta_path(path)) as meta:
        for dialogue, row in zip(dialogues, scores, strict=True):
            expected = {head: shortest(score) for head, score in zip(HEADS, row, strict=True)}
            extra = {"tolerance": own[dialogue.id]} if dialogue.id in own else {}
            file.write(json.dumps(to_record(dialogue, short=True) | expected | extra, ensure_ascii=False) + "\n")
        file.flush()  # a full disk shows before the record takes its name
        meta.write(metadata_text(run_metadata(scorer, ScoreSettings()) | more) + "\n")
    return len(dialogues)


def check_scorer(golden: Golden, scorer: Scorer, settings: CheckSettings) -> Check:
    """Score the dialogues of a golden file and hold the scores against those expected."""
    scores = scorer.score(golden.dialogues, progress=False)
    info, engine = golden.info, scorer.engine
    same = info.precision == engine.precision
    tolerance, flips = ACROSS if not same else EXACT if engine.precision == "fp32" else LOWER
    default = next(value for value in (settings.tolerance, info.tolerance, tolerance) if value is not None)
    return Check(
        golden=golden,
        scores=scores,
        tolerances=np.where(np.isnan(golden.own), default, golden.own),
        max_flips=flips if settings.max_flips is None else settings.max_flips,
        before=PAPER.apply(golden.scores, info.cuts, info.threshold),
        after=PAPER.apply(scores, scorer.bundle.info.cuts, info.threshold),
        scorer=ScoredBy(
            name=scorer.bundle.info.name, sha256=scorer.bundle.sha256, engine=engine.name, precision=engine.precision
        ),
    )


def shortest(score: np.float32) -> float:
    """Return the number whose decimals are the fewest that give the same float32."""
    return float(str(score))


def _lines(path: Path) -> Iterator[tuple[Dialogue, float]]:
    """Yield each line's dialogue, with its labels, and its own tolerance, NaN for none."""
    place = Place(Source(str(path)), "required")
    try:
        with open(path, "rb") as stream:
            for text in text_lines(stream, place):
                if isinstance(text, Reject):
                    raise GoldenError(str(text))
                value = parse_json(text)
                dialogue = parse_record(value, labels="required", source=str(path), line=place.line)
                tolerance = value.get("tolerance")
                if tolerance is not None and not in_range(tolerance, *SCORE_RANGE):
                    what = f"tolerance is {ascii(tolerance)[:60]}, expected a number from 0 to 10"
                    raise GoldenError(f"{path}:{place.line}: {what}")
                yield dialogue, np.nan if tolerance is None else float(tolerance)
    except RecordError as error:
        raise GoldenError(f"{path}:{place.line}: {error}") from None
    except OSError as error:
        raise GoldenError(f"{path}: cannot be read: {reason_of(error)}") from None
