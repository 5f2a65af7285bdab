"""Score files as arrays, with what they say of their scorer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.bundle import load_bundle
from scorer.bundle.cuts import JUDGE_CUTS, Cuts, read_cuts
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS, SCORE_RANGE
from scorer.inputs.corpus import id_hash
from scorer.run.manifest import missing_from
from scorer.run.score_file import JOIN, read_metadata
from selection.errors import SelectionError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

CHECKPOINT = "empathy.json"
"""What `empathy train` writes into a checkpoint; it holds cuts and uncertainty as a bundle does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTable:
    """The scores of N dialogues.

    ``hashes`` (N,) uint64 stand for their ids (``id_hash``), ``scores`` is (N, 2) float32. ``cuts`` lead to the
    judge's scale and ``error`` says how far the judge's score may lie off, where that is known. ``scorer`` is what the
    file says of its scorer, {} for nothing.
    """

    name: str
    hashes: npt.NDArray[np.uint64]
    scores: npt.NDArray[np.float32]
    cuts: Cuts
    error: Uncertainty | None
    scorer: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.scores)


def read_scores(path: Path, *, scorer: Path | None = None, raw_cuts: bool = False) -> ScoreTable:
    """Read a score file (.parquet, .jsonl, .csv) or a folder of shards, in batches; ids become their hashes.

    The cuts are those that the file names, else those of ``scorer``, a bundle or checkpoint; with ``raw_cuts`` the
    scores count as the judge's own. SelectionError where neither is there, for ids that repeat, and for a score that
    is no number from 0 to 10.
    """
    _open(path)  # what is no score file says so before its scorer is missed
    about = _about(path, scorer)
    cuts, error = (JUDGE_CUTS, None) if raw_cuts else _calibration(path, about)
    hashes: list[npt.NDArray[np.uint64]] = []
    scores: list[npt.NDArray[np.float32]] = []
    rows = 0
    for batch in batches(path, ["id", *HEADS]):
        ids = batch.column("id").cast("string").to_pylist()
        values = np.stack([batch.column(head).to_numpy(zero_copy_only=False) for head in HEADS], axis=1)
        _check_values(path, rows, ids, values)
        hashes.append(np.fromiter(map(id_hash, ids), dtype=np.uint64, count=len(ids)))
        scores.append(values.astype(np.float32))
        rows += len(ids)
    if not rows:
        raise SelectionError(f"{path}: holds no scores, expected the output of `empathy score`")
    table = ScoreTable(
        name=path.name,
        hashes=np.concatenate(hashes),
        scores=np.concatenate(scores),
        scorer=about,
        cuts=cuts,
        error=error,
    )
    _check_unique(path, table.hashes)
    return table


def read_table(path: Path) -> pa.Table:
    """Return all columns of a score file or folder, ids as text; SelectionError if they cannot be read as scores."""
    import pyarrow as pa

    dataset = _open(path)
    try:
        table = dataset.to_table()
        place = table.column_names.index("id")
        return table.set_column(place, "id", table.column(place).cast("string"))
    except (pa.ArrowException, OSError) as error:
        raise SelectionError(f"{path}: cannot be read as scores: {error}") from None


def batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a score file or folder, batch by batch, in order."""
    import pyarrow as pa

    dataset = _open(path)
    try:
        yield from dataset.to_batches(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise SelectionError(f"{path}: cannot be read as scores: {error}") from None


def score_files(path: Path) -> list[Path]:
    """Return the files that hold the scores of ``path``: itself, or the shards of a finished folder."""
    if not path.exists():
        raise SelectionError(f"{path}: no such file or folder, expected the output of `empathy score`")
    if not path.is_dir():
        return [path]
    if missing := missing_from(path):
        raise SelectionError(
            f"{path}: its run was interrupted ({missing}); finish it with `empathy score ... --resume`"
        )
    return sorted(path.glob("part-*.parquet"))


def _open(path: Path) -> ds.Dataset:
    """Return a score file or folder as a dataset; SelectionError if it is none."""
    import pyarrow as pa

    try:
        return _dataset(path)
    except (pa.ArrowException, OSError) as error:
        raise SelectionError(f"{path}: cannot be read as scores: {error}") from None


def _dataset(path: Path) -> ds.Dataset:
    """Return a score file or folder as a dataset that has an id and the two scores, of the right types."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    from pyarrow import csv
    from pyarrow import json as arrow_json

    files = score_files(path)
    kind = files[0].suffix if files else ""
    if kind not in JOIN:
        raise SelectionError(f"{path}: expected scores as {', '.join(JOIN)} or a folder of `empathy score`")
    # Left to guess, pyarrow makes numbers and dates of ids that look like them.
    types = pa.schema([("id", pa.string()), *((head, pa.float64()) for head in HEADS)])
    if kind == ".jsonl":  # as a dataset, pyarrow guesses all the same
        options = arrow_json.ParseOptions(explicit_schema=types)
        table = arrow_json.read_json(files[0], parse_options=options)
        # A column of the schema that no line has is there all the same, empty.
        dataset = ds.dataset(table.select([name for name in table.column_names if table[name].null_count < len(table)]))
    elif kind == ".csv":
        options = csv.ConvertOptions(column_types=types)
        dataset = ds.dataset(str(files[0]), format=ds.CsvFileFormat(convert_options=options))
    else:
        dataset = ds.dataset([str(file) for file in files], format="parquet")
    missing = [name for name in types.names if name not in dataset.schema.names]
    if missing:
        raise SelectionError(f"{path}: has columns {', '.join(dataset.schema.names)}, and no {', '.join(missing)}")
    for head in HEADS:
        kind = dataset.schema.field(head).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise SelectionError(f"{path}: its column {head} holds {kind}, expected numbers")
    return dataset


