"""How far two raters of the same dialogues agree: judge and scorer, or judge and judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import AgreementError
from distill.labelled import LabelledSet
from distill.panel.agreement import PanelAgreement
from distill.training.calibrate import cross_levels
from scorer.bundle.bundle import Bundle
from scorer.bundle.cuts import read_cuts
from scorer.dialogue import HEADS, Labels
from scorer.errors import reason_of
from scorer.model import Scorer
from scorer.run.score_table import read_columns, said_of_scorer
from selection.metrics import DRAWS, Pair, all_figures, bootstrap
from selection.rules import to_levels

MIN_PAIRS = 10


@dataclass(slots=True, eq=False)
class Agreement:
    """What a comparison came to.

    ``figures`` and ``intervals`` (95 %, bootstrap over conversations) are by dotted name, see
    ``metrics.all_figures``. ``rows`` holds further columns to stand beside: baselines, the judge's own
    self-agreement. ``warnings`` are lines that a reader must see; ``panel`` tells of the judges if the labels
    have several.
    """

    reference: str
    other: str
    pair: Pair
    conversations: list[str]
    threshold: int = 5
    figures: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    panel: PanelAgreement | None = None

    def measure(self, draws: int = DRAWS, seed: int = 0) -> Agreement:
        """Fill in figures and intervals; AgreementError if there are too few dialogues to say anything."""
        if len(self.pair) < MIN_PAIRS:
            raise AgreementError(f"{len(self.pair)} dialogues are in both, expected at least {MIN_PAIRS}")
        self.figures = all_figures(self.pair, threshold=self.threshold)
        self.intervals = bootstrap(self.pair, self.conversations, draws, seed, self.threshold) if draws else {}
        return self

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it: figures that are not defined are null."""
        return {
            "reference": self.reference,
            "other": self.other,
            "dialogues": len(self.pair),
            "conversations": len(set(self.conversations)),
            "threshold": self.threshold,
            "figures": _plain(self.figures),
            "intervals_95": {name: [_null(low), _null(high)] for name, (low, high) in self.intervals.items()},
            "beside": {name: _plain(figures) for name, figures in self.rows.items()},
            "warnings": self.warnings,
            "notes": self.notes,
            **({"judges": self.panel.to_json()} if self.panel else {}),
        }


def judge_against_scorer(
    labelled: LabelledSet, scorer: Scorer, threshold: int = 5, *, unseen: bool = False
) -> Agreement:
    """Score labelled dialogues and compare; with ``unseen`` leave out those that the scorer was trained on."""
    labelled, warnings = _seen_in_training(labelled, scorer.bundle, unseen=unseen)
    scores = scorer.score(labelled.dialogues, progress=False)
    pair = Pair.of(labelled.scores, scores, to_levels(scores, scorer.bundle.info.cuts))
    return Agreement(
        judge_name(labelled), scorer.bundle.info.name, pair, labelled.conversations, threshold, warnings=warnings
    )


def judge_against_scores(labelled: LabelledSet, path: Path, threshold: int = 5) -> Agreement:
    """Compare labels with a file of scores; an ``oof.parquet`` of `empathy train` is cross-fitted by its folds."""
    table = read_columns(path)
    key, keys = ("content", labelled.hashes) if "content" in table else ("id", [d.id for d in labelled.dialogues])
    if not all(isinstance(value, str) for value in table[key]):
        raise AgreementError(f"{path}: its column {key} holds what is no text; train again")
    mine, theirs = _common(keys, table[key])
    if len(mine) < MIN_PAIRS:
        raise AgreementError(
            f"{path}: {len(mine)} of its {len(table['id'])} {key}s are among the {len(labelled)} labelled dialogues, "
            f"expected at least {MIN_PAIRS}; score the labelled file itself"
        )
    scores = np.stack([np.asarray(table[head], dtype=np.float32)[theirs] for head in HEADS], axis=1)
    labels = labelled.scores[mine]
    notes = [] if len(mine) == len(labelled) else [f"{len(labelled) - len(mine)} labelled dialogues have no score"]
    if "fold" in table:
        folds = np.asarray(table["fold"])[theirs]
        if folds.dtype.kind not in "iu":
            raise AgreementError(f"{path}: its column fold holds {folds.dtype}, expected whole numbers; train again")
        if len(np.unique(folds)) < 2:
            raise AgreementError(
                f"{path}: the {len(mine)} dialogues in both are of one fold, expected two at least, as the cuts of a "
                "fold come from the others; give all labels that were trained on"
            )
        levels = cross_levels(scores, labels, folds)
        notes.append("out-of-fold scores; the cuts of each fold come from the other folds")
    else:
        cuts = said_of_scorer(path).get("cuts")
        if not cuts:
            raise AgreementError(f"{path}: says nothing of its scorer's cuts; name the scorer with --scorer instead")
        try:
            levels = to_levels(scores, read_cuts(cuts))
        except ValueError as error:
            raise AgreementError(f"{path}: {reason_of(error)}; name the scorer with --scorer instead") from None
    conversations = [labelled.dialogues[row].conversation for row in mine]
    pair = Pair.of(labels, scores, levels)
    return Agreement(judge_name(labelled), path.name, pair, conversations, threshold, notes=notes)


