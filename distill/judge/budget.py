"""A hard stop before money or requests run out: what is in flight counts at its worst until its price is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Book = Callable[[float, float], None]
"""Told what is paid and what more may be at the worst, USD, before anything is sent and after it came."""


class BudgetSpentError(Exception):
    """Nothing more may be asked; the text is the limit that was met."""


@dataclass(slots=True)
class Spending:
    """What a run has spent. ``usd`` holds ``lost_usd``, the worst case of calls whose answer never came."""

    requests: int = 0
    usd: float = 0.0
    lost: int = 0
    lost_usd: float = 0.0


class Budget:
    """Admits requests only if the limits hold even if everything in flight comes to its worst case."""

    def __init__(self, max_usd: float | None, max_requests: int | None, book: Book | None = None) -> None:
        """Take the limits of this run; None is none."""
        self.spending = Spending()
        self._max_usd = max_usd
        self._max_requests = max_requests
        self._book = book
        self._reserved: dict[int, float] = {}
        self._number = 0
        self._settled = asyncio.Event()

    def allows(self, worst_usd: float, requests: int = 1) -> bool:
        """Whether so many requests may go out now, which come to ``worst_usd`` at most.

        False where they may go out later: what is in flight may leave enough of its worst case. BudgetSpentError where
        they never may.
        """
        if self._max_requests is not None and self.spending.requests + requests > self._max_requests:
            raise BudgetSpentError(f"--max-requests {self._max_requests}")
        if self._max_usd is None or self.spending.usd + sum(self._reserved.values()) + worst_usd <= self._max_usd:
            return True
        if self._reserved:
            return False
        spent = f"${self.spending.usd:.4f} are spent and the next call may cost ${worst_usd:.4f}"
        raise BudgetSpentError(f"--max-cost {self._max_usd:g}: {spent}")

    def take(self, worst_usd: float, requests: int = 1) -> int:
        """Reserve what requests that go out may come to; return the reservation's number."""
        self.spending.requests += requests
        self._number += 1
        self._reserved[self._number] = worst_usd
        self._booked()
        return self._number

    async def reserve(self, worst_usd: float) -> int:
        """Wait until a call may go out and return its reservation's number; BudgetSpentError if it never may."""
        while not self.allows(worst_usd):
            self._settled.clear()
            await self._settled.wait()
        return self.take(worst_usd)

    def settle(self, number: int, usd: float, *, lost: Sequence[float] = ()) -> None:
        """Book what was paid in place of a reservation; ``lost`` are the parts of which nobody knows, at their most."""
        del self._reserved[number]
        self.spending.usd += usd
        self.spending.lost += len(lost)
        self.spending.lost_usd += sum(lost)
        self._booked()
        self._settled.set()

    def release(self, number: int) -> None:
        """Take back the reservation of a call that was never sent."""
        self.spending.requests -= 1
        self.settle(number, 0.0)

    def _booked(self) -> None:
        if self._book is not None:
            self._book(self.spending.usd, sum(self._reserved.values()))
