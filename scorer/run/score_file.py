"""The score file: its columns, what it says of its scorer, and how it is written; `score_table` reads it back.

A Parquet file says of its scorer in its metadata, a .jsonl or .csv file in OUT.meta.json beside it.

Columns that are kept of the input come as JSON. In a folder of shards, each of which is final when it is written, they
are text: a text as it is, anything else as JSON. In one file they wait as JSON until all shards are there: .jsonl holds
the values themselves, .csv text as above, .parquet numbers or truth values where the whole column agrees, else text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from scorer.apart import first_record, footer_holds
from scorer.bundle.probed import Probed
from scorer.bundle.uncertainty import UNCERTAINTY_COLUMNS
from scorer.dialogue import HEADS
from scorer.errors import OutputError, reason_of
from scorer.finished import file_hash
from scorer.outputs import decode_json, replacing, replacing_binary
from scorer.reading.windows import OutsideDomain
from scorer.values import Line, Portion

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

METADATA_KEY = b"empathy.scorer"
"""Key of the Parquet metadata that names the scorer and holds its cuts, as JSON."""

_KINDS = b"empathy.kinds"
"""Key of a kept column's metadata in a shard: the kinds of its values."""

_CONTENT, _CONTENT_KEY = "content", b"empathy.content"
"""Where the hash of what a joined file holds stands: beside it, or in the metadata of a Parquet file."""

_PARQUET_END = 8  # after the footer: its length and the magic number

_FIX = "score again"

_NOTHING: Mapping[str, str | None] = {}

_EXACT = 1 << 53  # whole numbers below it are exact among numbers with a fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What of a scorer's record is used as it stands; its cuts and its uncertainty may be another's (--scorer)."""

    name: Line | None = None
    sha256: Line | None = None
    created: Line | None = None
    backbone: Line | None = None
    engine: Line | None = None
    precision: Line | None = None
    keep: tuple[str, ...] = ()
    uncertainty: bool = False
    probe: Probed | None = None
    outside_share: Portion = 0.0
    outside: OutsideDomain | None = None


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what a score file says of its scorer (name, sha256, cuts ...), {} where it says nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path
    try:
        if path.suffix == ".parquet":
            raw = (pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}")
        else:
            file = meta_path(path)
            raw = file.read_bytes()
    except FileNotFoundError:
        return {}
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"{path}: its metadata cannot be read: {reason_of(error)}") from None
    decode_json(raw, _Said, file, _FIX)
    return decode_json(raw, dict[str, Any], file, _FIX)


def write_scores(path: Path, columns: Mapping[str, Any], metadata: str) -> None:
    """Write columns, ``id`` and scores among them, to a Parquet file; ``metadata`` is what it says of its scorer.

    A column may be what ``kept_shard`` gives.
    """
    import pyarrow as pa  # 0.1 s that `import scorer` need not cost
    import pyarrow.parquet as pq

    arrays = {name: column[1] if isinstance(column, tuple) else column for name, column in columns.items()}
    table = pa.table(arrays)
    for place, (name, column) in enumerate(columns.items()):
        if isinstance(column, tuple):
            table = table.set_column(place, column[0].with_name(name), table.column(place))
    with replacing_binary(path) as file:
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: metadata}), file)


def kept_shard(column: Sequence[str | None], *, final: bool) -> tuple[pa.Field, pa.Array]:
    """Return a kept column of a shard, given as JSON: text if the shard is final, else JSON and the kinds of values."""
    import pyarrow as pa

    texts = ["null" if value is None else value for value in column]
    if final:
        return pa.field("", pa.string()), pa.array(map(_as_text, texts), pa.string())
    kinds = json.dumps(sorted({_kind(text) for text in texts}))
    return pa.field("", pa.string(), metadata={_KINDS: kinds}), pa.array(texts, pa.string())


