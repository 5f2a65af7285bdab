"""Golden files: dialogues with the scores that they are expected to get, and a scorer held against them.

A golden file is JSON lines, each a labelled dialogue of the contract and, optional, ``tolerance``: how far this
dialogue's scores may move. ``GOLDEN.meta.json`` beside it, as beside every score file, says which scorer, engine and
precision gave the scores, with which cuts and threshold they are read, and the default tolerance.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.cuts import Cuts, read_cuts
from scorer.dialogue import HEADS, SCORE_RANGE, Dialogue
from scorer.engines.base import Scores
from scorer.errors import OutputError, reason_of
from scorer.inputs.corpus import Corpus
from scorer.inputs.cursor import Place
from scorer.inputs.json_lines import text_lines
from scorer.inputs.parse import RecordError, Reject, parse_json, parse_record, to_record
from scorer.inputs.sources import Source
from scorer.model import Scorer
from scorer.outputs import replacing, writing
from scorer.run.score import run_metadata
from scorer.run.score_file import meta_path, read_metadata
from scorer.run.settings import ScoreSettings
from scorer.settings import in_range
from selection.errors import GoldenError
from selection.rules import PAPER, Sets, per_head

THRESHOLD = 5.0
"""T of the paper rule whose decisions are compared."""

EXACT, LOWER, ACROSS = (1e-3, 0.0), (0.02, 0.01), (0.25, 0.01)
"""How far a score may move and which share of decisions may change: in fp32, in one lower precision, and between two.

