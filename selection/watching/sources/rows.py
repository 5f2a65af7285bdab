"""Rows of a score file from a place on: Parquet, JSON lines and CSV, whole rows only."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from scorer.dialogue import HEADS, SCORE_RANGE
from scorer.errors import reason_of
from scorer.run.score_file import from_csv_text
from scorer.settings import in_range
from selection.errors import WatchError

ROWS = 5000
"""Rows that are counted together."""

_BLOCK, _LONGEST = 1 << 20, 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Columns of a score file beside its scores: categories, times (None: those of the file), texts."""

    category: str = "category"
    time: str | None = None
    text: str = "response"


@dataclass(slots=True)
class Part:
    """Some rows: ``ids``, ``scores``, and what else is known of them; the place ``at``, ``rows`` behind them."""

    ids: list[str] = field(default_factory=list)
    scores: list[tuple[float, float]] = field(default_factory=list)
    categories: list[str | None] = field(default_factory=list)
    times: list[float | None] = field(default_factory=list)
    texts: list[str | None] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    at: int = 0
    rows: int = 0

    def add(self, row: Mapping[str, Any], columns: Columns) -> None:
        """Take up a row, or what is wrong with it."""
        self.rows += 1
        scores = [_number(row.get(head)) for head in HEADS]
        id_ = row.get("id")
        try:
            time = None if columns.time is None else seconds(row.get(columns.time))
        except ValueError as error:
            self.faults.append(f"row {self.rows}: {columns.time} {error}")
            return
        if not isinstance(id_, (str, int)) or isinstance(id_, bool):
            self.faults.append(f"row {self.rows}: id {id_!a:.60}, expected a text")
        elif not all(in_range(score, *SCORE_RANGE) for score in scores):
            shown = [row.get(head) for head in HEADS]
            self.faults.append(f"row {self.rows}: scores {shown!a:.80}, expected numbers from 0 to 10")
        else:
            category, text = row.get(columns.category), row.get(columns.text)
            self.ids.append(str(id_))
            self.scores.append((float(scores[0]), float(scores[1])))
            self.categories.append(None if category is None else str(category))
            self.times.append(time)
            self.texts.append(text if isinstance(text, str) else None)


def _number(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value


def seconds(value: Any) -> float:
    """Return a time, of unix seconds or ISO 8601 (without a zone in UTC), in unix seconds; ValueError for others."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        try:
            time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
        except ValueError:
            raise ValueError(f"{value!a:.60}, expected unix seconds or 2026-11-27T16:45:00Z") from None
        found = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if not 0 <= found < 253_402_300_800:
        raise ValueError(f"{value!a:.60}, expected a time from 1970 to 9999")
    return found


def read_rows(path: Path, at: int, rows: int, columns: Columns) -> Iterator[Part]:
    """Yield the rows of a file behind its first ``at`` bytes, which hold ``rows`` rows.

    WatchError if it is no score file.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path, at, rows, columns)
    else:
        with open(path, "rb") as file:
            yield from _LINES[path.suffix](file, at, rows, columns)


def _parquet(path: Path, at: int, rows: int, columns: Columns) -> Iterator[Part]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = path.stat().st_size
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in ("id", *HEADS) if name not in names]:
                raise WatchError(f"{path}: has no column {', '.join(missing)}, expected the output of `empathy score`")
            wanted = [name for name in ("id", *HEADS, columns.category, columns.time, columns.text) if name in names]
            done = rows if at == size else 0
            first = 0
            for batch in file.iter_batches(ROWS, columns=wanted):
                part = Part(at=size, rows=max(first, done))
                for row in batch.slice(max(0, done - first)).to_pylist():
                    part.add(row, columns)
                first += len(batch)
                if part.rows > done:
                    yield part
    except (pa.ArrowException, OSError) as error:
        raise WatchError(f"{path}: cannot be read as scores: {reason_of(error)}") from None


def lines_of(file: IO[bytes], at: int, *, csv_quotes: bool = False) -> Iterator[tuple[bytes, int]]:
    """Yield whole lines behind the first ``at`` bytes of a file, many at a time, and the place behind them."""
    file.seek(at)
    rest = b""
    while block := file.read(_BLOCK):
        rest += block
        end = _end_of_rows(rest) if csv_quotes else rest.rfind(b"\n") + 1
        if end:
            at += end
            yield rest[:end], at
            rest = rest[end:]
        if len(rest) > _LONGEST:
            raise WatchError(f"{getattr(file, 'name', 'input')}: a line of more than {_LONGEST >> 20} MB; score again")


def _end_of_rows(data: bytes) -> int:
    """Return where the last whole row of CSV ends: a line feed in quotes ends none."""
    letters = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero((letters == ord("\n")) & (np.cumsum(letters == ord('"')) % 2 == 0))
    return int(ends[-1]) + 1 if len(ends) else 0


def _jsonl(file: IO[bytes], at: int, rows: int, columns: Columns) -> Iterator[Part]:
    for block, end in lines_of(file, at):
        yield json_part(block, end, rows, columns)
        rows += block.count(b"\n")


def json_part(block: bytes, at: int, rows: int, columns: Columns) -> Part:
    """Return whole lines of JSON as rows; a line that is none is a fault, an empty one nothing."""
    part = Part(at=at, rows=rows)
    for line in block.removesuffix(b"\n").split(b"\n"):
        try:
            row = msgspec.json.decode(line) if line.strip() else None
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            row = line
        if isinstance(row, dict):
            part.add(row, columns)
            continue
        part.rows += 1
        if row is not None:
            part.faults.append(f"row {part.rows}: {line[:40]!a} is no JSON object")
    return part


def _csv(file: IO[bytes], at: int, rows: int, columns: Columns) -> Iterator[Part]:
    header_line = file.readline(_BLOCK)
    if not header_line.endswith(b"\n"):
        return
    header = next(csv.reader([header_line.decode("utf-8-sig", "replace")]), [])
    if missing := [name for name in ("id", *HEADS) if name not in header]:
        raise WatchError(f"{file.name}: has no column {', '.join(missing)}, expected the output of `empathy score`")
    for block, end in lines_of(file, max(at, len(header_line)), csv_quotes=True):
        part = Part(at=end, rows=rows)
        for cells in csv.reader(io.StringIO(block.decode("utf-8", "replace"), newline="")):
            row: dict[str, Any] = dict(zip(header, cells, strict=False))
            part.add(row | {"id": from_csv_text(row["id"]) if row.get("id") else None}, columns)
        rows = part.rows
        yield part


_LINES = {".jsonl": _jsonl, ".csv": _csv}
