"""The bar of a long call from Python: on a terminal and in a notebook, once the call has lasted two seconds."""

from __future__ import annotations

import time
from typing import Any

from scorer.text import plain

_WAIT = 2.0


class CallBar:
    """A `scorer.progress.Progress` of a call, drawn by tqdm.auto; ``show`` None is where a person watches."""

    def __init__(self, *, show: bool | None = None) -> None:
        """Begin to wait."""
        self._show = show
        self._bar: Any = None
        self._name = ""
        self._total: float | None = None
        self._began = time.monotonic()

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        """Begin a stage."""
        self.close()
        self._name, self._total = name, total

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        """Move the bar, or draw it if it is time."""
        self._total = total or self._total
        if self._bar is None and self._show is not False and time.monotonic() - self._began >= _WAIT:
            from tqdm.auto import tqdm

            # None: tqdm itself looks for a terminal or a notebook.
            disable = None if self._show is None else False
            self._bar = tqdm(desc=plain(self._name), total=self._total, disable=disable, unit=" dialogues")
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def say(self, text: str) -> None:
        """Show a line above the bar."""
        if self._bar is not None:
            self._bar.write(plain(text))

    def close(self) -> None:
        """End the bar; what it came to stays."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> CallBar:
        """Return the bar."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the bar."""
        self.close()
