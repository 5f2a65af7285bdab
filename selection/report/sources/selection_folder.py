"""A selection folder, as `empathy select` writes it, read back into arrays."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.cuts import LEVELS
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS
from scorer.inputs.corpus import id_hash
from scorer.run.score_table import out_of_range
from selection.errors import SelectionError
from selection.files.folder import MANIFEST
from selection.report.sources.rows import UNKNOWN, Facts, Rows
from selection.rules import THRESHOLD_RANGE
from selection.select import FORMAT, FORMAT_VERSION, TABLE

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ("id", *HEADS, "set", "reason", "borderline", "chance", "judged", "category", "turns", "words")
_AGAIN = "make it again with `empathy select`"


def is_selection(path: Path) -> bool:
    """Return whether a path is a selection folder."""
    return (path / MANIFEST).is_file()


def read_selection(path: Path) -> Rows:
    """Return the rows of a selection folder; SelectionError where it is none or contradicts its selection.json."""
    info = _read_info(path / MANIFEST)
    parts: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    codes = {name: _Codes() for name in ("set", "reason", "category")}
    codes["set"].names = list(info["sets"])
    for batch in _batches(path / TABLE):
        for name in (*HEADS, "borderline", "chance", "judged", "turns", "words"):
            parts[name].append(_numbers(batch.column(name)))
        for name, texts in codes.items():
            parts[name].append(texts.of(batch.column(name)))
        ids = batch.column("id").to_pylist()
        parts["id"].append(np.fromiter(map(id_hash, ids), dtype=np.uint64, count=len(ids)))
    if not parts["id"]:
        raise SelectionError(f"{path / TABLE}: is empty; {_AGAIN}")
    columns: dict[str, npt.NDArray[Any]] = {name: np.concatenate(values) for name, values in parts.items()}
    scores = np.stack([columns[head] for head in HEADS], axis=1).astype(np.float32)
    _check(path, info, scores, columns["set"], codes["set"].names)
    chance = columns["chance"].astype(np.float32)
    return Rows(
        name=path.name,
        info=info,
        hashes=columns["id"],
        scores=scores,
        judged=columns["judged"].astype(bool),
        cuts=info["cuts"],
        error=_error(info),
        names=tuple(codes["set"].names),
        sets=columns["set"],
        texts=tuple(codes["reason"].names),
        reasons=columns["reason"],
        borderline=columns["borderline"].astype(bool),
        chance=None if np.isnan(chance).all() else chance,
        facts=Facts(
            categories=columns["category"],
            names=tuple(codes["category"].names),
            turns=columns["turns"].astype(np.int32),
            words=columns["words"].astype(np.int32),
        ),
    )


def read_rejects(path: Path, shown: int = 5) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return how often each reason was given in a rejects file, most often first, and its first records."""
    counts: Counter[str] = Counter()
    first: list[dict[str, Any]] = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                counts[str(record["reason"])] += 1
                if len(first) < shown:
                    first.append({name: record.get(name) for name in ("source", "line", "reason", "detail")})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SelectionError(f"{path}: cannot be read as rejects: {error!r}") from None
    return dict(counts.most_common()), first


class _Codes:
    """Numbers the texts of a column, the same in every batch."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def of(self, column: pa.Array) -> npt.NDArray[np.int64]:
        """Return the number of each text, UNKNOWN for null."""
        import pyarrow as pa

        encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
        known = {name: number for number, name in enumerate(self.names)}
        own = [known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()]
        self.names = list(known)
        places = encoded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False).astype(np.int64)
        return np.asarray(np.array([*own, UNKNOWN], dtype=np.int64)[places])


def _numbers(column: pa.Array) -> npt.NDArray[Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SelectionError(f"{path}: cannot be read ({error}); {_AGAIN}") from None
    found = (info.get("format"), info.get("format_version")) if isinstance(info, dict) else None
    if found != (FORMAT, FORMAT_VERSION):
        raise SelectionError(f"{path}: is {found}, expected {FORMAT} version {FORMAT_VERSION}; {_AGAIN}")
    try:
        for head in HEADS:
            low, high = THRESHOLD_RANGE
            if not low <= info["rule"]["threshold"][head] <= high or len(info["cuts"][head]) != len(LEVELS):
                raise ValueError(f"threshold or cuts of {head}")
        _ = [info["rule"][name] for name in ("name", "source", "how")]
        _ = [(entry["count"], entry["file"]) for entry in info["sets"].values()]
        _error(info)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SelectionError(f"{path}: lacks or garbles {error.args[0]!a}; {_AGAIN}") from None
    return dict(info)


def _error(info: dict[str, Any]) -> Uncertainty | None:
    widths = (info["scorer"] or {}).get("half_widths")
    return Uncertainty.from_json(widths) if widths else None


def _batches(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise SelectionError(f"{path}: has no column {', '.join(missing)}; {_AGAIN}")
            yield from file.iter_batches(columns=list(_COLUMNS))
    except (pa.ArrowException, OSError) as error:
        raise SelectionError(f"{path}: cannot be read ({error}); {_AGAIN}") from None


def _check(path: Path, info: dict[str, Any], scores: Any, sets: Any, names: list[str]) -> None:
    if found := out_of_range(scores):
        row, what = found
        raise SelectionError(f"{path / TABLE}: row {row + 1} has {what}; {_AGAIN}")
    counted = np.bincount(sets - UNKNOWN, minlength=len(names) + 1)[1:]
    told = [entry["count"] for entry in info["sets"].values()]
    if len(names) != len(told) or counted.tolist() != told:
        raise SelectionError(
            f"{path}: {TABLE} has {counted.tolist()} dialogues in its sets and {MANIFEST} says {told}; {_AGAIN}"
        )
