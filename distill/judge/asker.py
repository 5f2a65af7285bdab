"""What asking one by one and asking in batches share: the parts of a run, and the count of what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from distill.judge.budget import Budget
from distill.judge.prices import Price, Size, size_of
from distill.judge.rate_limit import Pace
from distill.judge.records import SCORED, Known, Question
from distill.judge.rubric import Rubric
from distill.judge.server import Endpoint
from distill.judge.settings import LabelSettings
from distill.judge.store import Store
from scorer.progress import Progress

ATTEMPTS = 5
"""How often a question is asked before it is rejected, over all runs; waiting for a busy server is no attempt."""


@dataclass(slots=True)
class Outcome:
    """What a run came to. ``failed`` are questions that got no answer, by key, as (reason, detail).

    ``stopped`` is the limit or the request that ended the run early, None if every question was settled.
    """

    scored: int = 0
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A question as it is sent: its messages, its tokens, and the most that it may cost, USD."""

    question: Question
    messages: list[dict[str, str]]
    size: Size
    worst_usd: float


class Asker:
    """One run over one endpoint: what it asks with, and what came of it so far."""

    def __init__(
        self,
        endpoint: Endpoint,
        rubric: Rubric,
        store: Store,
        settings: LabelSettings,
        price: Price | None,
        progress: Progress,
    ) -> None:
        """Put the parts together; ``price`` None counts no money."""
        self.endpoint = endpoint
        self.rubric = rubric
        self.store = store
        self.settings = settings
        self.price = price
        self.budget = Budget(settings.max_cost, settings.max_requests)
        self.pace = Pace(settings.rpm, settings.tpm)
        self.outcome = Outcome()
        self._progress = progress
        self._failures: dict[str, int] = {}
        self._answered = 0
        self._said = ""
        self._began = time.monotonic()

    def begin(self, questions: Iterable[Question], known: Mapping[str, Known], total: int, answered: int) -> None:
        """Note what is about to be asked, of ``total`` questions, ``answered`` of which the store answers."""
        self._answered = answered
        self._progress.stage("labelling", total, answered)
        self._failures = {question.key: known.get(question.key, Known()).failures for question in questions}
        self.store.add_questions(questions, self.endpoint.asking, self.rubric.text)

    def call_for(self, question: Question) -> Call:
        """Return a question as it is sent."""
        messages = self.rubric.messages(question.dialogue)
        size = size_of(messages, self.endpoint.asking.max_tokens)
        worst = self.price.of(size.most_prompt, size.most_completion) if self.price else 0.0
        return Call(question, messages, size, worst)

    def failures(self, key: str) -> int:
        """Return how many attempts at a question failed."""
        return self._failures[key]

    def attempted(self, key: str, status: str, detail: str, *, last: bool = False) -> bool:
        """Count an attempt; whether its question is settled: it has a judgement, or this attempt was its last."""
        if status == SCORED:
            self.outcome.scored += 1
        else:
            self._failures[key] += 1
            if self._failures[key] < ATTEMPTS and not last:
                return False
            self.outcome.failed[key] = (status, detail)
        settled, rejected = self.outcome.scored + len(self.outcome.failed), len(self.outcome.failed)
        facts = [f"{settled / max(time.monotonic() - self._began, 1e-9):.1f}/s"]
        facts += [f"${self.budget.spending.usd:.4f} spent"] if self.price else []
        facts += [f"{rejected} rejected"] if rejected else []
        self._progress.update(self._answered + settled, note=", ".join(facts))
        return True

    def say(self, text: str) -> None:
        """Say why nothing seems to happen, once per reason."""
        if text != self._said:
            self._progress.say(f"labelling: {text}")
        self._said = text
