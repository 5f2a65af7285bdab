"""The one pass over the dialogues: each finds its scores, goes to a spool on disk, and leaves a few numbers behind.

Memory holds some 50 bytes per dialogue beside the ids that ``Corpus`` remembers. As the text waits in the spool, the
input is read once, and may be a pipe.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from scorer.arrays import Mask
from scorer.bundle.cuts import JUDGE_CUTS
from scorer.bundle.tokenizer.faults import tokenizer_faults
from scorer.dialogue import Dialogue, content_hash
from scorer.errors import RejectedError
from scorer.inputs.corpus import Corpus, id_hash
from scorer.inputs.parse import Reject, to_record
from scorer.outputs import json_line
from scorer.progress import Progress
from scorer.run.score_table import ScoreTable
from selection.deciding.decide import Evidence
from selection.deciding.pairs import Candidates
from selection.errors import SelectionError
from selection.files.labels import Index, Judges, LabelTable, another_text
from selection.files.layouts import to_line, whole_line
from selection.files.manifest import REJECTS
from selection.files.pairs import CandidateColumns, is_unfinished

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

SPOOL, ROWS = "spool.jsonl", "rows.arrow"

_WINDOW = 8192
_WINDOW_BYTES = 1 << 25
_LARGE_LINE = 1 << 14  # the record of a longer one does not wait in memory

_Item = tuple[Dialogue | Reject, bytes, bool]
"""A record, its line for the spool, and whether its response is unfinished."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spooled:
    """What the pass leaves of the dialogues beside the files: ``evidence`` is in input order, as the files are.

    ``candidates`` are there where pairs are made of them. ``synthetic`` (N,) says which a model wrote as a whole.
    ``sha256`` is of the ids and texts of all dialogues. ``lost`` counts what no line of the spool holds.
    """

    evidence: Evidence
    candidates: Candidates | None
    synthetic: Mask
    lost: Counter[str]
    rejected: Counter[str]
    judges: Judges
    sha256: str


def spool_corpus(
    corpus: Corpus,
    folder: Path,
    progress: Progress,
    *,
    table: ScoreTable | None = None,
    labels: LabelTable | None = None,
    tokenizer: Tokenizer | None = None,
    strict: bool = False,
    pairing: bool = False,
) -> Spooled:
    """Read a corpus once, writing spool, rows and rejects into ``folder``.

    Without ``table`` the dialogues' own labels are their scores; several judgements of one id are averaged. With
    ``labels`` those replace the scores of their dialogues. ``tokenizer``, if given, counts each dialogue's tokens.
    ``pairing`` notes which dialogues share a context.
    RejectedError under ``strict``; SelectionError if no dialogue has a score.
    """
    import pyarrow as pa

    progress.stage("selecting", corpus.total_bytes)
    schema = pa.schema({"id": pa.string(), "category": pa.string(), "turns": pa.int32(), "words": pa.int32()})
    with (
        open(folder / SPOOL, "wb") as spool,
        open(folder / REJECTS, "w", encoding="utf-8") as rejects,
        pa.ipc.new_stream(str(folder / ROWS), schema) as rows,
    ):
        run = _Pass(table, labels, tokenizer, strict, pairing, spool, rejects, rows, schema)
        for window in _windows(corpus, run.lost, pairing=pairing):
            run.add(window)
            progress.update(corpus.bytes_read)
    return run.finish()


def _windows(corpus: Corpus, lost: Counter[str], *, pairing: bool) -> Iterator[list[_Item]]:
    """Yield windows of records, each dialogue with its line for the spool."""
    window: list[_Item] = []
    size = 0
    for record in corpus:
        if isinstance(record, Reject):
            window.append((record, b"", False))
        else:
            line = whole_line(record, corpus.fields, lost)
            short = replace(record, record=None) if len(line) > _LARGE_LINE else record
            window.append((short, line, pairing and is_unfinished(record)))
            size += len(line)
        if len(window) == _WINDOW or size >= _WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


