"""Damage to files: each function takes the bytes of a good file and a generator, and returns those of a bad one."""

from __future__ import annotations

import copy
import io
import json
import sqlite3
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Random = np.random.Generator
Mutate = Callable[[bytes, Random], bytes]

_DEEP = "\x00deep"
_VALUES: tuple[Any, ...] = (
    None, True, False, "", "text", "5", "nan", "\x1b[31m", "a\nb", "../../etc/passwd", "/dev/zero", -1, 0, 1, 7.5, 11,
    1e308, -1e308, 1e-320, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**40, float("nan"), float("inf"), -float("inf"),
    [], {}, [[]], [None], [1, 2], {"a": 1}, {"": {}}, _DEEP,
)  # fmt: skip


def _one_of(rng: Random, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def bytes_of(data: bytes, rng: Random) -> bytes:
    """Flip, cut, insert, repeat or blank some bytes."""
    kind, size = int(rng.integers(8)), len(data)
    start = int(rng.integers(size + 1))
    length = int(min(size - start, rng.choice([1, 4, 16, 200])))
    made = bytearray(data)
    if kind == 0:
        return data[:start]
    if kind == 1:
        return b"" if rng.random() < 0.2 else data[start:]
    if kind == 2:
        made[start:start] = rng.bytes(int(rng.choice([1, 8, 100])))
    elif kind == 3:
        made[start:start] = made[start : start + length]
    elif kind == 4:
        made[start : start + length] = bytes(length)
    elif kind == 5:
        del made[start : start + length]
    else:
        for _ in range(int(rng.integers(1, 5))):
            if size:
                made[int(rng.integers(size))] ^= 1 << int(rng.integers(8))
    return bytes(made)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container inside a value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _change(value: Any, rng: Random) -> Any:
    """Return a value of JSON of which one part was changed, dropped, renamed, repeated, or is of another type."""
    places = list(_places(value))
    if not places or rng.random() < 0.03:
        return copy.deepcopy(_one_of(rng, _VALUES))
    holder, key = _one_of(rng, places)
    kind = int(rng.integers(8))
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[_one_of(rng, (f"{key}s", "", "sensibility", str(key).upper()))] = holder.pop(key)
    elif kind == 2:
        other, name = _one_of(rng, places)
        holder[key] = json.loads(json.dumps(other[name])) if name in other or isinstance(other, list) else None
    elif kind == 3 and isinstance(holder, list):
        holder.extend([holder[key]] * int(rng.integers(1, 4)))
    elif kind == 4 and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
        holder[key] = _one_of(rng, (-holder[key] - 1, holder[key] * 1e6, str(holder[key]), holder[key] + 0.5))
    else:
        holder[key] = copy.deepcopy(_one_of(rng, _VALUES))
    return value


def _text_of(value: Any, rng: Random) -> str:
    depth = int(rng.choice([50, 2000, 100_000]))
    return json.dumps(value).replace(json.dumps(_DEEP), "[" * depth + "]" * depth)


def json_of(data: bytes, rng: Random) -> bytes:
    """Change some parts of a JSON file."""
    if rng.random() < 0.2:
        return bytes_of(data, rng)
    value = json.loads(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 5]))):
        value = _change(value, rng)
    return _text_of(value, rng).encode()


def json_lines_of(data: bytes, rng: Random) -> bytes:
    """Change a line of JSON lines, or repeat, drop or exchange lines."""
    if rng.random() < 0.2:
        return bytes_of(data, rng)
    lines = data.splitlines()
    at, kind = int(rng.integers(len(lines))), int(rng.integers(9))
    if kind == 0:
        lines.insert(int(rng.integers(len(lines))), lines[at])
    elif kind == 1:
        del lines[at]
    elif kind == 2:
        lines.insert(0, lines.pop(at))
    elif kind == 3:
        lines.insert(at, _one_of(rng, (b"", b"null", b"[]", b"{}", b"{", b"\xff", b"NaN", b'"a"', b"1")))
    else:
        lines[at] = _text_of(_change(json.loads(lines[at]), rng), rng).encode()
    return b"\n".join(lines) + (b"\n" if rng.random() < 0.9 else b"")