Between precisions scores differ by design (the starter's in bf16 by up to 0.16), so there the decisions count, and the
tolerance is a quarter of the judge's step.
"""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far scores may move and which share of decisions may change; None is the default.

    ``tolerance`` (0 to 10) None is the golden file's, else that of the precisions (``EXACT``, ``LOWER``, ``ACROSS``);
    a line's own comes first. ``max_flips`` (0 to 1) None is that of the precisions.
    """

    tolerance: float | None = None
    max_flips: float | None = None

    def __post_init__(self) -> None:
        """Check both; GoldenError gives the value and what was expected."""
        _check_tolerance(self.tolerance, "--tolerance")
        if self.max_flips is not None and not 0 <= self.max_flips <= 1:  # NaN is in no range
            raise GoldenError(f"--max-flips is {self.max_flips}, expected a share from 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Dialogues, the scores expected of them, (N, 2) float32, and each one's own tolerance, (N,), NaN for none.

    ``metadata`` is GOLDEN.meta.json: what `score` writes beside scores, and ``written``, ``threshold`` and
    ``tolerance`` (None for the default of the precision); ``cuts`` and ``threshold`` are its, as numbers.
    """

    path: Path
    dialogues: tuple[Dialogue, ...]
    scores: Scores
    own: Floats
    metadata: Mapping[str, Any]
    cuts: Cuts
    threshold: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Check:
    """A scorer held against a golden file: what was expected and what came, both (N, 2) float32.

    ``tolerances`` (N,) and ``max_flips`` are those that apply; ``before`` and ``after`` (N,) are the sets of the
    paper rule, each read with its own side's cuts; ``metadata`` is of the scorer as it ran.
    """

    golden: Golden
    scores: Scores
    tolerances: Floats
    max_flips: float
    before: Sets
    after: Sets
    metadata: Mapping[str, Any]

    @cached_property
    def differences(self) -> Floats:
        """Got less expected, (N, 2); exact, as the difference of two float32 is in float64."""
        return self.scores.astype(np.float64) - self.golden.scores.astype(np.float64)

    @cached_property
    def beyond(self) -> npt.NDArray[np.bool_]:
        """Whether each score moved beyond its tolerance, (N, 2)."""
        return np.asarray(np.abs(self.differences) > self.tolerances[:, None])

    @cached_property
    def flipped(self) -> npt.NDArray[np.bool_]:
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
        return {
            "golden": str(self.golden.path),
            "passed": self.passed,
            "dialogues": len(self.scores),
            "beyond_tolerance": int(self.beyond.any(axis=1).sum()),
            "largest_difference": float(np.abs(self.differences).max()),
            "decisions_changed": int(self.flipped.sum()),
            "max_flips": self.max_flips,
            "threshold": self.golden.threshold,
            "changes": [{"before": old, "after": new, "count": n} for (old, new), n in self.changes()],
            "expected": _side(self.golden.metadata) | {"written": self.golden.metadata["written"]},
            "got": _side(self.metadata),
            "moved": list(self.moved()),
        }


def read_golden(path: Path) -> Golden:
    """Return a golden file; GoldenError for a line that is no dialogue with scores, and for a missing record."""
    found: dict[str, Dialogue] = {}
    own = []
    for dialogue, tolerance in _lines(path):
        if dialogue.id in found:
            raise GoldenError(f"{path}:{dialogue.line}: id {dialogue.id!a} occurred before, expected unique ids")
        found[dialogue.id] = dialogue
        own.append(tolerance)
    if not found:
        raise GoldenError(f"{path}: is empty, expected dialogues with scores; make it with --write")
    metadata = read_metadata(path)
    cuts, threshold = _check_metadata(metadata, path)
    labels = [dialogue.labels for dialogue in found.values()]
    scores = np.array([[getattr(entry, head) for head in HEADS] for entry in labels], dtype=np.float32)
    return Golden(
        path=path,
        dialogues=tuple(found.values()),
        scores=scores,
        own=np.array(own, dtype=np.float64),
        metadata=metadata,
        cuts=cuts,
        threshold=threshold,
    )


def write_golden(
    path: Path, inputs: Sequence[str], scorer: Scorer, *, tolerance: float | None = None, overwrite: bool = False
) -> int:
    """Write the dialogues of ``inputs`` with the scorer's scores, and the record beside them; return how many.

    Both files are written whole or not at all. ``overwrite`` replaces a golden file only, and lines whose id it had
    keep their own tolerance. OutputError if it may not be written, GoldenError for a record that is no dialogue.
    """
    _check_writable(path, overwrite=overwrite)
    own: dict[str, float] = {}
    if path.exists():
        old = read_golden(path)
        own = {item.id: float(value) for item, value in zip(old.dialogues, old.own, strict=True) if value >= 0}
    dialogues = []
    for record in Corpus(inputs):
        if isinstance(record, Reject):
            raise GoldenError(f"{record}; a golden file holds dialogues only, so mend or remove this record")
        dialogues.append(record)
    scores = scorer.score(dialogues)
    metadata = run_metadata(scorer, ScoreSettings()) | {
        "written": date.today().isoformat(),
        "threshold": THRESHOLD,
        "tolerance": tolerance,
    }
    with writing(path), replacing(path) as file, replacing(meta_path(path)) as meta:
        for dialogue, row in zip(dialogues, scores, strict=True):
            expected = {head: shortest(score) for head, score in zip(HEADS, row, strict=True)}
            extra = {"tolerance": own[dialogue.id]} if dialogue.id in own else {}
            file.write(json.dumps(to_record(dialogue, short=True) | expected | extra, ensure_ascii=False) + "\n")
        file.flush()  # a full disk shows before the record takes its name
        meta.write(json.dumps(metadata, sort_keys=True) + "\n")
    return len(dialogues)


def compare(golden: Golden, scorer: Scorer, limits: Limits) -> Check:
    """Score the dialogues of a golden file and hold the scores against those expected."""
    scores = scorer.score(golden.dialogues)
    expected, metadata = golden.metadata, run_metadata(scorer, ScoreSettings())
    same = expected["precision"] == metadata["precision"]
    tolerance, flips = ACROSS if not same else EXACT if metadata["precision"] == "fp32" else LOWER
    default = next(value for value in (limits.tolerance, expected["tolerance"], tolerance) if value is not None)
    return Check(
        golden=golden,
        scores=scores,
        metadata=metadata,
        tolerances=np.where(np.isnan(golden.own), default, golden.own),
        max_flips=flips if limits.max_flips is None else limits.max_flips,
        before=PAPER.apply(golden.scores, golden.cuts, golden.threshold),
        after=PAPER.apply(scores, scorer.bundle.cuts, golden.threshold),
    )


def shortest(score: np.float32) -> float:
    """Return the number whose decimals are the fewest that give the same float32."""
    return float(str(score))


def _check_writable(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ".jsonl":
        raise OutputError(f"{path}: a golden file is JSON lines, expected a name that ends in .jsonl")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; name another golden file or say --overwrite")


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
                _check_tolerance(tolerance, f"{path}:{place.line}: tolerance")
                yield dialogue, np.nan if tolerance is None else float(tolerance)
    except RecordError as error:
        raise GoldenError(f"{path}:{place.line}: {error}") from None
    except OSError as error:
        raise GoldenError(f"{path}: cannot be read: {reason_of(error)}") from None


def _check_tolerance(value: Any, what: str) -> None:
    low, high = SCORE_RANGE
    if value is not None and not in_range(value, low, high):
        raise GoldenError(f"{what} is {ascii(value)[:60]}, expected a number from {low:g} to {high:g}")


def _check_metadata(metadata: Mapping[str, Any], path: Path) -> tuple[Cuts, float]:
    """Return the cuts and the threshold of a record; GoldenError unless it has all that a check reads."""
    where = meta_path(path)
    if not metadata:
        raise GoldenError(f"{where}: is missing, and says whose scores {path.name} has; make both with --write")
    try:
        for name in ("name", "sha256", "engine", "precision", "written"):
            if not isinstance(metadata[name], str) or not metadata[name].isprintable():
                raise TypeError(f"{name} is {metadata[name]!a}, expected text")
        _check_tolerance(metadata["tolerance"], f"{where}: tolerance")
        threshold, _ = per_head(float(metadata["threshold"]))
        return read_cuts(metadata["cuts"]), threshold
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise GoldenError(f"{where}: {what}; make the golden file again with --write") from None


def _side(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metadata[name] for name in ("name", "sha256", "engine", "precision")}
