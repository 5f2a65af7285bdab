"""`empathy select`: scores and dialogues in, a folder of training sets out, whole or not at all."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scorer.apart import check_apart
from scorer.arrays import Mask
from scorer.bundle.cuts import JUDGE_CUTS
from scorer.dialogue import HEADS
from scorer.inputs.corpus import Corpus
from scorer.outputs import new_folder, replacing_binary, write_json
from scorer.progress import Progress, Silent
from scorer.run.score_table import ScoreTable
from selection.deciding.decide import Decision, Evidence, count_both_low, decide
from selection.deciding.pairs import pair_up
from selection.deciding.stability import deviations, most_doubtful, under_error
from selection.deciding.threshold import bins_of, for_share, match, sweep
from selection.errors import SelectionError
from selection.files import manifest
from selection.files.labels import LabelTable
from selection.files.layouts import convert
from selection.files.manifest import ABSTAINED, REJECTS, SELECTION_JSON, TABLE, SelectionInfo, Stability, Thresholds
from selection.files.pairs import write_pairs
from selection.files.spool import ROWS, SPOOL, read_rows, spool_corpus
from selection.rules import RULES, rule_of
from selection.settings import PAIRS, SelectSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROW_GROUP = 1 << 17

SAMPLE = 50_000
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
    info: SelectionInfo


def select_sets(
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
    progress: Progress | None = None,
) -> Selection:
    """Assign the dialogues of ``corpus`` to sets and write them to the folder ``output``.

    Scores come from ``table``, or where it is None from the dialogues' own labels; ``labels`` replace the scores of
    the dialogues that they judge. A corpus that keeps its records gives sets that hold all that came in, another one
    turns and categories only. ``aim`` chooses the thresholds. OutputError if the folder may not be written,
    SelectionError if nothing can be selected.
    """
    check_apart(output, *corpus.inputs)
    manifest.check_selection_folder(output, overwrite=overwrite)
    with new_folder(output, mark=SELECTION_JSON, written=manifest.written_files) as work:
        given: dict[str, Any] = {"table": table, "labels": labels, "tokenizer": tokenizer, "strict": strict}
        found = spool_corpus(corpus, work, progress or Silent(), pairing=settings.rule == PAIRS, **given)
        evidence = found.evidence
        settings, how = _aimed(settings, evidence, aim)
        pairs = None
        if found.candidates is None:
            decision = decide(evidence, settings)
        else:
            decision, paired = pair_up(evidence, found.candidates, settings)
            pairs = write_pairs(work, work / SPOOL, paired, decision, evidence, settings)
        lost = found.lost + _write_sets(work, decision, evidence, settings)
        _write_table(work, decision, evidence)
        rule = RULES.get(settings.rule)
        info = SelectionInfo(
            created=datetime.now(UTC).date().isoformat(),
            rule=manifest.AppliedRule(
                name=settings.rule,
                source=rule.source if rule else _source(settings),
                threshold=dict(zip(HEADS, settings.threshold, strict=True)),
                how=how,
            ),
            cuts={head: [float(cut) for cut in evidence.cuts[head]] for head in HEADS},
            dialogues=len(evidence),
            judged=int(evidence.judged.sum()),
            sets=_sets(decision, found.synthetic),
            pairs=pairs,
            reasons=decision.reason_counts(),
            borderline=int(decision.borderline.sum()),
            both_low=count_both_low(evidence, settings),
            synthetic=int(found.synthetic.sum()),
            rejected=manifest.Rejected(count=found.rejected.total(), reasons=dict(found.rejected.most_common())),
            scores_without_dialogue=0 if table is None else len(table) - len(evidence),
            scorer=None if table is None else {**table.scorer, "scores": table.name},
            labels=None if labels is None else _labels(labels, evidence),
            judge=found.judges.info() if found.judges.judgements else None,
            stability=stability_of(settings, evidence, decision),
            corpus=manifest.CorpusInfo(inputs=[source.shown for source in corpus.sources], sha256=found.sha256),
            file_format=settings.format,
            lost={name: count for name, count in lost.items() if count},
            settings=settings,
        )
        write_json(work / SELECTION_JSON, info)
        for name in (SPOOL, ROWS) if found.rejected else (SPOOL, ROWS, REJECTS):
            (work / name).unlink()
    return Selection(output, info)


def _source(settings: SelectSettings) -> str:
    if settings.rule == PAIRS:
        return f"pairs of responses to one context, by {settings.by}, at least {settings.pairing.margin:g} apart"
    return f"the best by {settings.by}"


def _aimed(settings: SelectSettings, evidence: Evidence, aim: Aim | None) -> tuple[SelectSettings, Thresholds]:
    """Return the settings with the thresholds that ``aim`` asks for, and how they came about."""
    if aim is None or (aim.share is None and aim.labels is None):
        return settings, Thresholds(by="given")
    if settings.rule == PAIRS:
        raise SelectionError("a target share, or labels to match, choose the threshold of sets; pairs have none")
    if aim.share is not None:
        by_judge = evidence.judged[:, None]
        bins = np.where(by_judge, bins_of(evidence.scores, JUDGE_CUTS), bins_of(evidence.scores, evidence.cuts))
        at = for_share(sweep(bins), aim.share)
        return replace(settings, threshold=(at, at)), Thresholds(by="target share", share=aim.share)
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
    how = Thresholds(
        by="match",
        labels=aim.labels_name,
        judge_threshold=dict(zip(HEADS, settings.threshold, strict=True)),
        dialogues=found.dialogues,
        f1=found.f1,
        f1_cross_validated=found.cross_validated,
        f1_interval_95=found.interval,
        threshold_interval_95=dict(zip(HEADS, found.threshold_interval, strict=True)),
    )
    return replace(settings, threshold=found.threshold), how


def _write_sets(work: Path, decision: Decision, evidence: Evidence, settings: SelectSettings) -> Counter[str]:
    """Write each line of the spool to the file of its set, and the most doubtful ones to that for the judge.

    Return the counts of what the layout has no place for.
    """
    lost: Counter[str] = Counter()
    doubtful = np.zeros(len(evidence), dtype=bool)
    if settings.abstain and decision.chance is not None:
        count = round(settings.abstain if settings.abstain >= 1 else settings.abstain * len(evidence))
        unjudged = np.flatnonzero(~evidence.judged)
        asked_for = most_doubtful(decision.chance[unjudged], evidence.hashes[unjudged], count)
        doubtful[unjudged[asked_for]] = True
    with ExitStack() as stack:
        files = [stack.enter_context(replacing_binary(work / f"{name}.jsonl")) for name in decision.names]
        asked = stack.enter_context(replacing_binary(work / ABSTAINED)) if settings.abstain else None
        spool = stack.enter_context(open(work / SPOOL, "rb"))
        for line, number, ask in zip(spool, decision.sets.tolist(), doubtful.tolist(), strict=True):
            files[number].write(convert(line, settings.format, lost))
            if ask and asked is not None:
                asked.write(line)
    return lost


def _write_table(work: Path, decision: Decision, evidence: Evidence) -> None:
    """Write selection.parquet in groups of about ``_ROW_GROUP`` rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.dictionary(pa.int8(), pa.string())
    types = {
        "id": pa.string(),
        **dict.fromkeys(HEADS, pa.float32()),
        "set": texts,
        "reason": texts,
        "borderline": pa.bool_(),
        "chance": pa.float32(),
        "judged": pa.bool_(),
        "category": pa.string(),
        "turns": pa.int32(),
        "words": pa.int32(),
    }
    schema = pa.schema(types)
    start = 0
    waiting: list[Any] = []
    with replacing_binary(work / TABLE) as file, pq.ParquetWriter(file, schema) as writer:
        for batch in read_rows(work / ROWS):
            rows = slice(start, start + batch.num_rows)
            start = rows.stop
            columns = {name: batch.column(name) for name in ("id", "category", "turns", "words")} | {
                **{head: evidence.scores[rows, i] for i, head in enumerate(HEADS)},
                "set": pa.DictionaryArray.from_arrays(decision.sets[rows], decision.names),
                "reason": pa.DictionaryArray.from_arrays(decision.reasons[rows], decision.texts),
                "borderline": decision.borderline[rows],
                "chance": pa.nulls(batch.num_rows) if decision.chance is None else decision.chance[rows],
                "judged": evidence.judged[rows],
            }
            waiting.append(pa.RecordBatch.from_pydict(columns, schema=schema))
            if sum(part.num_rows for part in waiting) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))


