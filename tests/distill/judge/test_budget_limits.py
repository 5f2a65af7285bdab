"""The limits of a budget to the last cent and request."""

from __future__ import annotations

import asyncio

import pytest

from distill.judge.budget import Budget, BudgetSpentError, Spending


def test_nothing_is_spent_at_first() -> None:
    assert Budget(1.0, 1).spending == Spending(requests=0, usd=0.0, lost=0, lost_usd=0.0)


def test_what_reaches_a_limit_may_go_out_and_what_passes_it_never() -> None:
    budget = Budget(1.0, 3)
    assert budget.allows(1.0) is True
    assert budget.allows(1.0, 3) is True
    with pytest.raises(BudgetSpentError, match=r"--max-cost 1: \$0.0000 are spent and the next call may cost \$1.0010"):
        budget.allows(1.001)
    with pytest.raises(BudgetSpentError, match="--max-requests 3"):
        budget.allows(0.1, 4)
    first = budget.take(0.75, 2)
    assert budget.spending.requests == 2
    assert budget.allows(0.25) is True
    assert budget.allows(0.5) is False  # what is in flight may leave enough
    with pytest.raises(BudgetSpentError, match="--max-requests 3"):
        budget.allows(0.0, 2)
    second = budget.take(0.25)
    assert first != second
    assert budget.spending.requests == 3
    budget.settle(first, 0.5)
    budget.settle(second, 0.25, lost=[0.25])
    assert budget.spending == Spending(requests=3, usd=0.75, lost=1, lost_usd=0.25)
    with pytest.raises(BudgetSpentError, match="--max-requests 3"):
        budget.allows(0.0)


def test_without_limits_everything_may_go_out() -> None:
    budget = Budget(None, None)
    budget.take(1e9, 10**9)
    assert budget.allows(1e9, 10**9) is True


def test_a_call_that_was_never_sent_is_given_back_in_full() -> None:
    budget = Budget(1.0, 1)
    budget.release(budget.take(1.0))
    assert budget.spending == Spending()
    assert budget.allows(1.0) is True
    with pytest.raises(KeyError):
        budget.settle(1, 0.0)  # and not twice


def test_who_waits_goes_on_as_soon_as_there_is_room_and_not_before() -> None:
    async def run() -> None:
        budget = Budget(1.0, None)
        first, second = budget.take(0.5), budget.take(0.5)
        waiting = asyncio.ensure_future(budget.reserve(0.75))
        await asyncio.sleep(0)
        budget.settle(first, 0.0)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        budget.settle(second, 0.125)
        number = await asyncio.wait_for(waiting, 5)
        budget.settle(number, 0.75)
        assert budget.spending.usd == 0.875

    asyncio.run(run())
