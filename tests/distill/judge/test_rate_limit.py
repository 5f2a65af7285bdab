"""When a call may go out."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest

from distill.judge.rate_limit import MAX_BACKOFF, Pace, retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after-ms": "0"}, None),
        ({"retry-after": "1e-9"}, None),
        ({"retry-after": "1e20"}, 3600),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after-ms": "nan", "retry-after": "4"}, 4),
        ({"retry-after": "Fri, 01 Jan 100000000000000000000 00:00:00 GMT"}, None),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}, 3600),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "x", "retry-after": "1"}, 1),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": formatdate(0, usegmt=True)}, None),
    ],
)
def test_what_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_is_waited_for() -> None:
    assert retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)


def test_waits_double_with_jitter_up_to_a_minute() -> None:
    pace = Pace(None, None)
    waits = [pace.backoff(failures) for failures in (1, 2, 3, 4)]
    assert all(0.75 * base <= wait <= 1.25 * base for wait, base in zip(waits, (0.5, 1, 2, 4), strict=True))
    assert pace.backoff(5000) <= MAX_BACKOFF * 1.25
    assert len({pace.backoff(3) for _ in range(20)}) > 1


@pytest.mark.parametrize(("rpm", "tpm"), [(1200, None), (None, 12_000), (1200, 12_000)])
def test_calls_are_spaced_over_the_minute(rpm: int | None, tpm: int | None) -> None:
    async def run() -> float:
        pace = Pace(rpm, tpm)
        start = time.monotonic()
        await asyncio.gather(*(pace.turn(10) for _ in range(7)))
        return time.monotonic() - start

    assert 0.3 <= asyncio.run(run()) < 3  # the seventh goes out six times 0.05 s after the first


def test_a_cool_down_holds_everybody_and_grows_until_an_answer_comes() -> None:
    async def run() -> None:
        pace = Pace(None, None, first_backoff=0.1)
        pace.cool_down(None)
        first = pace.cooling
        pace.cool_down(None)  # a call that was in flight: the same cool-down
        assert 0 < pace.cooling <= first <= 0.125
        start = time.monotonic()
        await asyncio.gather(*(pace.turn(1) for _ in range(5)))
        assert time.monotonic() - start >= first * 0.9
        pace.cool_down(None)
        assert pace.cooling > 0.14
        await pace.turn(1)
        pace.answered()
        pace.cool_down(None)
        assert pace.cooling <= 0.125
        pace.cool_down(0.4)  # what a server asks for counts in any case
        assert pace.cooling > 0.35

    asyncio.run(run())


@pytest.mark.parametrize("shorter", [None, 0.02, 0.0, -5.0])
def test_a_shorter_pause_cuts_no_running_one(shorter: float | None) -> None:
    pace = Pace(None, None, first_backoff=0.01)
    pace.cool_down(30)
    pace.cool_down(shorter)
    assert 29 < pace.cooling <= 30


def test_a_server_that_asks_for_no_pause_gets_growing_ones() -> None:
    pace, waits = Pace(None, None, first_backoff=8), []
    for _ in range(3):
        pace.cool_down(retry_after({"retry-after": "0"}))
        waits.append(pace.cooling)
        pace._cool_until = 0.0
    assert all(0.74 * base <= wait <= 1.25 * base for base, wait in zip((8, 16, 32), waits, strict=True))
