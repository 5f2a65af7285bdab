"""The files of one window in the folder of a run: its scores, its rejects, the hashes of its ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scorer.arrays import Hashes
from scorer.engines.base import Scores
from scorer.errors import OutputError
from scorer.finished import file_hash
from scorer.inputs.parse import Reject
from scorer.outputs import json_line, replacing, replacing_binary
from scorer.reading.ids import RawIds
from scorer.reading.windows import Window
from scorer.run.manifest import ids_of
from scorer.run.score_file import column_names, kept_shard, write_scores

REJECTS = "rejects.jsonl"

AHEAD = "_joined-"
"""What the names of files begin with that wait to take the place of others when shares are joined."""


def part_of(folder: Path, number: int, before: str = "") -> Path:
    """Return where the scores of a window lie."""
    return folder / f"{before}part-{number:06d}.parquet"


def rejects_of(folder: Path, number: int, before: str = "") -> Path:
    """Return where the rejects of a window lie."""
    return folder / f"{before}part-{number:06d}.{REJECTS}"


def write_window(
    folder: Path,
    window: Window,
    ids: Sequence[str],
    scores: Scores,
    rejects: Sequence[Reject],
    kept: Mapping[str, Sequence[str | None]],
    metadata: str,
    *,
    final: bool,
    before: str = "",
) -> Window:
    """Write the scores and rejects of a window, each if there are some; return it with their hashes.

    ``kept`` are columns of the input, each value as JSON; they are text if the shard is ``final``.
    """
    shard = rejected = None
    if ids:
        path = part_of(folder, window.number, before)
        columns = dict(zip(column_names(scores.shape[1]), scores.T, strict=True))
        carried = {name: kept_shard(column, final=final) for name, column in kept.items()}
        write_scores(path, {"id": ids, **columns, **carried}, metadata)
        shard = file_hash(path)
    if rejects:
        path = rejects_of(folder, window.number, before)
        with replacing(path) as file:
            file.writelines(map(json_line, rejects))
        rejected = file_hash(path)
    return replace(window, shard=shard, rejected=rejected)


def write_ids(folder: Path, window: Window, ids: RawIds) -> Window:
    """Write all ids of a window, for whoever joins the shares; return it with the hash of that file."""
    path = ids_of(folder, window.number)
    with replacing_binary(path) as file:
        np.save(file, ids.hashes)
        np.save(file, np.packbits(ids.own))
    return replace(window, ids=file_hash(path))


def read_ids(folder: Path, window: Window) -> RawIds:
    """Return what ``write_ids`` wrote; OutputError where it is not there."""
    path = ids_of(folder, window.number)
    if not path.is_file() or file_hash(path) != window.ids:
        raise OutputError(f"{path}: is missing or not what was written here; remove the folder and start afresh")
    with open(path, "rb") as file:
        hashes: Hashes = np.load(file)
        own = np.unpackbits(np.load(file), count=len(hashes))
    return RawIds(hashes, own.astype(bool))


def join_rejects(path: Path, parts: Sequence[Path]) -> None:
    """Make one file of the rejects of windows, in their order; none where there are none."""
    there = [part for part in parts if part.exists()]
    if not there:
        path.unlink(missing_ok=True)  # those of an output that is overwritten
        return
    with replacing(path) as file:
        for part in there:
            file.write(part.read_text())
