"""`empathy report`: score files or selection folders in, every number as JSON and one page out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import to_builtins

from scorer.apart import check_apart, check_json, check_own
from scorer.bundle.bundle import STARTER, load_bundle
from scorer.bundle.domain import domain_warning
from scorer.dialogue import Dialogue
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.outputs import check_new, replacing, write_json, writing
from scorer.reading.windows import OutsideDomain
from scorer.run.score_table import read_scores
from selection.errors import SelectionError
from selection.files.labels import LabelTable, read_labels
from selection.files.manifest import REJECTS
from selection.report.numbers import Section
from selection.report.numbers import figures as of
from selection.report.numbers.drift import common_rows, drift
from selection.report.numbers.judged import agreement, cost, redraws
from selection.report.sources.examples import Pick, choose_examples, example_sections
from selection.report.sources.rows import Rows, assign_sets
from selection.report.sources.selection_folder import is_selection, read_rejects, read_selection
from selection.report.sources.texts import of_corpus, of_selection
from selection.report.text import public_path
from selection.settings import ReportSettings, SelectSettings

MOVED = 24
"""Dialogues shown of those that are in another set in the last source than in the first."""


@dataclass(slots=True, eq=False)
class _Loaded:
    """A source: its rows, and the dialogues that are shown of it, None where they are not known."""

    path: Path
    label: str
    rows: Rows
    selected: bool
    dialogues: Mapping[int, Dialogue] | None = None
    matched: Section | None = None


def write_report(
    paths: Sequence[Path],
    output: Path,
    settings: ReportSettings,
    *,
    dialogues: Sequence[str] = (),
    fields: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
    scorer: Path | None = None,
    raw_cuts: bool = False,
    json_path: Path | None = None,
    overwrite: bool = False,
) -> Section:
    """Write a page on one source, or on several against the first, and return every number on it.

    ``dialogues`` are inputs with the texts of plain score files (``fields`` as of ``Corpus``),
    ``labels`` inputs with a judge's scores of some dialogues. ``scorer`` is that of score files that say no cuts.
    OutputError if a file may not be written,
    SelectionError for sources that cannot be read and for ids of ``dialogues`` or ``labels`` that match nothing.
    """
    import vl_convert  # noqa: F401 - altair draws with it, and misses it only then

    from selection.report.charts.draw import draw_report  # altair is an extra
    from selection.report.page import render_report

    _check_outputs(paths, output, json_path, overwrite=overwrite)
    table = read_labels(labels) if labels else None
    if table is not None and table.judges.price is not None and settings.judge_price is not None:
        raise SelectionError(
            f"the labels say what a judgement cost (${table.judges.price:.4g} on average); leave --judge-price out"
        )
    corpus = Corpus(dialogues, fields=fields) if dialogues else None
    found = figures(paths, settings, corpus=corpus, labels=table, scorer=scorer, raw_cuts=raw_cuts)
    page = render_report(found, draw_report(found))
    if json_path is not None:
        write_json(json_path, of.plain(found), allow_nan=False)
    with writing(output), replacing(output) as file:
        file.write(page)
    return found


def _check_outputs(sources: Sequence[Path], output: Path, json_path: Path | None, *, overwrite: bool) -> None:
    from selection.report.page import is_page

    for path in (output, json_path):
        if path is not None:
            check_new(path, overwrite=overwrite)
            check_apart(path, *sources, inside=True)
    check_own(output, is_page, "report")
    if json_path is not None:
        check_json(json_path, "drift")
    if json_path is not None and json_path.resolve() == output.resolve():
        raise OutputError(f"{output}: would be written twice, as the page and as JSON; name two files")


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
    sources = [_load(path, settings, scorer=scorer, raw_cuts=raw_cuts) for path in paths]
    first, *others = sources
    if others:
        for number, source in enumerate(sources, start=1):
            source.label = f"{number}. {source.label}"
    picks = _moved(first.rows, others[-1].rows) if others else choose_examples(first.rows)
    _find_dialogues(sources, picks, corpus)
    if labels is not None and not any((labels.rows_of(source.rows.hashes) >= 0).any() for source in sources):
        agreement(first.rows, labels)  # says what does not match
    drifts = [drift(first.rows, source.rows) | {"name": source.label} for source in others]
    names = [source.path.name for source in sources]
    kind = "Selection" if first.selected else "Scores"
    title = f"Drift from {names[0]}: {len(others)} more" if others else f"{kind} {names[0]}"
    return {
        "format": "empathy-report",
        "format_version": 1,
        "created": datetime.now(UTC).date().isoformat(),
        "version": version("empathy-scorer"),
        "title": settings.title or title,
        "sources": [_sections(source, settings, labels, scorer) for source in sources],
        "drift": drifts,
        "largest_psi": max((one["psi"] for entry in drifts for one in entry["heads"].values()), default=None),
        "examples": _examples(sources, picks, labels),
    }


def _load(path: Path, settings: ReportSettings, *, scorer: Path | None, raw_cuts: bool) -> _Loaded:
    if is_selection(path):
        return _Loaded(path, path.name or str(path), read_selection(path), selected=True)
    if path.is_dir() and not any(path.glob("*.parquet")):
        raise SelectionError(
            f"{path}: is neither a selection (it has no selection.json) nor scores (it has no part-*.parquet); name "
            "the output of `empathy select` or `empathy score`"
        )
    table = read_scores(path, scorer=scorer, raw_cuts=raw_cuts)
    selecting = SelectSettings(rule=settings.rule, threshold=(settings.threshold, settings.threshold))
    return _Loaded(path, path.name, assign_sets(table, selecting, raw=raw_cuts), selected=False)


def _moved(first: Rows, last: Rows) -> list[Pick]:
    """Return dialogues that are in another set in the last source, by the hashes of their ids."""
    if first.names != last.names:
        return []
    mine, theirs = common_rows(first, last)
    other = mine[first.sets[mine] != last.sets[theirs]]
    return [Pick(row, "moved") for row in other[np.argsort(first.hashes[other])][:MOVED].tolist()]


def _find_dialogues(sources: Sequence[_Loaded], picks: Sequence[Pick], corpus: Corpus | None) -> None:
    """Find what the dialogues say: in the selection folder, or in the corpus for plain scores."""
    wanted = {id(source): [pick.row for pick in picks] if source is sources[0] else [] for source in sources}
    plain = [source for source in sources if not source.selected]
    for source in sources:
        if source.selected:
            source.dialogues = of_selection(source.path, source.rows, wanted[id(source)])
    if corpus is None:
        return
    found = of_corpus(corpus, [source.rows for source in plain], [wanted[id(source)] for source in plain])
    for source, matched in zip(plain, found, strict=True):
        source.rows, source.dialogues = replace(source.rows, facts=matched.facts), matched.dialogues
        source.matched = {
            "with_dialogue": matched.found,
            "scores_without_dialogue": len(source.rows) - matched.found,
            "dialogues_without_score": matched.unknown,
        }


def _sections(source: _Loaded, settings: ReportSettings, labels: LabelTable | None, scorer: Path | None) -> Section:
    """Return all sections of one source."""
    rows = source.rows
    if labels is not None and not (labels.rows_of(rows.hashes) >= 0).any():
        labels = None
    return {
        "label": source.label,
        "kind": "selection" if source.selected else "scores",
        "provenance": _provenance(rows),
        "overview": of.overview(rows),
        "distributions": of.distributions(rows),
        "thresholds": of.by_threshold(rows),
        "categories": of.by_category(rows),
        "lengths": of.by_length(rows),
        "correlations": of.correlations(rows),
        "stability": of.stability(rows),
        "agreement": agreement(rows, labels, None if labels is None else _trained_on(rows, scorer)),
        "redraws": redraws(rows, labels),
        "behaviour": of.behaviour(rows),
        "cost": cost(rows, labels, settings.judge_price),
        "reasons": of.reasons(rows),
        "rejects": _rejects(source),
        "matched": source.matched,
    }


def _trained_on(rows: Rows, scorer: Path | None) -> frozenset[str] | None:
    """Return the training hashes of what the scores' scorer was trained on, None where it is not at hand."""
    known = (rows.info.scorer or {}).get("sha256")
    for folder in (STARTER, scorer):
        if folder is not None and (folder / "scorer.json").is_file():
            bundle = load_bundle(folder)
            if bundle.sha256 == known:
                return frozenset(bundle.info.training.content_hashes)
    return None


