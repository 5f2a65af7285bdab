"""Every reply that a judge ever gave, in one SQLite file: what was paid for once is never asked again.

A question is a dialogue's content with everything that shapes the answer (``question_key``). Each reply is committed
when it arrives, usable or not, with its tokens and price, so a killed process loses only what was in flight; the write-
ahead log is flushed to disk every second (``sync``), which bounds what a power cut may cost. The process that labels
holds a lock that ends with it, however it ends; reading needs none.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, astuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from distill.errors import StoreError
from distill.judge.records import SCORED, Asking, Judged, Known, OpenBatch, Question, Reply, label_json
from scorer.dialogue import content_hash
from scorer.errors import reason_of
from scorer.inputs.parse import RecordError, parse_json, parse_record, to_record
from scorer.outputs import check_parent, decode_json

MEMORY = Path(":memory:")
"""A store that is forgotten when it is closed."""

T = TypeVar("T")

_FIX = "take a copy of it, or name another with --store"
_NO_COST = "cost_usd IS NOT NULL AND (typeof(cost_usd) NOT IN ('real', 'integer') OR NOT cost_usd BETWEEN 0 AND 1e15)"
_VERSION = 2
_APPLICATION = 0x454D5059  # "EMPY": the file says whose it is
_CHUNK = 500
_EXPECTED = ("sensibility_mean", "rationality_mean", "sensibility_spread", "rationality_spread")
_SCORES = ("sensibility", "rationality", *_EXPECTED)
_COUNTED = ("served_model", "prompt_tokens", "completion_tokens", "seconds")
_KNOWN = ("status", "detail", *_SCORES, "raw", "cost_usd", *_COUNTED)
_UPGRADE = "".join(f"ALTER TABLE replies ADD COLUMN {name} REAL;" for name in _EXPECTED)
"""From version 1, whose replies hold no expectations."""
_SCHEMA = """
CREATE TABLE rubrics (hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE questions (
    key TEXT PRIMARY KEY, content TEXT NOT NULL, rubric TEXT NOT NULL, base_url TEXT NOT NULL, model TEXT NOT NULL,
    temperature REAL NOT NULL, max_tokens INTEGER NOT NULL, draw INTEGER NOT NULL, dialogue TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE replies (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL REFERENCES questions, status TEXT NOT NULL, detail TEXT NOT NULL,
    sensibility INTEGER, rationality INTEGER, sensibility_mean REAL, rationality_mean REAL, sensibility_spread REAL,
    rationality_spread REAL, raw TEXT NOT NULL, served_model TEXT, prompt_tokens INTEGER,
    completion_tokens INTEGER, price_in REAL, price_out REAL, cost_usd REAL, seconds REAL NOT NULL,
    received TEXT NOT NULL
);
CREATE INDEX replies_of_key ON replies (key);
CREATE TABLE batches (
    name TEXT PRIMARY KEY, base_url TEXT NOT NULL, batch_id TEXT, sizes TEXT NOT NULL, worst_usd REAL NOT NULL,
    price_in REAL, price_out REAL, submitted TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""


class Store:
    """An open label store. Rows go in whole; nothing is ever changed or deleted."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open a store, or create it; StoreError if the file is none."""
        self.path = path
        if not create and not path.exists():
            raise StoreError(f"{path}: no such store; `empathy label` makes it, or name yours with --store")
        check_parent(path, StoreError)
        self._base = path if path == MEMORY else path.resolve()
        self._log: int | None = None
        with self._reading(), ExitStack() as stack:
            self._database = sqlite3.connect(self._base, isolation_level=None, timeout=30)
            stack.callback(self._database.close)
            self._prepare()
            stack.pop_all()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store for labelling; StoreError if another process does. The lock ends with the process."""
        # SQLite's own lock, on a file beside the store: it is portable, ends with the process, and lets others read.
        with ExitStack() as held:
            try:
                holder = sqlite3.connect(f"{self._base}.lock", isolation_level=None, timeout=0)
                held.enter_context(closing(holder))
                holder.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise StoreError(f"{self.path}.lock: cannot be locked: {reason_of(error)}") from None
                fix = "wait for it, or name another with --store"
                raise StoreError(f"{self.path}: another process labels with this store; {fix}") from None
            yield

    def add_questions(self, questions: Iterable[Question], asking: Asking, rubric: str) -> None:
        """Note what is about to be asked, in one transaction; what is known already stays as it is."""
        with self._transaction():
            self._database.execute("INSERT OR IGNORE INTO rubrics VALUES (?, ?)", (asking.rubric, rubric))
            self._database.executemany(
                "INSERT OR IGNORE INTO questions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (_row(question, asking) for question in questions),
            )

    def add(self, key: str, reply: Reply) -> None:
        """Write a reply: after this it survives the end of the process, whatever ends it."""
        self.add_all([(key, reply)])

    def add_all(self, replies: Sequence[tuple[str, Reply]], *, done: str | None = None) -> None:
        """Write replies in one transaction, and in the same one that the batch ``done`` was collected."""
        now = _now()
        with self._transaction():
            for key, reply in replies:
                self._insert("replies", {"key": key, **asdict(reply), "received": now})
            if done is not None:
                self._database.execute("UPDATE batches SET done = 1 WHERE name = ?", (done,))

    def known(self, keys: Sequence[str]) -> dict[str, Known]:
        """Return what is known of some questions, by key; those without a reply are left out."""
        found: dict[str, Known] = {}
        for key, reply in self.replies(keys):
            found[key] = found.get(key, Known()).after(reply)
        return found

    def replies(self, keys: Sequence[str]) -> Iterator[tuple[str, Reply]]:
        """Yield every reply to some questions with its key, those to one question in the order they came."""
        for start in range(0, len(keys), _CHUNK):
            some = keys[start : start + _CHUNK]
            query = f"SELECT key, {', '.join(_KNOWN)} FROM replies WHERE key IN ({_marks(some)}) ORDER BY number"  # noqa: S608
            with self._reading():
                rows = self._database.execute(query, some).fetchall()
            for key, *row in rows:
                yield key, self._typed(dict(zip(_KNOWN, row, strict=True)), Reply)

    def spent(self) -> float:
        """Return what all replies cost together, USD; those without a price count nothing."""
        self._check_costs()
        with self._reading():
            row = self._database.execute("SELECT TOTAL(cost_usd) FROM replies").fetchone()
        return float(row[0])

    def labels(self, where: Mapping[str, Any], *, logprobs: bool = True) -> Iterator[dict[str, Any]]:
        """Yield one labelled record per judged question, oldest answer first.

        ``where`` narrows by column to a value or to some; without ``logprobs`` the scores are the numbers said.
        """
        self._check_costs()
        wanted = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in where.items()}
        narrowed = "".join(f" AND {column} IN ({_marks(values)})" for column, values in wanted.items())
        query = (
            f"SELECT dialogue, q.rubric, base_url, model, temperature, draw, {', '.join(_SCORES)},"  # noqa: S608
            " (SELECT CASE WHEN COUNT(*) = COUNT(cost_usd) THEN SUM(cost_usd) END FROM replies WHERE key = q.key)"
            " FROM questions q JOIN replies r ON r.number ="
            " (SELECT MIN(number) FROM replies WHERE key = q.key AND status = ?)"
            f" WHERE 1{narrowed} ORDER BY r.number"
        )
        with self._reading():
            for text, rubric, base_url, model, temperature, draw, *scores, cost in self._database.execute(
                query, (SCORED, *(value for values in wanted.values() for value in values))
            ):
                known = {"rubric": rubric, "base_url": base_url, "model": model, "temperature": temperature}
                asking = self._typed({**known, "max_tokens": draw}, Asking)
                reply = {"status": SCORED, "cost_usd": cost, **dict(zip(_SCORES, scores, strict=True))}
                judged = Judged.of(self._typed(reply, Reply))
                if judged is None:
                    raise StoreError(f"{self.path}: is damaged (a judgement lacks a score); {_FIX}")
                yield label_json(self._dialogue(text), asking, draw, judged, cost, logprobs=logprobs)

    def add_batch(self, batch: OpenBatch, base_url: str) -> None:
        """Note a batch that is about to be submitted: a process that dies in between finds it by its name."""
        price_in, price_out = batch.prices or (None, None)
        row = {"name": batch.name, "base_url": base_url, "sizes": json.dumps(batch.sizes), "worst_usd": batch.worst_usd}
        with self._transaction():
            self._insert("batches", {**row, "price_in": price_in, "price_out": price_out, "submitted": _now()})

    def set_batch(self, name: str, batch_id: str | None) -> None:
        """Note the id under which the server knows a batch; None says that it never got it."""
        with self._transaction():
            if batch_id is None:
                self._database.execute("UPDATE batches SET done = 1 WHERE name = ?", (name,))
            else:
                self._database.execute("UPDATE batches SET batch_id = ? WHERE name = ?", (batch_id, name))

    def open_batches(self, base_url: str) -> list[OpenBatch]:
        """Return every batch of a server that was submitted, or was about to be, and is not collected."""
        with self._reading():
            query = "SELECT name, batch_id, sizes, worst_usd, price_in, price_out FROM batches"
            rows = self._database.execute(
                f"{query} WHERE base_url = ? AND NOT done ORDER BY submitted, name", (base_url,)
            ).fetchall()
        return [
            self._typed(
                {
                    "name": name,
                    "batch_id": batch_id,
                    "sizes": decode_json(str(sizes), dict[str, Any], self.path, _FIX, StoreError),
                    "worst_usd": worst,
                    "prices": None if price_in is None else (price_in, price_out),
                },
                OpenBatch,
            )
            for name, batch_id, sizes, worst, price_in, price_out in rows
        ]

    def sync(self) -> None:
        """Flush the write-ahead log to disk; may run in another thread."""
        try:
            if self._log is None:
                self._log = os.open(f"{self._base}-wal", os.O_RDWR)
            os.fsync(self._log)
        except FileNotFoundError:  # nothing was written yet
            return
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written to disk: {reason_of(error)}") from error

    def close(self) -> None:
        """Close the file; what was written is in it."""
        if self._log is not None:
            os.close(self._log)
            self._log = None
        self._database.close()

    def __enter__(self) -> Store:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _prepare(self) -> None:
        application = self._database.execute("PRAGMA application_id").fetchone()[0]
        tables = self._database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if tables and application != _APPLICATION:
            raise StoreError(f"{self.path}: is a database of something else; name another with --store")
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if tables and version not in {1, _VERSION}:
            raise StoreError(f"{self.path}: has store version {version}, this release reads {_VERSION}")
        if tables and version == 1:
            self._database.executescript(f"BEGIN IMMEDIATE; {_UPGRADE} PRAGMA user_version = {_VERSION}; COMMIT;")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            pragmas = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
            self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {pragmas} COMMIT;")

    def _insert(self, table: str, row: Mapping[str, Any]) -> None:
        query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({_marks(row)})"  # noqa: S608
        self._database.execute(query, tuple(row.values()))

    def _check_costs(self) -> None:
        """Raise StoreError for a cost that is no amount: in a sum text is the number that it begins with."""
        with self._reading():
            odd = self._database.execute(f"SELECT cost_usd FROM replies WHERE {_NO_COST}").fetchone()  # noqa: S608
        if odd is not None:
            raise StoreError(f"{self.path}: is damaged (a reply cost {odd[0]!a:.60}, expected dollars); {_FIX}")

    def _typed(self, row: Mapping[str, Any], kind: type[T]) -> T:
        """Return a row as a record; SQLite lets text and blobs stand where numbers belong."""
        try:
            return msgspec.convert(row, kind)
        except msgspec.ValidationError as error:
            raise StoreError(f"{self.path}: is damaged ({reason_of(error)}); {_FIX}") from None

    def _dialogue(self, text: Any) -> dict[str, Any]:
        """Return a dialogue as it was asked about."""
        try:
            record = parse_json(str(text))
            parse_record(record)
        except RecordError as error:
            raise StoreError(f"{self.path}: is damaged (a question is no dialogue: {error}); {_FIX}") from None
        return dict(record)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reading():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn a fault of SQLite or of the disk into one line."""
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where SQLite's own message is no text
            raise StoreError(f"{self.path}: cannot be used as a label store: {reason_of(error)}") from error


def _row(question: Question, asking: Asking) -> tuple[Any, ...]:
    dialogue = json.dumps(to_record(question.dialogue, short=True))
    return (question.key, content_hash(question.dialogue.turns), *astuple(asking), question.draw, dialogue)


def _marks(values: Sized) -> str:
    return ", ".join("?" * len(values))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