def csv_of(data: bytes, rng: Random) -> bytes:
    """Change a field, a line or some bytes of CSV."""
    if rng.random() < 0.4:
        return bytes_of(data, rng)
    rows = [line.split(b",") for line in data.splitlines()]
    row = _one_of(rng, rows)
    values = (b"", b"nan", b"inf", b"-1", b"11", b"1e400", b"text", b'"', b'"a\nb"', b"true", b"0x1", b"5,5")
    row[int(rng.integers(len(row)))] = _one_of(rng, values)
    if rng.random() < 0.2:
        rows.insert(int(rng.integers(len(rows))), _one_of(rng, rows))
    return b"\n".join(map(b",".join, rows)) + b"\n"


def parquet_of(data: bytes, rng: Random) -> bytes:
    """Change the type, the values, the name or the presence of a column, some rows, or the metadata."""
    if rng.random() < 0.2:
        return bytes_of(data, rng)
    table = pq.read_table(io.BytesIO(data))
    at, kind = int(rng.integers(table.num_columns)), int(rng.integers(10))
    name = table.column_names[at]
    if kind == 0:
        table = table.drop_columns([name])
    elif kind == 1:
        table = table.rename_columns([f"{one}x" if one == name else one for one in table.column_names])
    elif kind == 2:
        table = pa.concat_tables([table, table.slice(0, int(rng.integers(1, 4)))])
    elif kind == 3:
        table = table.slice(int(rng.integers(len(table))), int(rng.integers(3)))
    elif kind == 4:
        table = table.append_column(name, table.column(at))
    elif kind == 5 and table.schema.metadata:
        known = dict(table.schema.metadata)
        key = _one_of(rng, list(known))
        known[key] = json_of(known[key], rng)
        table = table.replace_schema_metadata(known)
    elif kind <= 7:
        table = table.set_column(at, name, _retyped(len(table), rng))
    else:
        table = table.set_column(at, name, _with_values(table.column(at), rng))
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _retyped(rows: int, rng: Random) -> Any:
    """Return a column of another type."""
    made: tuple[Callable[[], Any], ...] = (
        lambda: pa.array([str(row) for row in range(rows)]),
        lambda: pa.array(range(rows)),
        lambda: pa.array([float(row) for row in range(rows)]),
        lambda: pa.array([[1.0]] * rows),
        lambda: pa.nulls(rows),
        lambda: pa.nulls(rows, pa.string()),
        lambda: pa.nulls(rows, pa.float32()),
        lambda: pa.array([{"a": 1}] * rows),
        lambda: pa.array([b"\xff\xfe"] * rows),
        lambda: pa.array([row % 2 == 0 for row in range(rows)]),
        lambda: pa.array(range(rows), pa.timestamp("s")),
        lambda: pa.array(["a"] * rows).dictionary_encode(),
        lambda: pa.array([5.0] * rows).dictionary_encode(),
        lambda: pa.array([5] * rows, pa.decimal128(5, 2)),
        lambda: pa.array([5.0] * rows, pa.float16()),
        lambda: pa.array([2**40 + row for row in range(rows)]),
    )
    return _one_of(rng, made)()


def _with_values(column: Any, rng: Random) -> Any:
    """Return a column of the same type with a value or some that do not belong there."""
    values = column.to_pylist()
    odd = (float("nan"), float("inf"), -1, 1e30, 11.0, None, "", "x" * 9, "{}", "[" * 5000, True, 2**31 - 1)
    for _ in range(int(rng.choice([1, len(values)]))):
        values[int(rng.integers(len(values)))] = _one_of(rng, odd)
    try:
        return pa.array(values, column.type)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([None if rng.random() < 0.5 else one for one in column.to_pylist()], column.type)


