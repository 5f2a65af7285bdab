"""The work that is left is weighted by tokens, and estimated from bytes where tokens are not known yet."""

from __future__ import annotations

from scorer.progress import Silent
from scorer.run.estimate import Estimate


class Told(Silent):
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[float | None] = []
        self.updates: list[tuple[float, float | None, str]] = []

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.stages.append(total)

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        self.updates.append((done, total, note.split("s,", maxsplit=1)[0]))


def test_the_total_is_read_tokens_plus_the_unread_bytes_at_the_same_density() -> None:
    told = Told()
    estimate = Estimate(told, 4000)
    estimate.read(100, 1000)
    estimate.scored(1, 50)
    estimate.read(900, 4000)
    estimate.scored(2000, 50)
    assert told.updates == [(50, 400, "1 dialogue"), (100, 1000, "2,001 dialogue")]


def test_bytes_that_were_finished_before_do_not_thin_the_estimate() -> None:
    told = Told()
    estimate = Estimate(told, 4000)
    estimate.skipped(7, 1000)
    estimate.read(100, 2000)
    estimate.scored(1, 100)
    assert told.updates == [(0, None, "skipped 7 finished records"), (100, 300, "1 dialogue")]


def test_standard_input_has_no_total() -> None:
    told = Told()
    estimate = Estimate(told, None)
    estimate.read(100, 10)
    estimate.scored(1, 100)
    assert (told.stages, told.updates) == ([None], [(100, None, "1 dialogue")])
