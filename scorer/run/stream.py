"""Score a stream as it comes: JSON lines out while lines come in, so that scoring fits into a Unix pipe."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import IO

from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.model import Scorer
from scorer.outputs import json_line
from scorer.progress import Silent
from scorer.reading.chunks import with_columns
from scorer.reading.prepare import prepare
from scorer.reading.windows import Tally
from scorer.run.backend import Local
from scorer.run.estimate import Estimate
from scorer.run.score import acceptable
from scorer.run.score_file import score_line
from scorer.run.settings import ScoreSettings

_PATIENCE_SECONDS = 0.02

_Item = Dialogue | Reject | BaseException | None


def score_stream(
    scorer: Scorer, corpus: Corpus, scores_out: IO[str], rejects_out: IO[str], settings: ScoreSettings
) -> Tally:
    """Write one JSON line per dialogue to ``scores_out``, in input order, and one per reject to ``rejects_out``.

    What has arrived is scored together; nothing waits for more than 20 ms for company, so that a program which
    writes one line and reads one does not hang, and a file still fills its batches.
    """
    total = Tally()
    domain = scorer.bundle.info.domain
    keep = settings.keep
    arriving = (prepare(records, scorer.encoder, domain, keep) for records in _arriving(corpus, settings.window, keep))
    windows = acceptable(arriving, settings)
    for window, scores in Local(scorer, settings).score(windows, Estimate(Silent(), None)):
        kept = [{name: column[row] for name, column in window.kept.items()} for row in range(len(window.ids))]
        rows = zip(window.ids, scores, kept, strict=True)
        scores_out.writelines(score_line(id_, *values, kept=more) for id_, values, more in rows)
        scores_out.flush()
        rejects_out.writelines(map(json_line, window.rejects))
        rejects_out.flush()
        total.add(window.tally)
    return total


def _arriving(corpus: Corpus, size: int, keep: Sequence[str]) -> Iterator[list[Dialogue | Reject]]:
    """Yield what has arrived, at most ``size`` records at a time; a thread reads ahead by as much."""
    arrived: queue.Queue[_Item] = queue.Queue(maxsize=size)

    def read() -> None:
        try:
            for record in corpus:
                arrived.put(with_columns(record, keep) if isinstance(record, Dialogue) else record)
            arrived.put(None)
        except BaseException as error:  # noqa: BLE001 - handed on: the thread that scores raises it
            arrived.put(error)

    threading.Thread(target=read, name="read", daemon=True).start()
    window: list[Dialogue | Reject] = []
    while True:
        try:
            item = arrived.get(timeout=_PATIENCE_SECONDS if window else None)
        except queue.Empty:  # nothing more for now: score what is here
            yield window
            window = []
            continue
        if isinstance(item, (Dialogue, Reject)):
            window.append(item)
        if window and (len(window) == size or not isinstance(item, (Dialogue, Reject))):
            yield window
            window = []
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return