def sqlite_of(data: bytes, rng: Random) -> bytes:
    """Put text, blobs, nulls or nonsense where numbers belong, drop or rename columns and tables, or damage pages."""
    if rng.random() < 0.4:
        return bytes_of(data, rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        path.write_bytes(data)
        database = sqlite3.connect(path, isolation_level=None)
        database.execute("PRAGMA journal_mode = DELETE")
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = _one_of(rng, tables)
        column = _one_of(rng, [row[1] for row in database.execute(f"PRAGMA table_info({table})")])
        values = ("text", b"\xff\x00", None, -1, 11, 1e300, float("inf"), "", "{}", "[]", "nan", 2**62, "1e999", "\xff")
        kind = int(rng.integers(10))
        try:
            if kind == 0:
                database.execute(f"DROP TABLE {table}")
            elif kind == 1:
                database.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
            elif kind == 2:
                database.execute(f"PRAGMA user_version = {_one_of(rng, (0, 1, 3, -1))}")
            else:
                value = _one_of(rng, values)
                database.execute(f"UPDATE {table} SET {column} = ? WHERE random() % 2", (value,))
        except sqlite3.Error:  # a constraint of the schema
            database.close()
            return bytes_of(data, rng)
        database.close()
        return path.read_bytes()


def safetensors_of(data: bytes, rng: Random) -> bytes:
    """Change the header of safetensors, put NaN into the weights, or damage the bytes."""
    size = struct.unpack("<Q", data[:8])[0]
    header, body = data[8 : 8 + size], data[8 + size :]
    kind = int(rng.integers(5))
    if kind == 0:
        return bytes_of(data, rng)
    if kind == 1:
        return bytes_of(data[:8] + header, rng) + body
    if kind == 2:
        values = np.frombuffer(body, dtype=np.float32).copy()
        values[:: int(rng.choice([1, 7, 1000]))] = _one_of(rng, (np.nan, np.inf, 1e30))
        return data[: 8 + size] + values.tobytes()
    if kind == 3:
        return struct.pack("<Q", int(_one_of(rng, (0, 1, 2**31, 2**63, size - 1, size + 1)))) + header + body
    changed = json_of(header, rng)
    return struct.pack("<Q", len(changed)) + changed + body


_TEMPLATES = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 1 / 0 }}", "{{ messages[99].content }}", "{{ nothing.at.all }}", "{{ 'a' * 10 ** 10 }}", "{{ 9 ** 9 ** 9 }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% include 'x' %}", "{% import 'x' as y %}",
    "{{ messages + 1 }}",
    "{{ raise_exception('no') }}", "{{ raise_exception(messages) }}", "{% if %}", "{{", "{{ ''.__class__.__mro__ }}",
    "{{ messages | tojson | fromjson }}", "{{ '%d' % 'a' }}", "{{ messages.append(1) }}", "", "{% break %}", "\x00",
    "{{ strftime_now('%Y' * 10000) }}", "{{ 'x'.center(10 ** 10) }}", "{% set x = messages %}{{ x.x.x }}",
    "{{ messages[0]['content'] | int('a', 77) }}", "{{ range(10 ** 9) | list }}", "{{ (1).__add__('a') }}",
    "{{ lipsum(99999) }}", "{% for m in messages %}{{ m.content.encode('ascii') }}{% endfor %}",
    "{{ '{:>99999999999}'.format(1) }}",
    "{{ '\\ud800' }}",
)  # fmt: skip


def template_of(data: bytes, rng: Random) -> bytes:
    """Return a chat template that raises, runs for ever, fills the memory, or is damaged."""
    if rng.random() < 0.3:
        return bytes_of(data, rng)
    bad = str(_one_of(rng, _TEMPLATES)).encode()
    return bad if rng.random() < 0.5 else _one_of(rng, (bad + data, data + bad))


def text_of(data: bytes, rng: Random) -> bytes:
    """Damage a text: bytes, or lines."""
    return bytes_of(data, rng)