def judge_against_judge(
    first: LabelledSet, second: LabelledSet, names: tuple[str, str], threshold: int = 5
) -> Agreement:
    """Compare two sets of labels of the same dialogues: two judges, or one with two rubrics."""
    mine, theirs = _common(first.hashes, second.hashes)
    labels, others = first.scores[mine], second.scores[theirs]
    alone = (len(first) - len(mine), len(second) - len(mine))
    notes = [f"{alone[0]} and {alone[1]} dialogues are in one set only"] if any(alone) else []
    conversations = [first.dialogues[row].conversation for row in mine]
    return Agreement(*names, Pair.of(labels, others, to_levels(others)), conversations, threshold, notes=notes)


def self_agreement(labelled: LabelledSet, threshold: int = 5) -> tuple[str, dict[str, float]] | None:
    """Return what to call the agreement of a judge with itself, and its figures; None where too few were judged twice.

    The first two judgements by the same model are compared. Those at temperature 0 understate the judge's noise, so
    the name says the temperatures.
    """
    pairs = [found for judgements in labelled.judgements if (found := _same_model(judgements))]
    if len(pairs) < MIN_PAIRS:
        return None
    first, second = (np.array([[getattr(pair[k], head) for head in HEADS] for pair in pairs]) for k in (0, 1))
    temperatures = sorted({_temperature(labels) for pair in pairs for labels in pair})
    name = f"judge with itself ({len(pairs)} dialogues, temperature {', '.join(temperatures)})"
    return name, all_figures(Pair.of(first, second, to_levels(second)), threshold=threshold)


def judge_name(labelled: LabelledSet) -> str:
    """Return the models that judged, as far as the labels say."""
    models = {str((labels.judge or {}).get("model", "judge")) for row in labelled.judgements for labels in row}
    return " + ".join(sorted(models)) if len(models) <= 3 else f"{len(models)} judges"


def _common(mine: Sequence[str], theirs: Iterable[str]) -> tuple[list[int], list[int]]:
    """Return the rows of both that have the same key, in the order of the first."""
    place = {key: row for row, key in enumerate(theirs)}
    rows = [row for row, key in enumerate(mine) if key in place]
    return rows, [place[mine[row]] for row in rows]


def _seen_in_training(labelled: LabelledSet, bundle: Bundle, *, unseen: bool) -> tuple[LabelledSet, list[str]]:
    trained = set(bundle.info.training.content_hashes)
    seen = np.array([content in trained for content in labelled.hashes])
    if not seen.any():
        return labelled, []
    if unseen:
        return labelled.take(np.flatnonzero(~seen)), []
    return labelled, [
        f"{seen.sum()} of {len(labelled)} dialogues were trained on, so these figures flatter {bundle.info.name}: give "
        "others, say --unseen, or compare its checkpoint's oof.parquet with --scores"
    ]


def _same_model(judgements: Sequence[Labels]) -> tuple[Labels, Labels] | None:
    first: dict[str, Labels] = {}
    for labels in judgements:
        model = str((labels.judge or {}).get("model", ""))
        if model in first:
            return first[model], labels
        first[model] = labels
    return None


def _temperature(labels: Labels) -> str:
    value = (labels.judge or {}).get("temperature")
    return "not stated" if value is None else f"{value}"


def _plain(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: _null(value) for name, value in figures.items()}


def _null(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 5)
