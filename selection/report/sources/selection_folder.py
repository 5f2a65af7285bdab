"""A selection folder, as `empathy select` writes it, read back into arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scorer.arrays import Codes, Ints
from scorer.dialogue import HEADS
from scorer.errors import reason_of
from scorer.inputs.corpus import id_hash
from scorer.outputs import read_json_lines
from scorer.run.score_table import out_of_range
from scorer.values import Count, Line
from selection.errors import SelectionError
from selection.files.manifest import SELECT_AGAIN, SELECTION_JSON, TABLE, SelectionInfo, read_selection_info
from selection.report.sources.rows import UNKNOWN, Facts, Rows

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = {
    **dict.fromkeys(("id", "set", "reason", "category"), "text"),
    **dict.fromkeys((*HEADS, "chance"), "numbers"),
    **dict.fromkeys(("turns", "words"), "whole numbers"),
    **dict.fromkeys(("borderline", "judged"), "truth values"),
}
_UNKNOWN_MAY_BE = ("category", "chance")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rejected:
    source: str | None = None
    line: Count | None = None
    reason: Line
    detail: str | None = None


def is_selection(path: Path) -> bool:
    """Return whether a path is a selection folder."""
    return (path / SELECTION_JSON).is_file()


def read_selection(path: Path) -> Rows:
    """Return the rows of a selection folder; SelectionError where it is none or contradicts its selection.json."""
    info = read_selection_info(path)
    table = _read_table(path / TABLE)

    def column(name: str) -> npt.NDArray[Any]:
        return np.asarray(table.column(name).to_numpy())

    scores = np.stack([column(head) for head in HEADS], axis=1).astype(np.float32)
    sets, names = _codes(table.column("set"), list(info.sets))
    reasons, texts = _codes(table.column("reason"))
    categories, categories_named = _codes(table.column("category"))
    _check(path, info, scores, sets, len(names))
    chance = column("chance").astype(np.float32)
    for name in ("turns", "words"):
        if (column(name) < 0).any():
            raise SelectionError(f"{path / TABLE}: its column {name} has negative numbers; {SELECT_AGAIN}")
    if (chance < 0).any() or (chance > 1).any():
        raise SelectionError(f"{path / TABLE}: its column chance has numbers beyond 0 to 1; {SELECT_AGAIN}")
    ids = (id_ for chunk in table.column("id").chunks for id_ in chunk.to_pylist())
    return Rows(
        name=path.name,
        info=info,
        hashes=np.fromiter(map(id_hash, ids), dtype=np.uint64, count=len(table)),
        scores=scores,
        judged=column("judged").astype(bool),
        names=names,
        sets=sets,
        texts=texts,
        reasons=reasons,
        borderline=column("borderline").astype(bool),
        chance=None if np.isnan(chance).all() else chance,
        facts=Facts(
            categories=categories,
            names=categories_named,
            turns=column("turns").astype(np.int32),
            words=column("words").astype(np.int32),
        ),
    )


def read_rejects(path: Path, shown: int = 5) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return how often each reason was given in a rejects file, most often first, and its first records."""
    counts: Counter[str] = Counter()
    first: list[dict[str, Any]] = []
    for record in read_json_lines(path, _Rejected, "remove it", SelectionError):
        counts[record.reason] += 1
        if len(first) < shown:
            first.append(asdict(record))
    return dict(counts.most_common()), first


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if missing := [name for name in _KINDS if name not in pq.read_schema(path).names]:
            raise SelectionError(f"{path}: has no column {', '.join(missing)}; {SELECT_AGAIN}")
        table = pq.read_table(path, columns=list(_KINDS))
    except (pa.ArrowException, OSError) as error:
        raise SelectionError(f"{path}: cannot be read ({reason_of(error)}); {SELECT_AGAIN}") from None
    if not len(table):
        raise SelectionError(f"{path}: is empty; {SELECT_AGAIN}")
    for name, kind in _KINDS.items():
        if (found := table.schema.field(name).type) and not _holds(found, kind):
            raise SelectionError(f"{path}: its column {name} holds {found}, expected {kind}; {SELECT_AGAIN}")
        if table[name].null_count and name not in _UNKNOWN_MAY_BE:
            raise SelectionError(f"{path}: its column {name} has empty rows; {SELECT_AGAIN}")
    return table


def _holds(found: pa.DataType, kind: str) -> bool:
    """Whether a column of a type holds what is expected of it."""
    from pyarrow import types

    found = found.value_type if types.is_dictionary(found) else found
    checks = {
        "text": (types.is_string, types.is_large_string),
        "numbers": (types.is_floating,),
        "whole numbers": (types.is_integer,),
        "truth values": (types.is_boolean,),
    }
    return any(check(found) for check in checks[kind])


def _codes(column: pa.ChunkedArray, names: Sequence[str] = ()) -> tuple[Ints, tuple[str, ...]]:
    """Return the place of each text (N,) in all of them, and these, ``names`` first; UNKNOWN for null."""
    encoded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    known = {name: place for place, name in enumerate(names)}
    own = [known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()]
    places = encoded.indices.fill_null(len(own)).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.array([*own, UNKNOWN], dtype=np.int64)[places], tuple(known)


def _check(path: Path, info: SelectionInfo, scores: npt.NDArray[np.float32], sets: Codes, names: int) -> None:
    """Raise SelectionError where the table holds what is no score, or other sets than selection.json says."""
    if found := out_of_range(scores):
        row, what = found
        raise SelectionError(f"{path / TABLE}: row {row + 1} has {what}; {SELECT_AGAIN}")
    counted = np.bincount(sets - UNKNOWN, minlength=names + 1)[1:].tolist()
    said = [entry.count for entry in info.sets.values()]
    if counted != said:
        raise SelectionError(
            f"{path}: {TABLE} has {counted} dialogues in its sets and {SELECTION_JSON} says {said}; {SELECT_AGAIN}"
        )