def _provenance(rows: Rows) -> Section:
    """Return where a source comes from: what selection.json or the score file says."""
    info = rows.info
    limits = to_builtins(info.settings.limits)
    rule = to_builtins(info.rule)
    if isinstance(rule["how"], dict) and rule["how"].get("labels"):
        rule["how"]["labels"] = public_path(str(rule["how"]["labels"]))
    corpus = to_builtins(info.corpus)
    if corpus:
        corpus["inputs"] = [public_path(name) for name in corpus["inputs"]]
    return {
        "created": info.created,
        "rule": rule,
        "limited": rows.limited or info.settings.both_low == "discard",
        "scorer": _said(info.scorer, "name", "sha256", "backbone", "created", "judge", "rubric", "scores"),
        "corpus": _said(corpus, "inputs", "sha256"),
        "domain": _domain(info.outside),
        "judge": _said(to_builtins(info.judge), "models", "rubrics"),
        "file_format": info.file_format,
        "pairs": to_builtins(info.pairs),
        "synthetic": info.synthetic and {name: entry.synthetic for name, entry in info.sets.items()},
        "whole_conversations": info.settings.whole_conversations,
        "limits": {name: value for name, value in limits.items() if value is not None},
        "error_known": info.error is not None,
    }


def _domain(found: OutsideDomain | None) -> Section | None:
    """Return how many of the dialogues scored are unlike the training data, with the warning if there is need."""
    if found is None:
        return None
    warning = domain_warning(found.counts, found.dialogues, found.of_training)
    return {**to_builtins(found), "warning": warning}


