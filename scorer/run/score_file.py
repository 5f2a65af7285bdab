"""The score file: its columns, what it says of its scorer, and how it is written; `score_table` reads it back.

A Parquet file says of its scorer in its metadata, a .jsonl or .csv file in OUT.meta.json beside it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorer.bundle.uncertainty import UNCERTAINTY_COLUMNS
from scorer.dialogue import HEADS
from scorer.errors import OutputError, reason_of
from scorer.outputs import replacing, replacing_binary

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

METADATA_KEY = b"empathy.scorer"
"""Key of the Parquet metadata that names the scorer and holds its cuts, as JSON."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Return what a score file says of its scorer (name, sha256, cuts ...), {} where it says nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            raw = (pq.read_schema(path).metadata or {}).get(METADATA_KEY, b"{}")
        else:
            raw = meta_path(path).read_bytes()
        value = json.loads(raw)
    except FileNotFoundError:
        return {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OutputError(f"{path}: its metadata cannot be read: {reason_of(error)}") from None
    return value if isinstance(value, dict) else {}


def write_scores(path: Path, columns: Mapping[str, Any], metadata: str) -> None:
    """Write columns, ``id`` and scores among them, to a Parquet file; ``metadata`` is what it says of its scorer."""
    import pyarrow as pa  # 0.1 s that `import scorer` need not cost
    import pyarrow.parquet as pq

    with replacing_binary(path) as file:
        pq.write_table(pa.table(columns).replace_schema_metadata({METADATA_KEY: metadata}), file)


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """Return what a score file says of its scorer, as JSON."""
    return json.dumps(metadata, sort_keys=True)


def join_shards(output: Path, shards: Iterable[Path], metadata: str) -> None:
    """Make one score file, of the kind that its suffix says, from shards that ``write_scores`` wrote."""
    import pyarrow.parquet as pq

    if output.suffix != ".parquet":  # the shards carry the metadata, and so does what they join to
        with replacing(meta_path(output)) as file:
            file.write(metadata + "\n")
    _JOIN[output.suffix](output, map(pq.read_table, shards))


def _join_parquet(output: Path, shards: Iterator[pa.Table]) -> None:
    import pyarrow.parquet as pq

    first = next(shards)
    with replacing_binary(output) as file, pq.ParquetWriter(file, first.schema) as writer:
        writer.write_table(first)
        for shard in shards:
            writer.write_table(shard)


def _join_jsonl(output: Path, shards: Iterator[pa.Table]) -> None:
    with replacing(output) as file:
        for shard in shards:
            file.writelines(score_line(*row) for row in _rows(shard))


def _join_csv(output: Path, shards: Iterator[pa.Table]) -> None:
    with replacing(output) as file:
        writer = csv.writer(file, lineterminator="\n")
        for number, shard in enumerate(shards):
            if number == 0:
                writer.writerow(shard.column_names)
            writer.writerows((id_, *map(str, values)) for id_, *values in _rows(shard))


_JOIN: dict[str, Callable[[Path, Iterator[Any]], None]] = {
    ".parquet": _join_parquet,
    ".jsonl": _join_jsonl,
    ".csv": _join_csv,
}

SUFFIXES = tuple(_JOIN)
"""The kinds of score file that are one file; an output of any other name is a folder of Parquet shards."""


def column_names(count: int) -> tuple[str, ...]:
    """Return the names of ``count`` score columns: the two scores, and after them their uncertainty."""
    return (*HEADS, *UNCERTAINTY_COLUMNS)[:count]


def score_line(id_: str, *values: np.float32) -> str:
    """Return one JSON line; scores as the shortest decimals that give the same float32."""
    scores = "".join(f', "{name}": {value!s}' for name, value in zip(column_names(len(values)), values, strict=True))
    return f'{{"id": {json.dumps(id_)}{scores}}}\n'


def _rows(shard: pa.Table) -> Iterator[tuple[Any, ...]]:
    ids, *columns = shard.column_names
    return zip(shard[ids].to_pylist(), *(shard[name].to_numpy() for name in columns), strict=True)


def meta_path(output: Path) -> Path:
    """Return where the metadata of a .jsonl or .csv file stand."""
    return output.with_name(output.name + ".meta.json")