def _sets(decision: Decision, synthetic: Mask) -> dict[str, manifest.SetInfo]:
    counts = decision.counts()
    marks = (decision.borderline, synthetic)
    doubtful, written = (
        np.bincount(decision.sets, weights=mark, minlength=len(counts)).astype(int).tolist() for mark in marks
    )
    total = sum(counts.values())
    return {
        name: manifest.SetInfo(
            count=count, share=count / total, borderline=unsure, synthetic=made, file=f"{name}.jsonl"
        )
        for (name, count), unsure, made in zip(counts.items(), doubtful, written, strict=True)
    }


def _labels(labels: LabelTable, evidence: Evidence) -> manifest.LabelsInfo:
    rejected = Counter(reject.reason for reject in labels.rejects)
    return manifest.LabelsInfo(count=len(labels), used=int(evidence.judged.sum()), rejected=dict(rejected))


def stability_of(settings: SelectSettings, evidence: Evidence, decision: Decision) -> Stability | None:
    """Return how far the sets are from the judge's, by the scorer's own error, None where that is not known."""
    rule = rule_of(settings)
    if evidence.error is None or rule is None or settings.limits or settings.whole_conversations:
        return None
    rows = np.argsort(evidence.hashes)[:SAMPLE]
    scores = evidence.scores[rows].astype(np.float64)
    deviation = np.where(evidence.judged[rows, None], 0.0, deviations(evidence.error, scores))
    change = under_error(scores, deviation, decision.sets[rows].astype(np.int64), rule, settings.threshold, draws=50)
    intervals, moved_interval = change.jaccard_interval, change.moved_interval
    assert intervals is not None
    assert moved_interval is not None
    return Stability(
        of="the judge's sets, drawn 50 times from the scorer's error",
        dialogues=len(rows),
        moved=change.moved,
        moved_interval_90=moved_interval,
        jaccard={name: _known(value) for name, value in change.jaccard.items()},
        jaccard_interval_90={name: (_known(low), _known(high)) for name, (low, high) in intervals.items()},
    )


def _known(value: float) -> float | None:
    """Return a figure as JSON holds it: null where it is not defined, as of a set that is empty in every draw."""
    return None if np.isnan(value) else value
