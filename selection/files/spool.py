"""The one pass over the dialogues: each finds its scores, goes to a spool on disk, and leaves a few numbers behind.

Memory holds some 50 bytes a dialogue beside the ids that ``Corpus`` remembers. As the text waits in the spool, the
input is read once, and may be a pipe.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from scorer.dialogue import Dialogue, content_hash
from scorer.errors import RejectedError
from scorer.inputs.corpus import Corpus, id_hash
from scorer.inputs.parse import Reject, to_record
from scorer.run.score_table import ScoreTable
from selection.errors import SelectionError
from selection.files.labels import Index, Judges, LabelTable
from selection.files.layouts import to_line

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

WINDOW = 8192
SPOOL, ROWS, REJECTS = "spool.jsonl", "rows.arrow", "rejects.jsonl"

Report = Callable[[int], None]


@dataclass(slots=True, eq=False)
class Gathered:
    """What the pass leaves of N dialogues, in input order; their ids, categories and lengths are in ``ROWS``.

    ``scores`` (N, 2) and ``judged`` (N,) as in ``decide.Evidence``; ``matched`` counts the scores that found their
    dialogue. ``sha256`` is of the ids and texts of all dialogues.
    """

    scores: npt.NDArray[np.float32]
    judged: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint64]
    conversations: npt.NDArray[np.uint64]
    categories: npt.NDArray[np.int64]
    names: list[str]
    tokens: npt.NDArray[np.int64] | None
    rejected: Counter[str]
    first_reject: str
    matched: int
    judges: Judges
    sha256: str

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.scores)


@dataclass(slots=True)
class _Columns:
    """Grows by a row a dialogue; arrays of machine numbers, 8 bytes a row or less each."""

    # Doubles, though scores are floats: a running mean would drift over a cut in them.
    sensibility: array[float] = field(default_factory=lambda: array("d"))
    rationality: array[float] = field(default_factory=lambda: array("d"))
    judged: array[int] = field(default_factory=lambda: array("b"))
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    conversations: array[int] = field(default_factory=lambda: array("Q"))
    categories: array[int] = field(default_factory=lambda: array("i"))
    tokens: array[int] = field(default_factory=lambda: array("I"))


def gather(
    corpus: Corpus,
    folder: Path,
    *,
    table: ScoreTable | None,
    labels: LabelTable | None,
    tokenizer: Tokenizer | None,
    strict: bool,
    report: Report,
) -> Gathered:
    """Read a corpus once, writing spool, rows and rejects into ``folder``.

    Without ``table`` the dialogues' own labels are their scores; several judgements of one id are averaged. With
    ``labels`` those replace the scores of their dialogues. ``tokenizer``, if given, counts each dialogue's tokens.
    ``report`` hears the number of records after each window. RejectedError under ``strict``; SelectionError if no
    dialogue has a score.
    """
    with (
        open(folder / SPOOL, "wb") as spool,
        open(folder / REJECTS, "w", encoding="utf-8") as rejects,
        _RowWriter(folder / ROWS) as rows,
    ):
        run = _Gathering(table, labels, tokenizer, spool, rejects, rows, strict=strict)
        records = iter(corpus)
        while window := list(islice(records, WINDOW)):
            run.add(window)
            report(len(window))
    return run.finish()


class _Gathering:
    """The state of one pass."""

    def __init__(
        self,
        table: ScoreTable | None,
        labels: LabelTable | None,
        tokenizer: Tokenizer | None,
        spool: IO[bytes],
        rejects: IO[str],
        rows: _RowWriter,
        *,
        strict: bool,
    ) -> None:
        self._table, self._labels, self._tokenizer = table, labels, tokenizer
        self._spool, self._rejects, self._rows, self._strict = spool, rejects, rows, strict
        self._index = Index(table.hashes) if table is not None else None
        self._label_index = Index(labels.hashes) if labels is not None else None
        self._columns = _Columns()
        self._category_codes: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._first_reject = ""
        self._judges = Judges()
        self._digest = sha256()
        # Judgements of one id, where the dialogues' own labels decide: its row, its content and how many there were.
        self._seen: dict[int, tuple[int, str, int]] = {}

    def add(self, window: list[Dialogue | Reject]) -> None:
        dialogues = []
        for record in window if self._table is None else self._take_scores(window, self._table):
            if isinstance(record, Reject):
                self._reject(record)
            elif self._table is not None or self._take_label(record):
                dialogues.append(record)
        lines = [to_line(to_record(dialogue)) for dialogue in dialogues]
        for dialogue, line in zip(dialogues, lines, strict=True):
            self._digest.update(line)
            self._columns.conversations.append(id_hash(dialogue.conversation))
            category = dialogue.category
            known = self._category_codes
            self._columns.categories.append(-1 if category is None else known.setdefault(category, len(known)))
        if self._tokenizer is not None:
            self._columns.tokens.extend(_token_counts(self._tokenizer, dialogues))
        self._spool.writelines(lines)
        self._rows.add(dialogues)

    def finish(self) -> Gathered:
        columns = self._columns
        scores = np.stack([np.array(columns.sensibility), np.array(columns.rationality)], axis=1)
        if not len(scores):
            first = f"; the first: {self._first_reject}" if self._first_reject else ""
            wanted = "a label (or name their scores with --scores)" if self._table is None else "a score"
            raise SelectionError(f"no dialogue has {wanted} among {self._counts.total()} records{first}")
        if self._labels is not None and not any(columns.judged):
            raise SelectionError(
                f"none of the {len(self._labels)} labels is of a dialogue with a score, by its id and text; give "
                "labels of the input"
            )
        return Gathered(
            scores=scores.astype(np.float32),
            judged=np.array(columns.judged, dtype=bool),
            hashes=np.array(columns.hashes, dtype=np.uint64),
            conversations=np.array(columns.conversations, dtype=np.uint64),
            categories=np.array(columns.categories, dtype=np.int64),
            names=list(self._category_codes),
            tokens=np.array(columns.tokens, dtype=np.int64) if self._tokenizer is not None else None,
            rejected=self._counts,
            first_reject=self._first_reject,
            matched=len(scores),
            judges=self._judges if self._labels is None else self._labels.judges,
            sha256=self._digest.hexdigest(),
        )

    def _take_scores(self, window: list[Dialogue | Reject], table: ScoreTable) -> list[Dialogue | Reject]:
        """Look up the scores of a window's dialogues; return the window, with rejects for those without one."""
        assert self._index is not None
        dialogues = [record for record in window if isinstance(record, Dialogue)]
        hashes = np.fromiter((id_hash(dialogue.id) for dialogue in dialogues), dtype=np.uint64, count=len(dialogues))
        rows = self._index.rows_of(hashes)
        found = rows >= 0
        kept = [dialogue for dialogue, one in zip(dialogues, found, strict=True) if one]
        scores, hashes = table.scores[rows[found]], hashes[found]
        judged = np.zeros(len(hashes), dtype=bool)
        if self._labels is not None and self._label_index is not None:
            labelled = self._label_index.rows_of(hashes)
            judged = labelled >= 0
            # Many corpora count from 0: the same id alone is not the same dialogue.
            for place in np.flatnonzero(judged):
                content = id_hash(content_hash(kept[place].turns))
                judged[place] = content == int(self._labels.contents[labelled[place]])
            scores[judged] = self._labels.scores[labelled[judged]]
        columns = self._columns
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
        row, known, count = self._seen.get(key, (len(self._columns.hashes), content, 0))
        if known != content:
            detail = f"id {dialogue.id!a} occurred before with another text, expected unique ids"
            self._reject(Reject(dialogue.source, dialogue.line, "duplicate_id", detail, dialogue.id))
            return False
        self._judges.add(dialogue.labels)
        self._seen[key] = (row, content, count + 1)
        columns = self._columns
        if count:
            for column, value in zip((columns.sensibility, columns.rationality), values, strict=True):
                column[row] = (column[row] * count + value) / (count + 1)
            return False
        columns.sensibility.append(values[0])
        columns.rationality.append(values[1])
        columns.judged.append(1)
        columns.hashes.append(key)
        return True

    def _reject(self, reject: Reject) -> None:
        if self._strict:
            raise RejectedError(f"{reject} (--strict)")
        self._first_reject = self._first_reject or str(reject)
        self._counts[reject.reason] += 1
        self._rejects.write(json.dumps(asdict(reject)) + "\n")


class _RowWriter:
    """Writes ids, categories and lengths as Arrow batches, a window each."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._schema = pa.schema(
            [("id", pa.string()), ("category", pa.string()), ("turns", pa.int32()), ("words", pa.int32())]
        )
        self._writer = pa.ipc.new_stream(str(path), self._schema)

    def add(self, dialogues: list[Dialogue]) -> None:
        import pyarrow as pa

        columns = [
            [dialogue.id for dialogue in dialogues],
            [dialogue.category for dialogue in dialogues],
            [len(dialogue.turns) for dialogue in dialogues],
            [len(dialogue.response.split()) for dialogue in dialogues],
        ]
        self._writer.write_batch(
            pa.record_batch(
                [pa.array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)],
                schema=self._schema,
            )
        )

    def __enter__(self) -> _RowWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


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
    try:
        return [len(found.ids) for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    except Exception as error:
        if type(error) is not Exception:  # the library raises nothing more precise; this is another's
            raise
        raise SelectionError(f"tokens cannot be counted: {error}; name another tokenizer with --tokenizer") from None