class _Columns:
    """Grows by one row per dialogue; arrays of machine numbers, at most 8 bytes each."""

    def __init__(self) -> None:
        # Doubles, though scores are floats: a running mean would drift over a cut in them.
        self.sensibility, self.rationality = array("d"), array("d")
        self.judged, self.synthetic = array("b"), array("b")
        self.categories, self.tokens = array("i"), array("I")
        self.hashes, self.conversations = array("Q"), array("Q")


@dataclass
class _Pass:
    """The state of one pass."""

    table: ScoreTable | None
    labels: LabelTable | None
    tokenizer: Tokenizer | None
    strict: bool
    pairing: bool
    spool: IO[bytes]
    rejects: IO[str]
    rows: pa.RecordBatchWriter
    schema: pa.Schema

    def __post_init__(self) -> None:
        self.columns = _Columns()
        self.candidates = CandidateColumns() if self.pairing else None
        self.category_codes: dict[str, int] = {}
        self.rejected: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.first_reject = ""
        self.judges = Judges()
        self.digest = sha256()
        # Judgements of one id, where the dialogues' own labels decide: its row, its content and how many there were.
        self.seen: dict[int, tuple[int, str, int]] = {}
        self.index = None if self.table is None else Index(self.table.hashes)
        self.label_index = None if self.labels is None else Index(self.labels.hashes)

    def add(self, window: list[_Item]) -> None:
        import pyarrow as pa

        dialogues, lines = [], []
        records = [record for record, _, _ in window]
        taken = records if self.table is None else self._take_scores(records, self.table)
        for record, (_, line, unfinished) in zip(taken, window, strict=True):
            if isinstance(record, Reject):
                self._reject(record)
            elif self.table is not None or self._take_label(record):
                dialogues.append(record)
                lines.append(line)
                if self.candidates is not None:
                    self.candidates.add(record, unfinished=unfinished)
        known = self.category_codes
        for dialogue in dialogues:
            self.digest.update(to_line(to_record(dialogue)))
            self.columns.conversations.append(id_hash(dialogue.conversation))
            self.columns.synthetic.append(dialogue.synthetic)
            category = dialogue.category
            self.columns.categories.append(-1 if category is None else known.setdefault(category, len(known)))
        if self.tokenizer is not None:
            self.columns.tokens.extend(_token_counts(self.tokenizer, dialogues))
        self.spool.writelines(lines)
        columns = {
            "id": [dialogue.id for dialogue in dialogues],
            "category": [dialogue.category for dialogue in dialogues],
            "turns": [len(dialogue.turns) for dialogue in dialogues],
            "words": [len(dialogue.response.split()) for dialogue in dialogues],
        }
        self.rows.write_batch(pa.RecordBatch.from_pydict(columns, schema=self.schema))

    def finish(self) -> Spooled:
        columns = self.columns
        scores = np.stack([np.array(columns.sensibility), np.array(columns.rationality)], axis=1)
        if not len(scores):
            first = f"; the first: {self.first_reject}" if self.first_reject else ""
            wanted = "a label (or name their scores with --scores)" if self.table is None else "a score"
            raise SelectionError(f"no dialogue has {wanted} among {self.rejected.total()} records{first}")
        if self.labels is not None and not any(columns.judged):
            raise SelectionError(
                f"none of the {len(self.labels)} labels is of a dialogue with a score, by its id and text; give "
                "labels of the input"
            )
        evidence = Evidence(
            scores=scores.astype(np.float32),
            cuts=JUDGE_CUTS if self.table is None else self.table.cuts,
            judged=np.array(columns.judged, dtype=bool),
            error=None if self.table is None else self.table.error,
            hashes=np.array(columns.hashes, dtype=np.uint64),
            conversations=np.array(columns.conversations, dtype=np.uint64),
            categories=np.array(columns.categories, dtype=np.int64),
            tokens=np.array(columns.tokens, dtype=np.int64) if self.tokenizer is not None else None,
        )
        judges = self.judges if self.labels is None else self.labels.judges
        return Spooled(
            evidence=evidence,
            candidates=None if self.candidates is None else self.candidates.found(),
            synthetic=np.array(columns.synthetic, dtype=bool),
            lost=self.lost,
            rejected=self.rejected,
            judges=judges,
            sha256=self.digest.hexdigest(),
        )

    def _take_scores(self, window: list[Dialogue | Reject], table: ScoreTable) -> list[Dialogue | Reject]:
        """Look up the scores of a window's dialogues; return the window, with rejects for those without one."""
        assert self.index is not None
        dialogues = [record for record in window if isinstance(record, Dialogue)]
        hashes = np.fromiter((id_hash(dialogue.id) for dialogue in dialogues), dtype=np.uint64, count=len(dialogues))
        rows = self.index.rows_of(hashes)
        found = rows >= 0
        kept = [dialogue for dialogue, one in zip(dialogues, found, strict=True) if one]
        scores, hashes = table.scores[rows[found]], hashes[found]
        judged = np.zeros(len(hashes), dtype=bool)
        if self.labels is not None and self.label_index is not None:
            labelled = self.label_index.rows_of(hashes)
            judged = labelled >= 0
            # Many corpora count from 0: the same id alone is not the same dialogue.
            for place in np.flatnonzero(judged):
                content = id_hash(content_hash(kept[place].turns))
                judged[place] = content == int(self.labels.contents[labelled[place]])
            scores[judged] = self.labels.scores[labelled[judged]]
        columns = self.columns
        columns.sensibility.frombytes(scores[:, 0].astype(np.float64).tobytes())
        columns.rationality.frombytes(scores[:, 1].astype(np.float64).tobytes())
        columns.judged.frombytes(judged.tobytes())
        columns.hashes.frombytes(hashes.tobytes())
        has_score = iter(found)
        return [
            record if isinstance(record, Reject) or next(has_score) else _no_score(record, table) for record in window
        ]

    def _take_label(self, dialogue: Dialogue) -> bool:
        """Note a dialogue's own label; False for a further judgement of one that is there already, or a reject."""
        assert dialogue.labels is not None
        key, content = id_hash(dialogue.id), content_hash(dialogue.turns)
        values = (dialogue.labels.sensibility, dialogue.labels.rationality)
        columns = self.columns
        row, known, count = self.seen.get(key, (len(columns.hashes), content, 0))
        if known != content:
            self._reject(another_text(dialogue))
            return False
        self.judges.add(dialogue.labels)
        self.seen[key] = (row, content, count + 1)
        if not count:
            columns.judged.append(1)
            columns.hashes.append(key)
        for column, value in zip((columns.sensibility, columns.rationality), values, strict=True):
            if count:
                column[row] = (column[row] * count + value) / (count + 1)
            else:
                column.append(value)
        return not count

    def _reject(self, reject: Reject) -> None:
        if self.strict:
            raise RejectedError(f"{reject} (--strict)")
        self.first_reject = self.first_reject or str(reject)
        self.rejected[reject.reason] += 1
        self.rejects.write(json_line(reject))


def read_rows(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the batches that a pass wrote: id, category, turns, words."""
    import pyarrow as pa

    with pa.ipc.open_stream(str(path)) as reader:
        yield from reader


def _no_score(dialogue: Dialogue, table: ScoreTable) -> Reject:
    detail = f"id {dialogue.id!a} is not in {table.name}, expected a score for every dialogue"
    return Reject(dialogue.source, dialogue.line, "no_score", detail, dialogue.id)


def _token_counts(tokenizer: Tokenizer, dialogues: list[Dialogue]) -> list[int]:
    """Return how many tokens the turns of each dialogue have, without special ones."""
    texts = ["\n".join(turn.content for turn in dialogue.turns) for dialogue in dialogues]
    fix = "name another tokenizer with --tokenizer"
    with tokenizer_faults(lambda why: SelectionError(f"tokens cannot be counted: {why}; {fix}")):
        return [len(found.ids) for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
