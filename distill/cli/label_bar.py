"""The progress of a labelling: how many, how fast, what it has cost, and the time to go."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO

from tqdm import tqdm

from distill.judge.ask import Watcher
from distill.judge.records import SCORED

_FORMAT = "{desc} {percentage:3.0f}%|{bar:24}| {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} to go{postfix}"
_LOG_SECONDS = 60.0


class LabelBar(Watcher):
    """Draws a bar on a terminal; where there is none, writes a line a minute instead."""

    def __init__(self, stream: IO[str], *, show: bool, log: bool, priced: bool) -> None:
        """Draw on ``stream`` if ``show``, else write lines to it if ``log``; ``priced`` runs show the money too."""
        self._stream = stream
        self._log = log and not show
        self._priced = priced
        self._bar = tqdm(desc="labelling", total=1, file=stream, disable=not show, bar_format=_FORMAT, leave=False)
        self._total = self._before = 0
        self._done = self._rejected = 0  # of this labelling; a loop has several
        self._usd = 0.0
        self._noted = ""
        self._start = self._logged = time.monotonic()

    def begin(self, questions: int, answered: int) -> None:
        """Note how many questions there are; those that the store answers take no time, so the rate leaves them out."""
        self._total, self._before = questions, answered
        self._done = self._rejected = 0
        self._bar.total = questions
        self._bar.initial = self._bar.n = answered
        self._start = self._logged = time.monotonic()
        self._bar.refresh()

    def done(self, status: str) -> None:
        """Note a settled question."""
        self._done += 1
        self._rejected += status != SCORED
        self._bar.set_postfix_str(self._facts(), refresh=False)
        self._bar.update()
        if self._log and time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            left = (self._total - self._before - self._done) / max(self._rate, 1e-9)
            self._line(f"{self._before + self._done} of {self._total}, {self._facts()}, {left / 60:.0f} min to go")

    def spent(self, usd: float) -> None:
        """Note what was spent so far."""
        self._usd = usd

    def note(self, text: str) -> None:
        """Say why nothing seems to happen."""
        self._bar.set_postfix_str(f"{self._facts()}, {text}")
        if self._log and text != self._noted:
            self._line(text)
        self._noted = text

    @property
    def _rate(self) -> float:
        return self._done / max(time.monotonic() - self._start, 1e-9)

    def _facts(self) -> str:
        money = f", ${self._usd:.4f} spent" if self._priced else ""
        return f"{self._rate:.1f}/s{money}" + (f", {self._rejected} rejected" if self._rejected else "")

    def _line(self, text: str) -> None:
        self._stream.write(f"labelling: {text}\n")
        self._stream.flush()

    def __enter__(self) -> LabelBar:
        """Return the bar."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar off the screen."""
        self._bar.close()