def is_score_file(path: Path) -> bool:
    """Whether a file is one that scoring wrote: it, or the record beside it, says by which scorer."""
    if path.suffix == ".parquet":
        return footer_holds(path, METADATA_KEY)
    meta = meta_path(path)
    if not meta.is_file() or "sha256" not in first_record(meta):
        return False
    names = ("id", "sensibility", "rationality")
    if path.suffix == ".jsonl":
        return set(names) <= first_record(path).keys()
    with open(path, "rb") as file:
        return file.readline(1 << 20).startswith(",".join(names).encode())


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Return what a score file says of its scorer, as JSON."""
    return json.dumps(metadata, sort_keys=True)


def join_shards(output: Path, shards: Sequence[Path], metadata: Mapping[str, Any], kept: Sequence[str] = ()) -> None:
    """Make one score file, of the kind that its suffix says, from shards that ``write_scores`` wrote.

    ``kept`` are the columns of the input in them, as JSON. The file, or what stands beside it, says which bytes it
    holds: see ``is_as_written``.
    """
    if output.suffix == ".parquet":
        _join_parquet(output, shards, kept, metadata_text(metadata))
        return
    with replacing(output) as file:
        _JOIN[output.suffix](file, shards, kept)
        file.flush()
        with replacing(meta_path(output)) as meta:
            meta.write(metadata_text({**metadata, _CONTENT: file_hash(Path(file.name))}) + "\n")


def is_as_written(path: Path) -> bool:
    """Whether a score file that ``join_shards`` made still holds what it wrote."""
    import pyarrow.parquet as pq

    if path.suffix != ".parquet":
        known: object = read_metadata(path).get(_CONTENT)
        return known == file_hash(path)
    footer = pq.read_metadata(path)  # the schema's metadata, which are copied with a table, are others
    known = (footer.metadata or {}).get(_CONTENT_KEY, b"")
    return _hash_of_rows(path, path.stat().st_size - footer.serialized_size - _PARQUET_END).encode() == known


def _hash_of_rows(path: Path, end: int) -> str:
    """Return the SHA-256 of a Parquet file's bytes before ``end``, where its footer begins."""
    state = sha256()
    with open(path, "rb") as file:
        while block := file.read(min(1 << 20, end - file.tell())):
            state.update(block)
    return state.hexdigest()


