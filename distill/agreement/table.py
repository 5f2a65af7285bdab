"""An agreement as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from distill.agreement.compare import Agreement
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


def table_lines(agreement: Agreement) -> Iterator[str]:
    """Yield the lines of an agreement: per head, per rule, per score of the judge; then what to know about them."""
    conversations = len(set(agreement.conversations))
    yield (
        f"{agreement.reference} against {agreement.other}: {len(agreement.pair)} dialogues of {conversations} "
        f"conversations, threshold {agreement.threshold}"
    )
    yield ""
    columns = [agreement.other, *agreement.rows]
    yield from _table(
        columns, [(f"{name}, {head}", f"{head}.{key}") for head in HEADS for name, key in _HEAD_ROWS], agreement
    )
    for rule in RULES.values():
        yield ""
        yield f"rule {rule.name} ({rule.source})"
        yield from _table(columns, _rule_rows(rule), agreement)
    yield ""
    yield from _recall(agreement)
    if agreement.intervals:
        yield ""
        yield "[low, high]: 95 % intervals, bootstrap over conversations"
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


def _table(columns: Sequence[str], rows: Sequence[tuple[str, str]], agreement: Agreement) -> Iterator[str]:
    cells = [["", *columns]]
    for title, key in rows:
        low, high = agreement.intervals.get(key, (math.nan, math.nan))
        interval = "" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]"
        others = [_number(figures.get(key, math.nan)) for figures in agreement.rows.values()]
        cells.append([title, _number(agreement.figures[key]) + interval, *others])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )


def _recall(agreement: Agreement) -> Iterator[str]:
    yield "recall of each score that the judge gave, as integers read off the cuts"
    yield "  ".join(["score".ljust(12), *(str(level).rjust(5) for level in range(LEVEL_COUNT))])
    for head in HEADS:
        values = (agreement.figures[f"{head}.recall.{level}"] for level in range(LEVEL_COUNT))
        yield "  ".join([head.ljust(12), *(_number(value, 2).rjust(5) for value in values)])


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
