"""`empathy report`: score files or selection folders in, every number as a dict and one page out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.outputs import replacing, writing
from scorer.run.output import REJECTS
from scorer.run.score_table import read_scores
from selection.deciding.settings import SelectSettings
from selection.errors import SelectionError
from selection.files.labels import LabelTable
from selection.report.numbers import figures as of
from selection.report.numbers.drift import common_rows, drift
from selection.report.numbers.judged import agreement, cost, redraws
from selection.report.sources.examples import Pick, Text, choose, to_json
from selection.report.sources.rows import Rows, deal
from selection.report.sources.selection_folder import is_selection, read_rejects, read_selection
from selection.report.sources.texts import of_corpus, of_selection

Section = dict[str, Any]

FORMAT, FORMAT_VERSION = "empathy-report", 1
MOVED = 24
"""Dialogues shown of those that are in another set in the last source than in the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """How to deal plain score files, the price of a judgement in US dollars where no label says, and the title."""

    rule: str = "paper"
    threshold: float = 5.0
    judge_price: float | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        """Check what a command line cannot."""
        if self.judge_price is not None and not 0 < self.judge_price < float("inf"):
            raise SelectionError(f"judge price {self.judge_price:g}, expected US dollars a dialogue, above 0")
        SelectSettings(rule=self.rule, threshold=(self.threshold, self.threshold))

    @property
    def selecting(self) -> SelectSettings:
        """The settings of a selection by this rule and threshold."""
        return SelectSettings(rule=self.rule, threshold=(self.threshold, self.threshold))


@dataclass(slots=True, eq=False)
class Source:
    """A source as it is read: its rows, which of them are shown, and their texts once they are there."""

    path: Path
    rows: Rows
    label: str
    picks: Sequence[Pick] = ()
    texts: dict[int, Text] | None = None
    matched: Section | None = None

    @property
    def dealt(self) -> bool:
        """Whether `empathy select` dealt it."""
        return is_selection(self.path)


def report(
    paths: Sequence[Path],
    output: Path,
    settings: ReportSettings,
    *,
    corpus: Corpus | None = None,
    labels: LabelTable | None = None,
    scorer: Path | None = None,
    raw_cuts: bool = False,
    json_path: Path | None = None,
    overwrite: bool = False,
) -> Section:
    """Write a page on one source, or on several against the first, and return every number on it.

    ``corpus`` has the dialogues of plain score files, ``labels`` a judge's scores of some dialogues. ``scorer`` is
    that of score files that say no cuts. OutputError if a file may not be written, SelectionError for sources that
    cannot be read and for ids of ``corpus`` or ``labels`` that match nothing.
    """
    import vl_convert  # noqa: F401 - altair draws with it, and misses it only then

    from selection.report.charts.draw import draw  # altair is an extra
    from selection.report.page import render

    check_outputs(paths, output, json_path, overwrite=overwrite)
    found = figures(paths, settings, corpus=corpus, labels=labels, scorer=scorer, raw_cuts=raw_cuts)
    page = render(found, draw(found))
    with writing(output):
        if json_path is not None:
            with replacing(json_path) as file:
                file.write(json.dumps(of.plain(found), indent=1, allow_nan=False) + "\n")
        with replacing(output) as file:
            file.write(page)
    return found


def check_outputs(sources: Sequence[Path], output: Path, json_path: Path | None, *, overwrite: bool) -> None:
    """Raise OutputError unless both files may be written."""
    written = [path for path in (output, json_path) if path is not None]
    for number, path in enumerate(written):
        _check_output(path, overwrite=overwrite)
        if path.resolve() in [other.resolve() for other in (*sources, *written[:number])]:
            raise OutputError(f"{path}: is a source or is to be written twice; name another file")


def _check_output(path: Path, *, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist; create it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; name another file or say --overwrite")


def figures(
    paths: Sequence[Path],
    settings: ReportSettings,
    *,
    corpus: Corpus | None = None,
    labels: LabelTable | None = None,
    scorer: Path | None = None,
    raw_cuts: bool = False,
) -> Section:
    """Return every number of a report."""
    sources = [_read(path, settings, scorer=scorer, raw_cuts=raw_cuts) for path in paths]
    if len(sources) > 1:
        for number, source in enumerate(sources, start=1):
            source.label = f"{number}. {source.label}"
    first, last = sources[0], sources[-1]
    first.picks = choose(first.rows) if len(sources) == 1 else _moved(first.rows, last.rows)
    _find_texts(sources, corpus)
    if labels is not None and not any((labels.rows_of(source.rows.hashes) >= 0).any() for source in sources):
        agreement(first.rows, labels)  # says what does not match
    drifts = [drift(first.rows, source.rows) | {"name": source.label} for source in sources[1:]]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).date().isoformat(),
        "version": version("empathy-scorer"),
        "title": settings.title or _title(sources),
        "sources": [_sections(source, settings, labels) for source in sources],
        "drift": drifts,
        "largest_psi": max((one["psi"] for entry in drifts for one in entry["heads"].values()), default=None),
        "examples": _examples(sources, labels),
    }


