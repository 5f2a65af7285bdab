"""A progress bar on a terminal; elsewhere, a line per minute with the time to go."""

from __future__ import annotations

import time
from typing import IO

from tqdm import tqdm

from scorer.text import plain

_FORMAT = "{desc} {percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} to go{postfix}"
_FORMAT_ENDLESS = "{desc} {elapsed} gone{postfix}"
_LOG_SECONDS = 60.0


class Bar:
    """A `scorer.progress.Progress` that a person sees. The time to go comes from what this run did itself."""

    def __init__(self, stream: IO[str], *, quiet: bool = False) -> None:
        """Draw on ``stream`` if it is a terminal, else write lines to it; nothing at all if ``quiet``."""
        self._stream = stream
        self._quiet = quiet
        self._draws = stream.isatty() and not quiet
        self._bar: tqdm[None] | None = None
        self._name = ""
        self._total: float | None = None
        self._before = self._done = 0.0
        self._began = self._said = time.monotonic()

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        """Begin a stage; its name is a line if the last one is a minute old."""
        self.close()
        self._name, self._total = name, total
        self._before = self._done = done
        self._began = time.monotonic()
        if self._draws:
            self._bar = tqdm(
                desc=plain(name),
                total=total,
                initial=done,
                file=self._stream,
                bar_format=_FORMAT_ENDLESS if total is None else _FORMAT,
                leave=False,
                mininterval=0.2,
            )
        elif self._is_due():
            self.say(name)

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        """Move the bar, or write a line if the last one is a minute old."""
        self._total = total or self._total
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.set_postfix_str(plain(note), refresh=False)
            self._bar.update(done - self._done)
        self._done = done
        if self._bar is None and self._is_due():
            self.say(f"{self._name}: {self._share()}{note}".rstrip(", :"))

    def say(self, text: str) -> None:
        """Write a line, above the bar where there is one."""
        text, self._said = plain(text), time.monotonic()
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif not self._quiet:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _is_due(self) -> bool:
        return time.monotonic() - self._said > _LOG_SECONDS

    def _share(self) -> str:
        if not self._total:
            return ""
        seconds = (time.monotonic() - self._began) / max(self._done - self._before, 1e-9) * (self._total - self._done)
        return f"{self._done / self._total:.0%} done, {seconds / 60:.0f} min to go, "

    def __enter__(self) -> Bar:
        """Return the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar off the screen."""
        self.close()
