"""Score files read back: as arrays, with the scale that the scores are on and what is known of their scorer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from scorer.arrays import Hashes, Numbers
from scorer.bundle.bundle import load_bundle
from scorer.bundle.cuts import JUDGE_CUTS, Cuts, read_cuts
from scorer.bundle.uncertainty import UNCERTAINTY_COLUMNS, Uncertainty
from scorer.dialogue import HEADS, SCORE_RANGE
from scorer.engines.base import Scores
from scorer.errors import InputError, reason_of
from scorer.inputs.corpus import id_hash
from scorer.outputs import read_json
from scorer.reading.windows import outside_of
from scorer.run.manifest import finished_windows, missing_from
from scorer.run.score_file import SUFFIXES, from_csv_text, read_metadata
from scorer.run.settings import SCORE_COLUMNS

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_CHECKPOINT_JSON = "empathy.json"
"""What `empathy train` writes into a checkpoint; it holds cuts and uncertainty as a bundle does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTable:
    """The scores of N dialogues.

    ``hashes`` (N,) stand for their ids (``id_hash``), ``scores`` is (N, 2) float32. ``cuts`` lead to the judge's scale
    and ``error`` says how far the judge's score may lie off, where that is known. ``scorer`` is what the file says of
    its scorer, {} for nothing.
    """

    name: str
    hashes: Hashes
    scores: Scores
    cuts: Cuts
    error: Uncertainty | None
    scorer: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.scores)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    cuts: dict[str, Any]
    uncertainty: dict[str, Any] | None = None
    backbone: str | None = None


def read_scores(path: Path, *, scorer: Path | None = None, raw_cuts: bool = False) -> ScoreTable:
    """Read a score file (.parquet, .jsonl, .csv) or a folder of shards, in batches; ids become their hashes.

    The cuts are those that the file names, else those of ``scorer``, a bundle or checkpoint; with ``raw_cuts`` the
    scores count as the judge's own. InputError where neither is there, for ids that repeat, and for a score that is no
    number from 0 to 10.
    """
    dataset = _open(path)  # what is no score file says so before its scorer is missed
    about = _about(path, scorer)
    cuts, error = (JUDGE_CUTS, None) if raw_cuts else _calibration(path, about)
    hashes: list[Hashes] = []
    scores: list[Scores] = []
    rows = 0
    with _readable(path):
        for batch in dataset.to_batches(columns=["id", *HEADS]):
            ids = _texts(path, batch.column("id"))
            values = np.stack([batch.column(head).to_numpy(zero_copy_only=False) for head in HEADS], axis=1)
            _check_values(path, rows, ids, values)
            hashes.append(np.fromiter(map(id_hash, ids), dtype=np.uint64, count=len(ids)))
            scores.append(values.astype(np.float32))
            rows += len(ids)
    if not rows:
        raise InputError(f"{path}: holds no scores, expected the output of `empathy score`")
    keys, values = np.concatenate(hashes), np.concatenate(scores)
    if again := rows - len(np.unique(keys)):
        what = f"{again} of its {rows} ids occur more than once, so a score cannot be told its dialogue"
        raise InputError(f"{path}: {what}; score the corpus in one run")
    return ScoreTable(name=path.name, hashes=keys, scores=values, cuts=cuts, error=error, scorer=about)


def shard_ids(shard: Path) -> list[str]:
    """Return the ids in a Parquet shard, in order."""
    import pyarrow.parquet as pq

    ids: list[str] = pq.read_table(shard, columns=["id"])["id"].to_pylist()
    return ids


def read_columns(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of a score file or folder, ids as text; InputError if they cannot be read as scores.

    Columns that were kept of the input (`empathy score --keep`) are left out: what they are called means nothing here.
    """
    dataset = _open(path)
    kept = _kept(path)
    with _readable(path):
        table = dataset.to_table(columns=[name for name in dataset.schema.names if name not in kept])
        ids = _texts(path, table["id"])
        columns = {name: table[name].to_numpy() for name in table.column_names}
        _check_values(path, 0, ids, np.stack([columns[head] for head in HEADS], axis=1))
        return columns | {"id": np.array(ids, dtype=object)}


def _texts(path: Path, ids: Any) -> list[Any]:
    """Return the ids of a column of a score file."""
    found: list[Any] = ids.cast("string").to_pylist()
    return [id_ and from_csv_text(id_) for id_ in found] if path.suffix == ".csv" else found


def said_of_scorer(path: Path) -> dict[str, Any]:
    """Return what a score file or folder says of its scorer (name, sha256, cuts ...), {} where it says nothing."""
    files = _files(path)
    known = _of_scorer(read_metadata(files[0])) if files else {}
    if files and path.is_dir() and "outside_share" in known:  # a shard cannot know what the others hold
        known["outside"] = asdict(outside_of(finished_windows(path), known["outside_share"]))
    return known


def _of_scorer(known: dict[str, Any]) -> dict[str, Any]:
    """Return what a score file says, without what it says of its input and its own bytes."""
    return {name: value for name, value in known.items() if name not in ("input", "content")}


def _kept(path: Path) -> list[str]:
    """Return the columns of a score file that are not the scorer's but the input's."""
    return [name for name in said_of_scorer(path).get("keep", []) if name not in SCORE_COLUMNS]


def describe_scorer(path: Path) -> dict[str, Any]:
    """Return what a score file would say of a scorer, a bundle or a checkpoint."""
    file = path / _CHECKPOINT_JSON
    if not file.is_file():
        return load_bundle(path).provenance()
    found = read_json(file, _Checkpoint, "train again", InputError)
    about = {"name": path.name, "sha256": sha256(file.read_bytes()).hexdigest(), "cuts": found.cuts}
    return about | {"half_widths": found.uncertainty, "backbone": found.backbone}


def out_of_range(scores: Numbers) -> tuple[int, str] | None:
    """Return the first row of scores (N, 2) with one that is no number from 0 to 10, and what it has; None for none."""
    low, high = SCORE_RANGE
    fine = (scores >= low) & (scores <= high)  # NaN is in no range
    if fine.all():
        return None
    row, head = np.argwhere(~fine)[0]
    return int(row), f"{HEADS[head]} {scores[row, head]}, expected a number from {low:g} to {high:g}"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as scores: {reason_of(error)}") from None


def _files(path: Path) -> list[Path]:
    """Return the files that hold the scores of ``path``: itself, or the shards of a finished folder."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder, expected the output of `empathy score`")
    if not path.is_dir():
        return [path]
    if missing := missing_from(path):
        raise InputError(f"{path}: its run was interrupted ({missing}); finish it with `empathy score ... --resume`")
    return sorted(path.glob("part-*.parquet"))


