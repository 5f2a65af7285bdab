"""The hard stop: nothing is admitted that could pass a limit, whatever is in flight."""

from __future__ import annotations

import asyncio
import random

import pytest

from distill.judge.budget import Budget, BudgetSpentError


def test_calls_in_flight_count_at_their_worst() -> None:
    async def run() -> None:
        budget = Budget(1.0, None)
        first = await budget.reserve(0.6)
        waiting = asyncio.ensure_future(budget.reserve(0.6))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        budget.settle(first, 0.3)
        budget.settle(await waiting, 0.3)
        with pytest.raises(BudgetSpentError, match=r"--max-cost 1: \$0\.6000 are spent and the next call may cost"):
            await budget.reserve(0.6)
        budget.settle(await budget.reserve(0.4), 0.4, lost=[0.4])
        spending = budget.spending
        assert (spending.requests, spending.lost) == (3, 1)
        assert spending.usd == pytest.approx(1.0)
        assert spending.lost_usd == 0.4

    asyncio.run(run())


def test_requests_are_counted_when_they_go_out() -> None:
    async def run() -> None:
        budget = Budget(None, 2)
        budget.release(await budget.reserve(0))  # never sent
        await budget.reserve(0)
        budget.settle(await budget.reserve(0), 0)
        with pytest.raises(BudgetSpentError, match="--max-requests 2"):
            await budget.reserve(0)

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
def test_many_workers_never_pass_the_limit(seed: int) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        budget = Budget(1.0, None)
        out = highest = 0.0

        async def work() -> None:
            nonlocal out, highest
            while True:
                worst = chance.uniform(0.001, 0.05)
                try:
                    number = await budget.reserve(worst)
                except BudgetSpentError:
                    return
                cost = chance.choice([0, worst, worst / 5])
                out += cost
                highest = max(highest, out)
                await asyncio.sleep(chance.uniform(0, 0.002))
                budget.settle(number, cost)

        await asyncio.wait_for(asyncio.gather(*(work() for _ in range(64))), 20)
        assert highest <= 1.0
        assert budget.spending.usd == pytest.approx(out)
        assert budget.spending.usd > 0.9

    asyncio.run(run())
