"""How much work is left: tokens, estimated from the bytes of the input that nobody has read yet.

Batches are sorted by length, so dialogues done say little about the time to go: the long ones come first. Tokens still
to come are those of the window at hand, and for the unread rest of the input its bytes times the tokens per byte so
far.
"""

from __future__ import annotations

import time

from scorer.progress import Progress


class Estimate:
    """Turns what the pipeline sees into progress by tokens."""

    def __init__(self, progress: Progress, total_bytes: int | None) -> None:
        """Tell ``progress`` of a run over so many bytes, None where that is not known."""
        self._progress = progress
        self._total_bytes = total_bytes
        self._read = self._done = self._rows = self._skipped_bytes = 0
        self._total: float | None = None
        self._start = time.monotonic()
        progress.stage("scoring", None if total_bytes is None else 1)

    def skipped(self, records: int, position: int) -> None:
        """Note records that an earlier run finished: their bytes are read and cost no scoring."""
        self._skipped_bytes = position
        self._progress.update(self._done, total=self._total, note=f"skipped {records:,} finished records")

    def read(self, tokens: int, position: int) -> None:
        """Note that a window with so many tokens was read, when ``position`` bytes of the input were."""
        self._read += tokens
        if self._total_bytes is not None:
            rest = max(0, self._total_bytes - position)
            self._total = round(self._read * (1 + rest / max(1, position - self._skipped_bytes)))

    def scored(self, rows: int, tokens: int) -> None:
        """Note that so many more dialogues and tokens were scored."""
        self._rows += rows
        self._done += tokens
        rate = self._rows / max(time.monotonic() - self._start, 1e-3)
        self._progress.update(self._done, total=self._total, note=f"{self._rows:,} dialogues, {rate:,.0f}/s")