def _read(path: Path, settings: ReportSettings, *, scorer: Path | None, raw_cuts: bool) -> Source:
    if is_selection(path):
        return Source(path, read_selection(path), path.name or str(path))
    if path.is_dir() and not any(path.glob("*.parquet")):
        raise SelectionError(
            f"{path}: is neither a selection (it has no selection.json) nor scores (it has no part-*.parquet); name "
            "the output of `empathy select` or `empathy score`"
        )
    table = read_scores(path, scorer=scorer, raw_cuts=raw_cuts)
    return Source(path, deal(table, settings.selecting, raw=raw_cuts), path.name)


def _title(sources: Sequence[Source]) -> str:
    names = [source.path.name for source in sources]
    if len(sources) > 1:
        return f"Drift from {names[0]}: {len(sources) - 1} more"
    return f"{'Selection' if sources[0].dealt else 'Scores'} {names[0]}"


def _moved(first: Rows, last: Rows) -> list[Pick]:
    """Return dialogues that are in another set in the last source, by the hashes of their ids."""
    if first.names != last.names:
        return []
    mine, theirs = common_rows(first, last)
    other = mine[first.sets[mine] != last.sets[theirs]]
    return [Pick(row, "moved") for row in other[np.argsort(first.hashes[other])][:MOVED].tolist()]


def _find_texts(sources: Sequence[Source], corpus: Corpus | None) -> None:
    """Find what the dialogues say: in the selection folder, or in the corpus for plain scores."""
    for source in sources:
        if source.dealt:
            source.texts = of_selection(source.path, source.rows, [pick.row for pick in source.picks])
    bare = [source for source in sources if not source.dealt]
    if corpus is None:
        return
    wanted = [[pick.row for pick in source.picks] for source in bare]
    found = of_corpus(corpus, [source.rows for source in bare], wanted)
    for source, gathered in zip(bare, found, strict=True):
        source.rows, source.texts = source.rows.with_facts(gathered.facts), gathered.texts
        source.matched = {
            "with_dialogue": gathered.found,
            "scores_without_dialogue": len(source.rows) - gathered.found,
            "dialogues_without_score": gathered.unknown,
        }


def _sections(source: Source, settings: ReportSettings, labels: LabelTable | None) -> Section:
    """Return all sections of one source."""
    rows = source.rows
    if labels is not None and not (labels.rows_of(rows.hashes) >= 0).any():
        labels = None
    return {
        "label": source.label,
        "kind": "selection" if source.dealt else "scores",
        "provenance": _provenance(rows),
        "overview": of.overview(rows),
        "distributions": of.distributions(rows),
        "thresholds": of.by_threshold(rows),
        "categories": of.by_category(rows),
        "lengths": of.by_length(rows),
        "correlations": of.correlations(rows),
        "stability": of.stability(rows),
        "agreement": agreement(rows, labels),
        "redraws": redraws(rows, labels),
        "cost": cost(rows, labels, settings.judge_price),
        "reasons": of.reasons(rows),
        "rejects": _rejects(source),
        "matched": source.matched,
    }


def _provenance(rows: Rows) -> Section:
    """Return where a source comes from: what selection.json or the score file says."""
    info = rows.info
    said = info.get("scorer")
    names = ("name", "sha256", "backbone", "created", "judge", "rubric", "scores")
    scorer = {name: _said(said.get(name)) for name in names} if said else None
    judge, corpus = info.get("judge"), info.get("corpus")
    settings = info.get("settings") or {}
    return {
        "created": info.get("created"),
        "rule": info["rule"],
        "limited": rows.limited,
        "scorer": scorer,
        "corpus": corpus and {name: _said(corpus.get(name)) for name in ("inputs", "sha256")},
        "judge": judge and {name: _said(judge.get(name)) for name in ("models", "rubrics")},
        "file_format": info.get("file_format"),
        "whole_conversations": bool(settings.get("whole_conversations")),
        "limits": {name: value for name, value in (settings.get("limits") or {}).items() if value is not None},
        "error_known": rows.error is not None,
    }


def _said(value: Any) -> str | None:
    """Return what a file says of itself as text, None where it says nothing."""
    return ", ".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)


def _rejects(source: Source) -> Section:
    """Return what was rejected on the way, with the first records."""
    path = source.path
    inside = source.dealt or path.is_dir()
    file = path / REJECTS if inside else path.with_name(f"{path.name}.{REJECTS}")
    counts, first = read_rejects(file) if file.exists() else ({}, [])
    return {
        "of": "empathy select" if source.dealt else "empathy score",
        "count": sum(counts.values()),
        "reasons": counts,
        "first": first,
        "scores_without_dialogue": source.rows.info.get("scores_without_dialogue", 0),
    }


def _examples(sources: Sequence[Source], labels: LabelTable | None) -> Section:
    first, last = sources[0], sources[-1]
    if first.texts is None:
        return {"needs": "the dialogues themselves: --dialogues IN, or a selection folder as SOURCE."}
    shown = list(to_json(first.rows, first.picks, first.texts, labels))
    if len(sources) > 1:
        rows = {pick.row: place for place, pick in enumerate(p for p in first.picks if p.row in (first.texts or {}))}
        mine, theirs = common_rows(first.rows, last.rows)
        for row, other in zip(mine.tolist(), theirs.tolist(), strict=True):
            if row in rows:
                shown[rows[row]]["to"] = last.rows.names[last.rows.sets[other]]
                shown[rows[row]]["scores_after"] = [float(value) for value in last.rows.scores[other]]
    return {"shown": shown}
