"""The judge's scores of a record, in columns of their own or as published text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scorer.dialogue import HEADS, SCORE_RANGE, Labels
from scorer.inputs.records.faults import RecordError, clean_text, shown
from scorer.inputs.records.label_text import scores_in_text
from scorer.settings import in_range


def labels_of(record: Mapping[str, Any], *, required: bool) -> Labels | None:
    """Return the scores that a record holds; RecordError where one is none, or ``required`` and missing."""
    values = [record.get(head) for head in HEADS]
    if all(value is None for value in values) and record.get("evaluation") is not None:
        values = _published(clean_text(record["evaluation"], "evaluation"))
    if all(value is None for value in values):
        if required:
            raise RecordError("no_label", "no sensibility and rationality, nor evaluation; expected a labelled record")
        return None
    sensibility, rationality = map(_label, HEADS, values)
    judge = record.get("judge")
    return Labels(sensibility, rationality, judge if isinstance(judge, Mapping) else None)


def _published(text: str) -> list[Any]:
    """Return the score of each head in "- Rationality: 8 - Sensibility: 5"; RecordError if not one of each."""
    try:
        found = scores_in_text(text)
    except ValueError as error:
        raise RecordError("bad_label", f"evaluation {shown(text)}: {error}") from None
    for head, values in zip(HEADS, found, strict=True):
        if len(values) != 1:
            raise RecordError("bad_label", f"evaluation {shown(text)} has {len(values)} values of {head}, expected 1")
    return [float(values.pop()) for values in found]


def _label(head: str, value: Any) -> float:
    low, high = SCORE_RANGE
    if not in_range(value, low, high):
        raise RecordError("bad_label", f"{head} is {shown(value)}, expected a number from {low:g} to {high:g}")
    return float(value)
