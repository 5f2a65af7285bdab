"""`empathy select`: scores and dialogues in, a folder of training sets out, whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from scorer.dialogue import HEADS
from scorer.inputs.corpus import Corpus
from scorer.outputs import replacing_binary, writing
from scorer.run.score_table import ScoreTable
from selection.deciding.decide import Decision, Evidence, decide
from selection.deciding.settings import SelectSettings
from selection.deciding.stability import deviations as deviations_of
from selection.deciding.stability import most_doubtful, under_error
from selection.deciding.threshold import bins_of, for_share, match, sweep
from selection.errors import SelectionError
from selection.files.folder import MANIFEST, check_output, exchange, unfinished
from selection.files.labels import LabelTable
from selection.files.layouts import convert
from selection.files.spool import REJECTS, ROWS, SPOOL, Gathered, Report, gather, read_rows
from selection.rules import RULES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FORMAT, FORMAT_VERSION = "empathy-selection", 1
TABLE, ABSTAINED = "selection.parquet", "abstain.jsonl"

_ROW_GROUP = 1 << 17

_SAMPLE = 50_000
"""Dialogues, chosen by the hash of their ids, on which the stability of a larger selection is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """How the thresholds are chosen, if they are not given: by the share of the first set, or by labels to match."""

    share: float | None = None
    labels: LabelTable | None = None
    labels_name: str = ""
    one: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A selection on disk and what selection.json says of it."""

    path: Path
    info: Mapping[str, Any]


def select(
    corpus: Corpus,
    output: Path,
    settings: SelectSettings,
    *,
    table: ScoreTable | None = None,
    labels: LabelTable | None = None,
    aim: Aim | None = None,
    tokenizer: Tokenizer | None = None,
    overwrite: bool = False,
    strict: bool = False,
    report: Report = lambda _: None,
) -> Selection:
    """Deal the dialogues of ``corpus`` into sets and write them to the folder ``output``.

    Scores come from ``table``, or where it is None from the dialogues' own labels; ``labels`` replace the scores of
    the dialogues that they judge. ``aim`` chooses the thresholds. OutputError if the folder may not be written,
    SelectionError if nothing can be selected.
    """
    check_output(output, overwrite=overwrite)
    with writing(output), unfinished(output, SPOOL) as work:
        found = gather(corpus, work, table=table, labels=labels, tokenizer=tokenizer, strict=strict, report=report)
        evidence = Evidence(
            scores=found.scores,
            judged=found.judged,
            hashes=found.hashes,
            conversations=found.conversations,
            categories=found.categories,
            tokens=found.tokens,
            cuts=JUDGE_CUTS if table is None else table.cuts,
            error=None if table is None else table.error,
        )
        settings, how = _aimed(settings, evidence, aim)
        decision = decide(evidence, settings)
        _write_sets(work, decision, found, settings)
        _write_table(work, decision, found)
        info = _info(settings, how, evidence, decision, found, table, labels, corpus)
        with open(work / MANIFEST, "w", encoding="utf-8") as file:
            file.write(json.dumps(info, indent=1) + "\n")
        for name in (SPOOL, ROWS):
            (work / name).unlink()
        if not found.rejected:
            (work / REJECTS).unlink()
        exchange(work, output)
    return Selection(output, info)


def _aimed(settings: SelectSettings, evidence: Evidence, aim: Aim | None) -> tuple[SelectSettings, dict[str, Any]]:
    """Return the settings with the thresholds that ``aim`` asks for, and how they came about."""
    if aim is None or (aim.share is None and aim.labels is None):
        return settings, {"by": "given"}
    if aim.share is not None:
        by_judge = evidence.judged[:, None]
        bins = np.where(by_judge, bins_of(evidence.scores, JUDGE_CUTS), bins_of(evidence.scores, evidence.cuts))
        at = for_share(sweep(bins), aim.share)
        return replace(settings, threshold=(at, at)), {"by": "target share", "share": aim.share}
    assert aim.labels is not None
    rows = aim.labels.rows_of(evidence.hashes)
    # Where the judge decides already, there is nothing that a threshold could match.
    mine = np.flatnonzero((rows >= 0) & ~evidence.judged)
    if not len(mine):
        raise SelectionError(
            f"none of the {len(aim.labels)} labels of {aim.labels_name} is of a dialogue that the scorer decides; give "
            "labels of the input that --labels does not have"
        )
    wanted = RULES["paper"].apply(aim.labels.scores[rows[mine]], threshold=settings.threshold) == 0
    conversations = [aim.labels.conversations[row] for row in rows[mine]]
    found = match(evidence.scores[mine], evidence.cuts, wanted, conversations, one=aim.one)
    how = {
        "by": "match",
        "labels": aim.labels_name,
        "judge_threshold": dict(zip(HEADS, settings.threshold, strict=True)),
        "dialogues": found.dialogues,
        "f1": found.f1,
        "f1_cross_validated": found.cross_validated,
        "f1_interval_95": list(found.interval),
        "threshold_interval_95": dict(zip(HEADS, map(list, found.threshold_interval), strict=True)),
    }
    return replace(settings, threshold=found.threshold), how


def _write_sets(work: Path, decision: Decision, found: Gathered, settings: SelectSettings) -> None:
    """Deal the lines of the spool to a file a set, and the most doubtful ones to the judge."""
    doubtful = np.zeros(len(found), dtype=bool)
    if settings.abstain and decision.chance is not None:
        count = round(settings.abstain if settings.abstain >= 1 else settings.abstain * len(found))
        unjudged = np.flatnonzero(~found.judged)
        asked_for = most_doubtful(decision.chance[unjudged], found.hashes[unjudged], count)
        doubtful[unjudged[asked_for]] = True
    with ExitStack() as stack:
        files = [stack.enter_context(replacing_binary(work / f"{name}.jsonl")) for name in decision.names]
        asked = stack.enter_context(replacing_binary(work / ABSTAINED)) if settings.abstain else None
        spool = stack.enter_context(open(work / SPOOL, "rb"))
        for line, number, ask in zip(spool, decision.sets.tolist(), doubtful.tolist(), strict=True):
            files[number].write(convert(line, settings.format))
            if ask and asked is not None:
                asked.write(line)


def _write_table(work: Path, decision: Decision, found: Gathered) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.dictionary(pa.int8(), pa.string())
    schema = pa.schema(
        [
            ("id", pa.string()),
            *((head, pa.float32()) for head in HEADS),
            ("set", texts),
            ("reason", texts),
            ("borderline", pa.bool_()),
            ("chance", pa.float32()),
            ("judged", pa.bool_()),
            ("category", pa.string()),
            ("turns", pa.int32()),
            ("words", pa.int32()),
        ]
    )
    start = 0
    waiting: list[Any] = []
    with replacing_binary(work / TABLE) as file, pq.ParquetWriter(file, schema) as writer:
        for batch in read_rows(work / ROWS):
            rows = slice(start, start + batch.num_rows)
            start = rows.stop
            chance = None if decision.chance is None else decision.chance[rows]
            columns = {name: batch.column(name) for name in ("id", "category", "turns", "words")} | {
                **{head: found.scores[rows, i] for i, head in enumerate(HEADS)},
                "set": pa.DictionaryArray.from_arrays(decision.sets[rows], decision.names),
                "reason": pa.DictionaryArray.from_arrays(decision.reasons[rows], decision.texts),
                "borderline": decision.borderline[rows],
                "chance": pa.nulls(batch.num_rows, pa.float32()) if chance is None else chance,
                "judged": found.judged[rows],
            }
            waiting.append(pa.record_batch([columns[name] for name in schema.names], schema=schema))
            if sum(part.num_rows for part in waiting) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def _info(
    settings: SelectSettings,
    how: dict[str, Any],
    evidence: Evidence,
    decision: Decision,
    found: Gathered,
    table: ScoreTable | None,
    labels: LabelTable | None,
    corpus: Corpus,
) -> dict[str, Any]:
    count = len(found)
    doubtful = np.bincount(decision.sets, weights=decision.borderline, minlength=len(decision.names))
    sets = {
        name: {"count": number, "share": number / count, "borderline": int(doubtful[k]), "file": f"{name}.jsonl"}
        for k, (name, number) in enumerate(decision.counts().items())
    }
    rule = RULES.get(settings.rule)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).date().isoformat(),
        "rule": {
            "name": settings.rule,
            "source": rule.source if rule else f"the best by {settings.by}",
            "threshold": dict(zip(HEADS, settings.threshold, strict=True)),
            "how": how,
        },
        "cuts": _plain(evidence.cuts),
        "dialogues": count,
        "judged": int(found.judged.sum()),
        "sets": sets,
        "reasons": decision.reason_counts(),
        "borderline": int(decision.borderline.sum()),
        "rejected": {"count": found.rejected.total(), "reasons": dict(found.rejected.most_common())},
        "scores_without_dialogue": 0 if table is None else len(table) - found.matched,
        "scorer": None if table is None else {**table.scorer, "scores": table.name},
        "labels": None
        if labels is None
        else {
            "count": len(labels),
            "used": int(found.judged.sum()),
            "rejected": dict(Counter(reject.reason for reject in labels.rejects)),
        },
        "judge": found.judges.to_json() if found.judges.judgements else None,
        "stability": _stability(settings, evidence, decision),
        "corpus": {"inputs": [source.name for source in corpus.sources], "sha256": found.sha256},
        "file_format": settings.format,
        "settings": settings.to_json(),
    }


def _stability(settings: SelectSettings, evidence: Evidence, decision: Decision) -> dict[str, Any] | None:
    """Return how far the sets are from the judge's, by the scorer's own error, None where that is not known."""
    rule = RULES.get(settings.rule)
    if evidence.error is None or rule is None or settings.limits or settings.whole_conversations:
        return None
    rows = np.argsort(evidence.hashes)[:_SAMPLE]
    scores = evidence.scores[rows].astype(np.float64)
    deviation = np.where(evidence.judged[rows, None], 0.0, deviations_of(evidence.error, scores))
    change = under_error(scores, deviation, decision.sets[rows].astype(np.int64), rule, settings.threshold, draws=50)
    assert change.jaccard_interval is not None
    assert change.moved_interval is not None
    return {
        "of": "the judge's sets, drawn 50 times from the scorer's error",
        "dialogues": len(rows),
        "moved": change.moved,
        "moved_interval_90": list(change.moved_interval),
        "jaccard": {name: _known(value) for name, value in change.jaccard.items()},
        "jaccard_interval_90": {name: list(map(_known, ends)) for name, ends in change.jaccard_interval.items()},
    }


def _known(value: float) -> float | None:
    """Return a figure as JSON holds it: null where it is not defined, as of a set that is empty in every draw."""
    return None if np.isnan(value) else value


def _plain(cuts: Cuts) -> dict[str, Sequence[float]]:
    return {head: [float(cut) for cut in cuts[head]] for head in HEADS}
