"""Shares of a run, joined: what only the whole input can tell, when all processes have ended.

Of files whose windows are found by counting a process parses its own windows alone, so it can't know which ids occur
in those of others. It leaves the hashes of its ids beside its shards. Whoever ends last compares them, in the order of
the input, and writes again those windows that repeat an id, without the rows that are rejects now: what they hold is
what one process would have written. Nothing is scored for that. A kill at any moment leaves what the next process, with
--resume, can finish: what takes the place of shards waits under other names until ``_joined.json`` names all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scorer.dialogue import HEADS
from scorer.errors import OutputError
from scorer.finished import file_hash
from scorer.inputs.corpus import Corpus
from scorer.locks import locked
from scorer.model import Scorer
from scorer.outputs import JOINED, write_json, writing
from scorer.progress import Progress
from scorer.reading.counted import Found, found_windows, read_window
from scorer.reading.cut import window_of_counted
from scorer.reading.ids import Ids, RawIds
from scorer.reading.windows import Share, Window
from scorer.run.manifest import IDS, Joined, finished_windows, is_unjoined, joined_windows, unfinished
from scorer.run.parts import AHEAD, REJECTS, join_rejects, part_of, read_ids, rejects_of, write_window
from scorer.run.score_file import column_names, write_scores
from scorer.run.settings import ScoreSettings

if TYPE_CHECKING:
    from scorer.run.output import Run

_AFRESH = "remove the folder and start afresh"


def join_shares(
    run: Run,
    corpus: Corpus,
    scorer: Scorer,
    settings: ScoreSettings,
    progress: Progress,
    resumable: Callable[[], None] = lambda: None,
) -> None:
    """Join the shares of a folder, if this process is the last one; OutputError where they are not of one input.

    ``resumable`` is called when all that will take the place of shards lies beside them.
    """
    folder = run.folder
    if settings.share.count == 1 or not is_unjoined(folder) or unfinished(folder):
        return
    with writing(run.output), ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / JOINED))
        except OutputError:
            progress.say("another process joins the shards")
            return
        if not is_unjoined(folder):
            return
        for left in folder.glob(".*.tmp"):  # of processes that were killed; none is at work here now
            left.unlink()
        if not (folder / JOINED).exists():
            for left in folder.glob(f"{AHEAD}part-*"):
                left.unlink()
            changed = _changed(run, corpus, scorer, settings, progress)
            write_json(folder / JOINED, Joined(windows=changed))
        resumable()
        put_in_place(folder)
        windows = finished_windows(folder)
        for index in range(settings.share.count):
            share = Share(index, settings.share.count)
            numbers = sorted(window.number for window in windows if share.has(window.number))
            join_rejects(folder / f"shard-{share}.{REJECTS}", [rejects_of(folder, number) for number in numbers])
        for path in folder.glob(IDS):
            path.unlink(missing_ok=True)
        for window in windows:
            rejects_of(folder, window.number).unlink(missing_ok=True)
    joined = joined_windows(folder)
    run.done = {number: joined.get(number, window) for number, window in run.done.items()}


def put_in_place(folder: Path) -> None:
    """Let windows that were changed take the place of what they were, as far as an interrupted process did not."""
    for number, window in joined_windows(folder).items():
        if not window.tally.scored:
            part_of(folder, number).unlink(missing_ok=True)
        for of in (part_of, rejects_of):
            with suppress(FileNotFoundError):  # done already, or there is none
                of(folder, number, AHEAD).replace(of(folder, number))


def _changed(run: Run, corpus: Corpus, scorer: Scorer, settings: ScoreSettings, progress: Progress) -> list[Window]:
    """Return the windows whose ids are not all new, written anew beside what they were."""
    windows = sorted(finished_windows(run.folder), key=lambda window: window.number)
    _check_chain(run.folder, windows)
    progress.stage("comparing ids", len(windows))
    ids, changed = Ids(), []
    wanted = -1  # in one pass, which begins where it is needed
    found = found_windows(corpus, settings.window, lambda number: number == wanted)
    for done, window in enumerate(windows, start=1):
        raw = read_ids(run.folder, window)
        if not ids.are_new(raw.hashes):
            new = _renamed(run, window, ids, raw, settings)
            if new is None:
                wanted = window.number
                there = next((one for one in found if one.number == wanted), None)
                new = _without_repeats(run, window, there, ids, scorer, settings)
            changed.append(new)
        progress.update(done, note=f"{len(changed):,} windows repeat an id")
    return changed


def _check_chain(folder: Path, windows: Sequence[Window]) -> None:
    """Raise OutputError unless each window begins where the one before it ends."""
    for number, (window, following) in enumerate(zip(windows, [*windows[1:], None], strict=True)):
        here, then = window.place, following.place if following else None
        if window.number != number or here is None:
            raise OutputError(f"{folder}: window {number} is missing among what its shards finished; {_AFRESH}")
        if then is not None and (then.first, then.start, then.line) != (here.last, here.end, here.end_line):
            raise OutputError(
                f"{folder}: window {number + 1} does not begin where window {number} ends, so the input was changed "
                f"between its shards; {_AFRESH}"
            )


def _renamed(run: Run, window: Window, ids: Ids, raw: RawIds, settings: ScoreSettings) -> Window | None:
    """Write a window anew whose ids get other names, which needs nothing but its shard; None where that is not all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if window.shard is None or window.tally.scored != len(raw.hashes):
        return None
    table = pq.read_table(part_of(run.folder, window.number))
    if (names := ids.renamed(table["id"].to_pylist(), raw)) is None:
        return None
    kept = table.column_names[1 + len(column_names(4 if settings.uncertainty else 2)) :]
    columns = {
        name: (pa.field("", pa.string()), table[name].combine_chunks()) if name in kept else table[name].to_numpy()
        for name in table.column_names[1:]
    }
    path = part_of(run.folder, window.number, AHEAD)
    write_scores(path, {"id": names, **columns}, run.metadata)
    return replace(window, shard=file_hash(path))


def _without_repeats(
    run: Run, window: Window, there: Found | None, ids: Ids, scorer: Scorer, settings: ScoreSettings
) -> Window:
    """Write a window anew from its shard and what is ``there`` in the input, without the rows that are rejects now."""
    if there is None:
        raise OutputError(f"{run.folder}: window {window.number} is not in the input any more; {_AFRESH}")
    read = read_window(there, scorer.encoder, scorer.bundle.info.domain, settings.keep)
    same = (read.place, read.sha256) == (window.place, window.bytes)
    run.check_same(window, window.records if same else "other bytes")
    placed = [ids.place(chunk, 0) for chunk in read.chunks]
    prepared = window_of_counted(placed, read.number, read.place, read.sha256)
    scores = np.zeros((0, len(HEADS)), dtype=np.float32)
    if prepared.ids:
        import pyarrow.parquet as pq

        names = column_names(4 if settings.uncertainty else 2)
        table = pq.read_table(part_of(run.folder, window.number), columns=["id", *names])
        alive = np.concatenate([one.alive[one.chunk.tokens.texts >= 0] for one in placed])
        if len(table) != len(alive):
            raise OutputError(f"{part_of(run.folder, window.number)}: is not what was written here; {_AFRESH}")
        scores = np.ascontiguousarray(np.stack([table[name].to_numpy() for name in names], axis=1)[alive])
    tally = replace(prepared.tally, sums=scores[:, : len(HEADS)].sum(axis=0, dtype=float).tolist())
    changed = replace(window, tally=tally)
    made_of = (prepared.ids, scores, prepared.rejects, prepared.kept)
    return write_window(run.folder, changed, *made_of, run.metadata, final=True, before=AHEAD)
