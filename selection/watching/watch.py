"""`Watch`: observations in, counts that survive anything, a snapshot out."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from scorer.locks import locked
from selection.errors import WatchError
from selection.watching.alerts import Alert, Alerts
from selection.watching.counting.counts import Batch, Counts, together
from selection.watching.counting.reference import Reference
from selection.watching.counting.store import Store
from selection.watching.observation import Observation, rows_of
from selection.watching.settings import WatchSettings
from selection.watching.snapshot import snapshot_of

_LOOKS = 5
"""Looks for alerts while as many dialogues come as alerts are about."""


_PROBLEMS = 50


class Watch:
    """What is counted of a stream of scores. Every method may be called from any thread.

    ``close`` it, or use it as a context manager; what ``record`` was given is kept even if nobody does.
    """

    def __init__(
        self,
        path: Path | None,
        settings: WatchSettings | None = None,
        *,
        reference: Reference | None = None,
        title: str = "",
        on_alert: Callable[[Alert], None] | None = None,
    ) -> None:
        """Open or begin the state in the file ``path``, None for memory alone; WatchError if it cannot be used.

        ``on_alert`` is told of every alert that begins or ends, in the thread that records; it may not call the watch.
        """
        self.settings = settings or WatchSettings()
        self.title = title
        self.problems: dict[str, str] = {}
        self.sources: list[str] = []
        self.closing = threading.Event()
        self.version = 0
        self._closed = False
        self._reference = reference
        self._lock = threading.Lock()
        self._made: tuple[int, dict[str, Any]] | None = None
        self._files = ExitStack()
        if path is not None:
            if not path.parent.is_dir():
                raise WatchError(f"{path}: the folder {path.parent} does not exist; create it first")
            self._files.enter_context(locked(path))
        try:
            self._store = Store(path)
            self._files.callback(self._store.close)
            self._counts = Counts(
                span=self.settings.window,
                wanted=0 if reference else self.settings.reference_rows,
                recent_rows=self.settings.recent,
            )
            self._store.load(self._counts)
            self.alerts = Alerts(self.settings, self._store, on_alert)
        except BaseException:
            self._files.close()
            raise
        self._step = max(1, self.settings.recent // _LOOKS)
        self._waiting: list[Batch] = []
        self._total = self._counts.total
        self._looked = self._total // self._step

    def record(
        self,
        observed: Sequence[Observation],
        *,
        outside: tuple[int, int] = (0, 0),
        positions: Mapping[str, Any] | None = None,
    ) -> None:
        """Count observations, in one transaction: when this returns, they outlive the process.

        ``outside`` is (outside the training domain, known) of dialogues of which only the number is known,
        ``positions`` how far sources are read (any JSON by name), which is kept with the counts or not at all.
        WatchError for an observation that cannot be, and where the state cannot be written: then nothing is counted.
        """
        batch = self._batch(observed, outside)
        with self._lock:
            self._store.append(batch, positions or {})
            if not len(batch.rows) and not outside[1]:
                return
            for part in self._parts(batch):
                self._waiting.append(part)
                self._total += len(part.rows)
                if self._total // self._step > self._looked:
                    self._look()
            self.version += 1
            if self._store.is_due:
                self._settle()
                self._store.fold(self._counts)

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """Yield a batch in parts between which there is a look."""
        start = 0
        while (end := start + self._step - (self._total % self._step)) < len(batch.rows):
            yield replace(batch, rows=batch.rows[start:end], outside=(), moved=(), lows=())
            start = end
        yield replace(batch, rows=batch.rows[start:])

    def _settle(self) -> None:
        """Count what waits, together: counting costs as much for one dialogue as for many."""
        waiting, self._waiting = self._waiting, []
        self._counts.add(together(waiting))

    def _look(self) -> None:
        self._settle()
        self._looked = self._total // self._step
        self.alerts.look(self._counts, self._reference)

    def look(self) -> None:
        """Look for alerts now, whatever came since the last look."""
        with self._lock:
            self._look()
            self.version += 1

    def positions(self) -> dict[str, Any]:
        """Return how far each source is read."""
        with self._lock:
            return self._store.positions()

    def snapshot(self) -> dict[str, Any]:
        """Return every figure, as JSON holds it."""
        with self._lock:
            if self._made is None or self._made[0] != self.version:
                self._settle()
                self._made = (
                    self.version,
                    snapshot_of(self._counts, self.settings, self._reference, self.alerts, self.sources),
                )
            found = self._made[1]
            recent = self._counts.recent
        now = clock.time()
        return found | {
            "title": self.title,
            "sources": self.sources,
            "problems": [{"source": name, "text": text} for name, text in self.problems.items()],
            "version": self.version,
            "now": now,
            "rate": _rate(recent["time"], now),
        }

    @property
    def total(self) -> int:
        """The dialogues that were counted."""
        return self._total

    def problem(self, source: str, text: str) -> None:
        """Let the page say what is wrong with a source; its latest problem is kept, of fifty sources."""
        with self._lock:
            if self.problems.get(source) != text and (source in self.problems or len(self.problems) < _PROBLEMS):
                self.problems[source] = text
                self.version += 1

    def mark_told(self, number: int, told: int) -> Alert:
        """Note that of an alert its beginning (1) or its end (2) was told, and return it as it is now."""
        with self._lock:
            return self.alerts.mark_told(number, told)

    def stop_streams(self) -> None:
        """End the streams of events of all pages, so that a server can end."""
        self.closing.set()

    def close(self) -> None:
        """Fold the state and close its file."""
        self.closing.set()
        with self._lock, self._files:
            if self._closed:
                return
            self._closed = True
            self._settle()
            self._store.fold(self._counts)

    def __enter__(self) -> Self:
        """Return the watch."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _batch(self, observed: Sequence[Observation], outside: tuple[int, int]) -> Batch:
        rows, names = rows_of(observed)
        moved = [] if self._reference is None else self._reference.moved(rows)
        return Batch(
            rows=rows,
            names=names,
            outside=[outside] if outside[1] else [],
            moved=[self._shown(observed[number], **more) for number, more in moved],
            lows=[self._shown(one) for one in observed if one.low][-20:],
        )

    def _shown(self, one: Observation, **more: Any) -> dict[str, Any]:
        found = {
            "id": one.id[:200],
            "time": one.time,
            "category": one.category and one.category[:80],
            "scores": [one.sensibility, one.rationality],
            "set": one.set,
        }
        if self.settings.keep_texts and one.text is not None:
            found["text"] = one.text[:2000]
        return found | more


def _rate(times: Any, now: float) -> float:
    """Return dialogues a minute: of the last minute, or of the latest ones where more came than are kept."""
    if not len(times):
        return 0.0
    lately = int((times > now - 60).sum())
    return 60.0 * lately / max(1.0, now - float(times.min())) if lately == len(times) else float(lately)
