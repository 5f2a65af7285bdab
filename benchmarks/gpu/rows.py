"""A row of the table: a variant of a model's engine, timed on the same batches, or the reason why it did not run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from scorer.bundle.encode import Encoded
from scorer.bundle.tokens import Tokens
from scorer.engines.base import padded
from scorer.errors import reason_of
from scorer.model import plan_batches
from selection.gating.judge import Decide
from selection.metrics import correlation

Floats = npt.NDArray[np.float32]
Batch = dict[str, npt.NDArray[np.int64]]
Run = Callable[[Sequence[Batch]], list[Floats]]
"""Scores batches in order, with as many under way as the variant has; returns when all are back in memory."""

_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a variant did. ``rate`` counts dialogues a second, ``reason`` says why there are no figures."""

    name: str
    rate: float | None = None
    tokens: float | None = None
    correlation: float | None = None
    flips: float | None = None
    largest: float | None = None
    note: str = ""
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Work:
    """The same batches for all variants of one model, sorted by length, and the processor's scores of the first rows.

    ``decide`` are the decisions that scores lead to. ``until`` is when no further variant begins.
    """

    encoded: Sequence[Encoded]
    reference: Floats
    decide: Decide
    batch_tokens: int
    until: float
    pad_id: int = 0
    rows: list[Row] = field(default_factory=list)

    def batches(self, multiple: int = 8) -> tuple[list[npt.NDArray[np.int64]], list[Batch]]:
        """Return which rows each batch holds, and its arrays."""
        tokens = Tokens.of(self.encoded)
        plan = list(plan_batches(tokens.lengths, self.batch_tokens, 1 << 20, multiple))
        return plan, [dict(padded(tokens, rows, self.pad_id, multiple)) for rows in plan]

    def measure(self, name: str, make: Callable[[], tuple[Run, str]]) -> None:
        """Add the row of a variant: ``make`` gives its ``run`` and a note, or raises what the row will say."""
        if time.monotonic() > self.until:
            self.rows.append(Row(name=name, reason="no time was left"))
            return
        try:
            run, note = make()
            self.rows.append(self._timed(name, run, note))
        except Exception as error:  # noqa: BLE001 - a row that cannot run says why; ONNX Runtime's own share no base
            self.rows.append(Row(name=name, reason=reason_of(error)[:160]))

    def _timed(self, name: str, run: Run, note: str) -> Row:
        plan, batches = self.batches()
        run(batches[:1])
        best, found = float("inf"), []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            found = run(batches)
            best = min(best, time.perf_counter() - began)
            if time.monotonic() > self.until:
                break
        scores = np.zeros((len(self.encoded), 2), np.float32)
        for rows, part in zip(plan, found, strict=True):
            scores[rows] = part
        mine = scores[Tokens.of(self.encoded).texts][: len(self.reference)]
        ones = np.ones(len(mine))
        similar = [correlation(mine[:, i].astype(float), self.reference[:, i].astype(float), ones) for i in range(2)]
        count = len(self.encoded)
        return Row(
            name=name,
            rate=count / best,
            tokens=sum(map(len, self.encoded)) / best,
            correlation=None if np.isnan(similar).any() else min(similar),
            flips=float((self.decide(mine) != self.decide(self.reference)).mean()),
            largest=float(np.abs(mine - self.reference).max()),
            note=note,
        )
