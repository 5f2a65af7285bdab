"""Pictures of an agreement: what the scorer gives for each of the judge's scores, and where decisions differ."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from distill.agreement.compare import Agreement
from scorer.apart import check_own
from scorer.dialogue import HEADS
from scorer.errors import OutputError
from scorer.outputs import check_new, replacing_binary, writing
from selection.metrics import LEVEL_COUNT, counts
from selection.rules import PAPER

_MARK = b"Software\0empathy-scorer"
_POINTS = 3000
_SIZE = 320


def draw_agreement(agreement: Agreement, folder: Path) -> list[Path]:
    """Write scatter.png, confusion.png and sets.png into a folder; return their paths. OutputError as below."""
    check_pictures(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, chart in _CHARTS.items():
            drawn = io.BytesIO()
            chart(agreement).save(drawn, format="png", scale_factor=2)
            with replacing_binary(folder / name) as file:
                file.write(_marked(drawn.getvalue()))
    return [folder / name for name in _CHARTS]


def check_pictures(folder: Path) -> None:
    """Raise OutputError unless the pictures can be drawn: of these names there are none but earlier ones."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; name one for the pictures")
    for name in _CHARTS:
        check_new(folder / name, overwrite=True) if folder.exists() else None
        check_own(folder / name, lambda path: _MARK in path.read_bytes()[:200], "picture")


def _marked(png: bytes) -> bytes:
    """Return a PNG that says what drew it, after its first chunk (8 + 25 bytes)."""
    chunk = b"tEXt" + _MARK
    return png[:33] + struct.pack(">I", len(_MARK)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def _scatter(agreement: Agreement) -> Any:
    """Return the scorer's scores over the judge's, one panel per head: points spread sideways, bars at the median."""
    pair = agreement.pair
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(pair))[:_POINTS]
    panels = []
    for i, head in enumerate(HEADS):
        jitter = rng.uniform(-0.35, 0.35, len(rows))
        judge, other = pair.reference[rows, i], pair.other[rows, i]
        places = zip(judge.tolist(), (judge + jitter).tolist(), other.tolist(), strict=True)
        points = [{"judge": score, "x": x, "y": y} for score, x, y in places]
        base = alt.Chart(alt.Data(values=points)).properties(width=_SIZE, height=_SIZE, title=head)
        cloud = base.mark_circle(size=8, opacity=0.25, color="#4c78a8").encode(
            x=alt.X("x:Q", title=agreement.reference, scale=alt.Scale(domain=[-0.5, 10.5])),
            y=alt.Y("y:Q", title=agreement.other, scale=alt.Scale(domain=[0, 10])),
        )
        median = base.mark_tick(color="#e45756", thickness=3, width=22, orient="horizontal").encode(
            x="judge:Q", y="median(y):Q"
        )
        panels.append(cloud + median)
    return alt.hconcat(*panels)


def _confusion(agreement: Agreement) -> Any:
    pair = agreement.pair
    ones, names = np.ones(len(pair)), [str(level) for level in range(LEVEL_COUNT)]
    levels = zip(pair.reference_levels.T, pair.other_levels.T, strict=True)
    tables = [counts(first, second, LEVEL_COUNT, ones) for first, second in levels]
    return alt.hconcat(*(_heat(table, names, head, agreement) for table, head in zip(tables, HEADS, strict=True)))


def _sets(agreement: Agreement) -> Any:
    pair, threshold = agreement.pair, agreement.threshold
    first, second = (PAPER.apply(levels, threshold=threshold) for levels in (pair.reference_levels, pair.other_levels))
    table = counts(first, second, len(PAPER.sets), np.ones(len(pair)))
    return _heat(table, list(PAPER.sets), f"sets of the paper's rule, threshold {threshold}", agreement)


def _heat(table: Any, names: list[str], title: str, agreement: Agreement) -> Any:
    """Return a confusion table as a heat map: colours are shares of the judge's row, figures are counts."""
    cells = [
        {
            "judge": names[row],
            "other": names[column],
            "count": int(table[row, column]),
            "share": float(table[row, column] / max(1.0, table[row].sum())),
        }
        for row in range(len(names))
        for column in range(len(names))
    ]
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=alt.X("other:N", sort=names, title=agreement.other, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("judge:N", sort=names, title=agreement.reference),
    )
    heat = base.mark_rect().encode(color=alt.Color("share:Q", scale=alt.Scale(scheme="blues"), title="share of row"))
    text = (
        base.transform_filter("datum.count > 0")
        .mark_text(fontSize=10)
        .encode(text="count:Q", color=alt.condition("datum.share > 0.6", alt.value("white"), alt.value("black")))
    )
    return (heat + text).properties(width=_SIZE, height=_SIZE, title=title)


_CHARTS = {"scatter.png": _scatter, "confusion.png": _confusion, "sets.png": _sets}