def _join_parquet(output: Path, shards: Sequence[Path], kept: Sequence[str], metadata: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas = [pq.read_schema(shard) for shard in shards] if kept else []
    kinds = {
        name: set().union(*(json.loads((schema.field(name).metadata or {})[_KINDS]) for schema in schemas))
        for name in kept
    }
    fields = {name: pa.field(name, _type_of(found)) for name, found in kinds.items()}

    def typed(table: pa.Table) -> pa.Table:
        for name, field in fields.items():
            read = _as_text if field.type == pa.string() else json.loads
            values = pa.array(map(read, table[name].to_pylist()), field.type)
            table = table.set_column(table.column_names.index(name), field, values)
        return table

    about = {METADATA_KEY: metadata}
    tables = (typed(pq.read_table(shard)) for shard in shards)
    first = next(tables)
    with replacing_binary(output) as file, pq.ParquetWriter(file, first.schema.with_metadata(about)) as writer:
        writer.write_table(first.replace_schema_metadata(about))
        for table in tables:
            writer.write_table(table.replace_schema_metadata(about))
        file.flush()
        writer.add_key_value_metadata({_CONTENT_KEY: _hash_of_rows(Path(file.name), file.tell())})


def _join_jsonl(file: IO[str], shards: Sequence[Path], kept: Sequence[str]) -> None:
    for _, rows in _tables(shards, kept):
        file.writelines(score_line(id_, *scores, kept=dict(zip(kept, more, strict=True))) for id_, scores, more in rows)


def _join_csv(file: IO[str], shards: Sequence[Path], kept: Sequence[str]) -> None:
    for number, (names, rows) in enumerate(_tables(shards, kept)):
        if number == 0:
            file.write(",".join(map(_csv_field, names)) + "\n")
        for id_, scores, more in rows:
            fields = [_csv_field(as_csv_text(id_)), *map(str, scores), *map(_csv_field, map(_as_csv, more))]
            file.write(",".join(fields) + "\n")


_JOIN: dict[str, Callable[[IO[str], Sequence[Path], Sequence[str]], None]] = {".jsonl": _join_jsonl, ".csv": _join_csv}

_RUN_BY_SPREADSHEETS = re.compile(
    r"'*(?:[\s\x00-\x1f\u200b-\u200f\u202a-\u202e\u2060\ufeff]*[=+\-@\u2212\ufe62\ufe63\ufe66\ufe6b\uff1d\uff0b\uff0d\uff20]|[\t\r\n])"
)
"""What begins a formula, also full-width or after what an import strips or nobody sees, and apostrophes before it."""

SUFFIXES = (".parquet", *_JOIN)
"""The kinds of score file that are one file; an output of any other name is a folder of Parquet shards."""


def column_names(count: int) -> tuple[str, ...]:
    """Return the names of ``count`` score columns: the two scores, and after them their uncertainty."""
    return (*HEADS, *UNCERTAINTY_COLUMNS)[:count]


def score_line(id_: str, *values: np.float32, kept: Mapping[str, str | None] = _NOTHING) -> str:
    """Return one JSON line; scores as the shortest decimals that give the same float32, ``kept`` values as JSON."""
    scores = "".join(f', "{name}": {value!s}' for name, value in zip(column_names(len(values)), values, strict=True))
    more = "".join(f", {json.dumps(name)}: {value or 'null'}" for name, value in kept.items())
    return f'{{"id": {json.dumps(id_)}{scores}{more}}}\n'


_Row = tuple[str, tuple["np.float32", ...], tuple[str, ...]]


def _tables(shards: Iterable[Path], kept: Sequence[str]) -> Iterator[tuple[list[str], Iterator[_Row]]]:
    """Yield the columns of each shard, and its rows: id, scores, kept values as JSON."""
    import pyarrow.parquet as pq

    for shard in shards:
        table = pq.read_table(shard)
        scores = [table[name].to_numpy() for name in table.column_names[1:] if name not in kept]
        more = [table[name].to_pylist() for name in kept]
        ids = table["id"].to_pylist()
        rows = (
            (ids[row], tuple(column[row] for column in scores), tuple(column[row] for column in more))
            for row in range(len(ids))
        )
        yield table.column_names, rows


def as_csv_text(text: str) -> str:
    """Return a text as it stands in CSV: after an apostrophe where a spreadsheet would run it or change it."""
    return f"'{text}" if _RUN_BY_SPREADSHEETS.match(text) else text


def from_csv_text(text: str) -> str:
    """Return the text that ``as_csv_text`` was given."""
    return text[1:] if text[:1] == "'" and _RUN_BY_SPREADSHEETS.match(text) else text


def _as_csv(value: str) -> str | None:
    """Return a value that is given as JSON as it stands in CSV; numbers stay numbers."""
    text = _as_text(value)
    return as_csv_text(text) if text is not None and value[:1] == '"' else text


def _csv_field(text: str | None) -> str:
    """Return a field of CSV; what is null is empty, and a text that is empty is in quotes."""
    if text is None:
        return ""
    return '"' + text.replace('"', '""') + '"' if not text or any(mark in text for mark in ',;"\t\n\r') else text


def _as_text(value: str) -> str | None:
    """Return the text of a value that is given as JSON: a text as it is, None for null, anything else as its JSON."""
    if value[:1] == '"':
        text: str = json.loads(value)
        return text
    return None if value == "null" else value


def _kind(value: str) -> str:
    """Return what a value is that is given as JSON."""
    if value[:1] == '"':
        return "text"
    if value in ("null", "true", "false"):
        return "null" if value == "null" else "truth"
    if value[:1] in "[{":
        return "other"
    if not value.lstrip("-").isdigit():
        return "number"
    number = abs(int(value))
    return "integer" if number < _EXACT else "long" if number < 1 << 63 else "other"


def _type_of(kinds: set[str]) -> pa.DataType:
    """Return the type of a column of such values."""
    import pyarrow as pa

    types = {
        ("integer",): pa.int64(),
        ("long",): pa.int64(),
        ("integer", "long"): pa.int64(),
        ("number",): pa.float64(),
        ("integer", "number"): pa.float64(),
        ("truth",): pa.bool_(),
    }
    return types.get(tuple(sorted(kinds - {"null"})), pa.string())


def meta_path(output: Path) -> Path:
    """Return where the metadata of a .jsonl or .csv file stand."""
    return output.with_name(output.name + ".meta.json")
