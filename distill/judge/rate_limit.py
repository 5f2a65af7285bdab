"""When a call may go out: requests and tokens per minute, one cool-down for all workers, and how long to wait again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import isfinite

MAX_BACKOFF = 60.0
MAX_RETRY_AFTER = 3600.0
"""A server that asks for more than an hour is not waited for any longer at a time."""
_LEAST_RETRY_AFTER = 0.01
"""Less would be no pause, and the next refusal."""

_JITTER = 0.25


class Pace:
    """Paces the calls of all workers. Seconds throughout; the clock is the monotonic one."""

    def __init__(self, rpm: int | None, tpm: int | None, *, first_backoff: float = 0.5) -> None:
        """Take requests and tokens per minute; None is no limit."""
        self._seconds_per_request = 60 / rpm if rpm else 0.0
        self._seconds_per_token = 60 / tpm if tpm else 0.0
        self._first_backoff = first_backoff
        self._next = 0.0
        self._cool_until = 0.0
        self._episodes = 0

    @property
    def cooling(self) -> float:
        """Seconds for which nobody may call."""
        return max(0.0, self._cool_until - time.monotonic())

    async def turn(self, tokens: int) -> None:
        """Wait for this call's turn. Calls are spaced evenly: servers count over less than a minute too."""
        cost = max(self._seconds_per_request, self._seconds_per_token * tokens)
        if cost:
            start = max(self._next, time.monotonic())
            self._next = start + cost
            await asyncio.sleep(start - time.monotonic())
        while (rest := self.cooling) > 0:  # it may have grown meanwhile
            await asyncio.sleep(rest + random.uniform(0, min(1.0, _JITTER * rest)))

    def cool_down(self, retry_after: float | None) -> None:
        """Stop all workers for as long as the server asks, else for longer at each refusal until an answer comes."""
        if self.cooling > 0 and retry_after is None:
            return  # one of the calls that were in flight when the cool-down began
        if self.cooling <= 0:
            self._episodes += 1
        wait = self.backoff(self._episodes) if retry_after is None else min(retry_after, MAX_RETRY_AFTER)
        self._cool_until = max(self._cool_until, time.monotonic() + wait)

    def answered(self) -> None:
        """Note an answer: the next cool-down starts short again."""
        self._episodes = 0

    def backoff(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row: twice as long each time, with jitter."""
        wait = min(MAX_BACKOFF, self._first_backoff * 2.0 ** min(failures - 1, 30))
        return wait * random.uniform(1 - _JITTER, 1 + _JITTER)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait: ``retry-after-ms``, or ``retry-after`` in seconds or as a date.

    None where it says nothing of use (no number, no time, a past date): the own back-off holds. At most an hour.
    """
    found = (_seconds(headers.get("retry-after-ms", ""), 0.001), _seconds(headers.get("retry-after", "")))
    wait = next((wait for wait in (*found, _until(headers.get("retry-after", ""))) if wait is not None), 0.0)
    return min(wait, MAX_RETRY_AFTER) if wait >= _LEAST_RETRY_AFTER else None


def _seconds(text: str, unit: float = 1.0) -> float | None:
    try:
        wait = float(text) * unit
    except ValueError:
        return None
    return wait if isfinite(wait) else None


def _until(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError):  # no date, or one beyond all calendars
        return None