def _calibration(path: Path, about: Mapping[str, Any]) -> tuple[Cuts, Uncertainty | None]:
    """Return the cuts of a scorer and the error of its scores; SelectionError where they are missing or damaged."""
    if "cuts" not in about:
        raise SelectionError(
            f"{path}: says nothing of its scorer's cuts, so S > T is not defined; name the scorer with --scorer, or "
            "say --raw-cuts to read the scores as a judge's"
        )
    try:
        widths = about.get("half_widths")
        return read_cuts(about["cuts"]), None if widths is None else Uncertainty.from_json(widths)
    except (KeyError, TypeError, ValueError) as error:
        raise SelectionError(
            f"{path}: what it says of its scorer is damaged ({error!r}); name the scorer with --scorer, or score again"
        ) from None


def _about(path: Path, scorer: Path | None) -> dict[str, Any]:
    """Return what is known of the scorer of a score file; SelectionError where ``scorer`` is another one."""
    files = score_files(path)
    said = read_metadata(files[0]) if files else {}
    if scorer is None:
        return said
    named = describe_scorer(scorer)
    if "sha256" in said and said["sha256"] != named["sha256"]:
        raise SelectionError(
            f"{path}: was scored by {said.get('name')} {str(said['sha256'])[:12]}, and {scorer} is {named['name']} "
            f"{named['sha256'][:12]}; leave --scorer out"
        )
    return named


def describe_scorer(path: Path) -> dict[str, Any]:
    """Return what a score file would say of a scorer, a bundle or a checkpoint."""
    manifest = path / CHECKPOINT
    if not manifest.is_file():
        return load_bundle(path).provenance()
    from hashlib import sha256

    raw = manifest.read_bytes()
    try:
        info = json.loads(raw)
        about = {"name": path.name, "sha256": sha256(raw).hexdigest(), "cuts": info["cuts"]}
        return about | {"half_widths": info.get("uncertainty"), "backbone": info.get("backbone")}
    except (ValueError, KeyError, TypeError) as error:
        raise SelectionError(f"{manifest}: cannot be read as a checkpoint's ({error!r}); train again") from None


def out_of_range(scores: npt.NDArray[np.number]) -> tuple[int, str] | None:
    """Return the first row of scores (N, 2) with one that is no number from 0 to 10, and what it has; None for none."""
    low, high = SCORE_RANGE
    fine = (scores >= low) & (scores <= high)  # NaN is in no range
    if fine.all():
        return None
    row, head = np.argwhere(~fine)[0]
    return int(row), f"{HEADS[head]} {scores[row, head]}, expected a number from {low:g} to {high:g}"


def _check_values(path: Path, before: int, ids: list[Any], values: npt.NDArray[Any]) -> None:
    if values.dtype == object:
        values = values.astype(np.float64)
    if found := out_of_range(values):
        row, what = found
        raise SelectionError(f"{path}: row {before + row + 1} (id {ids[row]!a}) has {what}; score it again")
    if None in ids:
        raise SelectionError(f"{path}: row {before + ids.index(None) + 1} has no id; score it again")


def _check_unique(path: Path, hashes: npt.NDArray[np.uint64]) -> None:
    ordered = np.sort(hashes)
    again = int((ordered[1:] == ordered[:-1]).sum())
    if again:
        raise SelectionError(
            f"{path}: {again} of its {len(hashes)} ids occur more than once, so a score cannot be told its dialogue; "
            "score the corpus in one run"
        )
