"""An agreement as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from distill.agreement.compare import Agreement
from distill.panel.agreement import panel_lines
from scorer.cli.table import table_lines
from scorer.dialogue import HEADS
from selection.metrics import LEVEL_COUNT
from selection.rules import RULES, Rule

_HEAD_ROWS = (
    ("Pearson", "pearson"),
    ("Spearman", "spearman"),
    ("MAE", "mae"),
    ("RMSE", "rmse"),
    ("quadratic kappa", "quadratic_kappa"),
)


def agreement_lines(agreement: Agreement) -> Iterator[str]:
    """Yield the lines of an agreement: per head, per rule, per score of the judge; then what to know of them."""
    conversations = len(set(agreement.conversations))
    yield (
        f"{agreement.reference} against {agreement.other}: {len(agreement.pair)} dialogues of {conversations} "
        f"conversations, threshold {agreement.threshold}"
    )
    yield ""
    yield from _figures(agreement, [(f"{name}, {head}", f"{head}.{key}") for head in HEADS for name, key in _HEAD_ROWS])
    for rule in RULES.values():
        yield from ("", f"rule {rule.name} ({rule.source})")
        yield from _figures(agreement, _rule_rows(rule))
    yield from ("", "recall of each score that the judge gave, as integers read off the cuts")
    levels = range(LEVEL_COUNT)
    recall = [[_number(agreement.figures[f"{head}.recall.{level}"], 2) for level in levels] for head in HEADS]
    titles = ["score".ljust(12), *(str(level).rjust(5) for level in levels)]
    yield from table_lines([titles, *([head, *values] for head, values in zip(HEADS, recall, strict=True))])
    if agreement.intervals:
        yield from ("", "[low, high]: 95 % intervals, bootstrap over conversations")
    if agreement.panel:
        yield ""
        yield from panel_lines(agreement.panel)
    for note in agreement.notes:
        yield f"note: {note}"


def _rule_rows(rule: Rule) -> list[tuple[str, str]]:
    rows = [("three-way accuracy", f"{rule.name}.accuracy"), ("three-way kappa", f"{rule.name}.kappa")]
    for name in rule.sets:
        rows += [
            (f"{name} set: F1", f"{rule.name}.f1.{name}"),
            ("  Jaccard", f"{rule.name}.jaccard.{name}"),
            ("  share kept", f"{rule.name}.share.{name}"),
            ("  share kept by the judge", f"{rule.name}.judge_share.{name}"),
        ]
    return rows


def _figures(agreement: Agreement, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield one line per figure, with its interval, and one column for each rater that stands beside."""
    cells = [["", agreement.other, *agreement.rows]]
    for title, key in rows:
        low, high = agreement.intervals.get(key, (math.nan, math.nan))
        interval = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
        others = [_number(figures.get(key, math.nan)) for figures in agreement.rows.values()]
        cells.append([title, _number(agreement.figures[key]) + interval, *others])
    return table_lines(cells)


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
