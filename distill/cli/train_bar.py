"""The progress of a training: one bar over all its fits, with the time to go."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO

from tqdm import tqdm

from distill.training.fits import Progress

_FORMAT = "{desc} {percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} to go{postfix}"
_LOG_SECONDS = 60.0


class TrainBar(Progress):
    """Draws a bar on a terminal; where there is none, writes a line a minute instead."""

    def __init__(self, stream: IO[str], *, show: bool, log: bool) -> None:
        """Draw on ``stream`` if ``show``, else write lines to it if ``log``."""
        self._stream = stream
        self._log = log and not show
        self._bar = tqdm(desc="training", total=1, file=stream, disable=not show, bar_format=_FORMAT, leave=False)
        self._total = 0
        self._before = 0
        self._skipped = 0
        self._done = 0
        self._name = ""
        self._seconds = 0.0  # spent in fits: what the teacher takes says nothing about the steps to come
        self._last = self._logged = time.monotonic()

    def begin(self, steps: int) -> None:
        """Note how many optimiser steps all fits take together."""
        self._total = self._bar.total = steps
        self._bar.refresh()

    def fit(self, name: str) -> None:
        """Note which fit begins."""
        self._before = self._done
        self._last = time.monotonic()
        self._name = name
        self._bar.set_description_str(f"training, {name}")
        self._line(f"{name}: begins")

    def step(self, done: int, loss: float) -> None:
        """Note the steps done in this fit."""
        now = time.monotonic()
        self._seconds += now - self._last
        self._last = now
        self._bar.update(self._before + done - self._done)
        self._done = self._before + done
        self._bar.set_postfix_str("" if loss != loss else f"loss {loss:.3f}", refresh=False)
        if self._log and now - self._logged > _LOG_SECONDS:
            self._logged = now
            rate = (self._done - self._skipped) / max(self._seconds, 1e-9)
            left = (self._total - self._done) / max(rate, 1e-9)
            shown = "" if loss != loss else f", loss {loss:.3f}"
            self._line(f"{self._name}: step {self._done} of {self._total}{shown}, {left / 60:.0f} min to go")

    def skip(self, steps: int) -> None:
        """Note a fit that an earlier run finished."""
        self._skipped += steps
        self._done += steps
        self._bar.update(steps)

    def teach(self, done: int, total: int) -> None:
        """Note how many of the dialogues the teachers have scored for the next fit."""
        text = f"the teacher scores dialogues, {done} of {total}"
        self._bar.set_description_str(text)
        if done == total or time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            self._line(text)

    def _line(self, text: str) -> None:
        if self._log:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def __enter__(self) -> TrainBar:
        """Return the bar."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar off the screen."""
        self._bar.close()