def _open(path: Path) -> ds.Dataset:
    """Return a score file or folder as a dataset that has an id and the two scores, of the right types."""
    import pyarrow as pa

    with _readable(path):
        dataset = _dataset(path)
    missing = [name for name in ("id", *HEADS) if name not in dataset.schema.names]
    if missing:
        raise InputError(f"{path}: has columns {', '.join(dataset.schema.names)}, and no {', '.join(missing)}")
    for head in HEADS:
        kind = dataset.schema.field(head).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise InputError(f"{path}: its column {head} holds {kind}, expected numbers")
    return dataset


def _dataset(path: Path) -> ds.Dataset:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow import csv
    from pyarrow import json as arrow_json

    files = _files(path)
    kind = files[0].suffix if files else ""
    # Left to guess, pyarrow makes numbers and dates of ids that look like them.
    types = pa.schema([("id", pa.string()), *((head, pa.float64()) for head in HEADS)])
    if kind == ".jsonl":  # as a dataset, pyarrow guesses all the same
        more: dict[str, Any] = {}
        if _kept(path):  # their values may be of any type, a line each of its own
            types = pa.schema([*types, *((name, pa.float64()) for name in UNCERTAINTY_COLUMNS)])
            more = {"unexpected_field_behavior": "ignore"}
        table = arrow_json.read_json(files[0], parse_options=arrow_json.ParseOptions(explicit_schema=types, **more))
        # A column of the schema that no line has is there all the same, empty.
        return ds.dataset(table.select([name for name in table.column_names if table[name].null_count < len(table)]))
    if kind == ".csv":
        options = csv.ConvertOptions(column_types=types)
        parsing = csv.ParseOptions(newlines_in_values=bool(_kept(path)))
        return ds.dataset(str(files[0]), format=ds.CsvFileFormat(parse_options=parsing, convert_options=options))
    if kind == ".parquet":
        return ds.dataset([str(file) for file in files], format="parquet")
    raise InputError(f"{path}: expected scores as {', '.join(SUFFIXES)} or a folder of `empathy score`")


def _calibration(path: Path, about: Mapping[str, Any]) -> tuple[Cuts, Uncertainty | None]:
    """Return the cuts of a scorer and the error of its scores; InputError where they are missing or damaged."""
    if "cuts" not in about:
        fix = "name the scorer with --scorer, or say --raw-cuts to read the scores as a judge's"
        raise InputError(f"{path}: says nothing of its scorer's cuts, so S > T is not defined; {fix}")
    try:
        widths = about.get("half_widths")
        return read_cuts(about["cuts"]), None if widths is None else msgspec.convert(widths, Uncertainty)
    except (KeyError, TypeError, ValueError) as error:
        what = f"what it says of its scorer is damaged ({error})"
        raise InputError(f"{path}: {what}; name the scorer with --scorer, or score again") from None


def _about(path: Path, scorer: Path | None) -> dict[str, Any]:
    """Return what is known of the scorer of a score file; InputError where ``scorer`` is another one."""
    said = said_of_scorer(path)
    if scorer is None:
        return said
    named = describe_scorer(scorer)
    if said.get("sha256", named["sha256"]) != named["sha256"]:
        raise InputError(
            f"{path}: was scored by {said.get('name')} {str(said['sha256'])[:12]}, and {scorer} is {named['name']} "
            f"{named['sha256'][:12]}; leave --scorer out"
        )
    return named


def _check_values(path: Path, before: int, ids: list[Any], values: Numbers) -> None:
    values = values.astype(np.float64) if values.dtype == object else values
    if found := out_of_range(values):
        row, what = found
        raise InputError(f"{path}: row {before + row + 1} (id {ids[row]!a}) has {what}; score it again")
    if None in ids:
        raise InputError(f"{path}: row {before + ids.index(None) + 1} has no id; score it again")
