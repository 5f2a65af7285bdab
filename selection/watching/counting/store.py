"""Where a watch keeps what it counted: one SQLite file, to which every call adds a line before it returns.

The lines are folded into the cells of their windows now and then, so that a call writes little and the file stays
small. The file is in WAL mode: what a call wrote outlives the process however that ends.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from scorer.errors import reason_of
from selection.errors import WatchError
from selection.watching.counting.cells import BINS, SIZE, Cell, Row
from selection.watching.counting.counts import Batch, Counts, together

_VERSION = f"1 {SIZE} {BINS} {Row.itemsize}"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (number INTEGER PRIMARY KEY AUTOINCREMENT, rows BLOB, more TEXT);
CREATE TABLE IF NOT EXISTS cells (
    kind TEXT, start INTEGER, span INTEGER, category INTEGER, data BLOB, PRIMARY KEY (kind, start, span, category)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (source TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (number INTEGER PRIMARY KEY, value TEXT);
"""
_FOLD_ROWS, _FOLD_LINES = 5000, 200


class Store:
    """The file of a watch; ``None`` keeps all in memory."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the file; WatchError if it is no state of this release."""
        self.path = path
        with self._faults():
            self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=5)
            tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables - {"sqlite_sequence"} and self._version() != _VERSION:
                raise WatchError(f"{path}: is no state of `empathy watch` of this release; name another file")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")  # in WAL mode nothing is lost but in a power cut
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (_VERSION,))
        self._rows = self._lines = 0

    def _version(self) -> str | None:
        try:
            found = self._db.execute("SELECT value FROM meta WHERE name = 'version'").fetchone()
        except sqlite3.OperationalError:
            return None
        return found and str(found[0])

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise WatchError(f"{self.path or 'memory'}: the state cannot be kept: {reason_of(error)}") from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all of it or nothing."""
        with self._faults():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def append(self, batch: Batch, positions: Mapping[str, Any]) -> None:
        """Keep a batch, and how far its sources are read: when this returns they outlive the process."""
        more = {"names": batch.names, "outside": batch.outside, "moved": batch.moved, "lows": batch.lows}
        with self.transaction():
            if len(batch.rows) or batch.outside:
                self._db.execute("INSERT INTO log (rows, more) VALUES (?, ?)", (batch.rows.tobytes(), json.dumps(more)))
            self._db.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?)",
                [(name, json.dumps(value)) for name, value in positions.items()],
            )
        self._rows += len(batch.rows)
        self._lines += 1

    @property
    def is_due(self) -> bool:
        """Whether there is enough to fold."""
        return self._rows >= _FOLD_ROWS or self._lines >= _FOLD_LINES

    def fold(self, counts: Counts) -> None:
        """Write the cells of ``counts``, which hold all lines, and remove the lines."""
        cells = [("window", *key, category, _packed(counts.windows[key][category])) for key, category in counts.changed]
        cells += [("reference", 0, 0, category, _packed(cell)) for category, cell in counts.reference.items()]
        known = {"names": counts.names, "total": counts.total, "after": counts.after, "outside": counts.outside}
        known |= {"moved": counts.moved, "lows": counts.lows}
        with self.transaction():
            self._db.executemany("DELETE FROM cells WHERE kind = 'window' AND start = ? AND span = ?", counts.gone)
            self._db.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?)", cells)
            values = {"counts": json.dumps(known), "recent": counts.recent.tobytes()}
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))
            self._db.execute("DELETE FROM log")
        counts.changed.clear()
        counts.gone.clear()
        self._rows = self._lines = 0

    def load(self, counts: Counts) -> None:
        """Bring ``counts``, which are empty, to what the file holds; WatchError if it is damaged."""
        try:
            with self._faults():
                self._load(counts)
        except (ValueError, TypeError, KeyError, IndexError, zlib.error) as error:
            raise WatchError(f"{self.path}: is damaged ({reason_of(error)}); name another file") from None

    def _load(self, counts: Counts) -> None:
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        if "counts" in meta:
            known = json.loads(meta["counts"])
            for name in ("names", "total", "after", "moved", "lows"):
                setattr(counts, name, known[name])
            counts.outside = [(part, whole) for part, whole in known["outside"]]
            counts.recent = np.frombuffer(meta["recent"], dtype=Row)[-counts.recent_rows :]
        for kind, start, span, category, data in self._db.execute("SELECT * FROM cells"):
            cell = Cell(np.frombuffer(zlib.decompress(data), dtype=np.float64).copy())
            if cell.data.shape != (SIZE,):
                raise ValueError(f"a cell of {cell.data.shape} numbers")
            if kind == "reference":
                counts.reference[category] = cell
            else:
                counts.windows.setdefault((start, span), {})[category] = cell
        batches = []
        for rows, more in self._db.execute("SELECT rows, more FROM log ORDER BY number").fetchall():
            known = json.loads(more)
            batches.append(
                Batch(
                    rows=np.frombuffer(rows, dtype=Row),
                    **known | {"outside": [(part, whole) for part, whole in known["outside"]]},
                )
            )
            self._rows += len(batches[-1].rows)
        self._lines = len(batches)
        counts.add(together(batches))

    def positions(self) -> dict[str, Any]:
        """Return how far each source is read."""
        with self._faults():
            found = self._db.execute("SELECT source, value FROM positions").fetchall()
        return {name: json.loads(value) for name, value in found}

    def get(self, name: str) -> Any:
        """Return what was ``put`` under a name, None for nothing."""
        with self._faults():
            found = self._db.execute("SELECT value FROM meta WHERE name = ?", (f"own:{name}",)).fetchone()
        return found and json.loads(found[0])

    def put(self, name: str, value: Any) -> None:
        """Keep a value that JSON holds under a name."""
        with self.transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"own:{name}", json.dumps(value)))

    def alerts(self, read: Callable[[dict[str, Any]], Any]) -> list[Any]:
        """Return the alerts that were kept, oldest first, each as ``read`` makes it."""
        with self._faults():
            found = self._db.execute("SELECT value FROM alerts ORDER BY number").fetchall()
        return [read(json.loads(value)) for (value,) in found]

    def keep_alerts(self, entries: Mapping[int, Any], most: int = 100) -> None:
        """Keep alerts by their number; of old ones only the latest ``most``."""
        with self.transaction():
            rows = [(number, json.dumps(msgspec.to_builtins(value))) for number, value in entries.items()]
            self._db.executemany("INSERT OR REPLACE INTO alerts VALUES (?, ?)", rows)
            self._db.execute("DELETE FROM alerts WHERE number <= (SELECT MAX(number) FROM alerts) - ?", (most,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _packed(cell: Cell) -> bytes:
    return zlib.compress(cell.data.tobytes(), 1)