def _said(record: Mapping[str, Any] | None, *names: str) -> Section | None:
    """Return some of what a record says, as text, lists with commas; None where it says nothing."""
    if not record:
        return None
    values = {name: record.get(name) for name in names}
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else None if value is None else str(value)
        for name, value in values.items()
    }


def _rejects(source: _Loaded) -> Section:
    """Return what was rejected on the way, with the first records."""
    path = source.path
    file = path / REJECTS if path.is_dir() else path.with_name(f"{path.name}.{REJECTS}")
    counts, first = read_rejects(file) if file.exists() else ({}, [])
    for entry in first:
        entry["source"] = public_path(str(entry["source"]))
    return {
        "of": "empathy select" if source.selected else "empathy score",
        "count": sum(counts.values()),
        "reasons": counts,
        "first": first,
        "scores_without_dialogue": source.rows.info.scores_without_dialogue,
    }


def _examples(sources: Sequence[_Loaded], picks: Sequence[Pick], labels: LabelTable | None) -> Section:
    first, last = sources[0], sources[-1]
    if first.dialogues is None:
        return {"needs": "the dialogues themselves: --dialogues IN, or a selection folder as SOURCE."}
    shown = example_sections(first.rows, picks, first.dialogues, labels)
    if len(sources) > 1:
        for row, other in zip(*map(np.ndarray.tolist, common_rows(first.rows, last.rows)), strict=True):
            if row in shown:
                after = {"to": last.rows.names[last.rows.sets[other]], "scores_after": last.rows.scores[other].tolist()}
                shown[row] |= after
    return {"shown": list(shown.values())}
