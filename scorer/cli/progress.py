"""A progress bar on standard error whose time to go is weighted by tokens.

Batches are sorted by length, so dialogues done say little about time to go: the long ones come first. Tokens
still to come are those of the window at hand, and for the unread rest of the input its bytes times the tokens a
byte seen so far.
"""

from __future__ import annotations

from types import TracebackType
from typing import IO

from tqdm import tqdm

_FORMAT = "{desc} {percentage:3.0f}%|{bar:24}| {elapsed} gone, {remaining} to go{postfix}"
_FORMAT_ENDLESS = "{desc} {elapsed} gone{postfix}"


class ProgressBar:
    """Shows rate and time to go; draws nothing where ``show`` is False."""

    def __init__(self, total_bytes: int | None, stream: IO[str], *, show: bool) -> None:
        """Watch a run over an input of so many bytes, None where that is not known, and draw on ``stream``."""
        self._total_bytes = total_bytes
        self._rows = 0
        self._tokens_read = 0
        self._skipped_bytes = 0
        self._bar = tqdm(
            desc="scoring",
            total=None if self._total_bytes is None else 1,
            file=stream,
            disable=not show,
            bar_format=_FORMAT_ENDLESS if self._total_bytes is None else _FORMAT,
            leave=False,
            mininterval=0.2,
        )

    def skipped(self, records: int, position: int) -> None:
        """Note records that an earlier run finished: their bytes are read and cost no scoring."""
        self._skipped_bytes = position
        self._bar.set_postfix_str(f"skipped {records} finished records")

    def read(self, tokens: int, position: int) -> None:
        """Note that a window with so many tokens was read: estimate the tokens of the whole input anew."""
        self._tokens_read += tokens
        if self._total_bytes is not None:
            rest = max(0, self._total_bytes - position)
            self._bar.total = round(self._tokens_read * (1 + rest / max(1, position - self._skipped_bytes)))

    def scored(self, rows: int, tokens: int) -> None:
        """Note that so many dialogues and tokens were scored."""
        self._rows += rows
        elapsed = self._bar.format_dict["elapsed"] if not self._bar.disable else 0
        self._bar.set_postfix_str(f"{self._rows} dialogues, {self._rows / max(elapsed, 1e-3):.0f}/s", refresh=False)
        self._bar.update(tokens)

    @property
    def total_tokens(self) -> int:
        """The tokens of the whole input, as estimated now."""
        return int(self._bar.total)

    def refresh(self) -> None:
        """Draw now."""
        self._bar.refresh()

    def __enter__(self) -> ProgressBar:
        """Return the bar."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar off the screen."""
        self._bar.close()
