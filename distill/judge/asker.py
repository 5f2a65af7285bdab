"""What asking one by one and asking in batches share: the parts of a run, and the count of what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from distill.judge.budget import Book, Budget
from distill.judge.prices import Price, Size
from distill.judge.rate_limit import Pace
from distill.judge.records import SCORED, WRITTEN, Known, Question
from distill.judge.rubric import Rubric
from distill.judge.server import Endpoint
from distill.judge.store import Store
from distill.settings import LabelSettings
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


@dataclass(eq=False)
class Asker:
    """One run over one endpoint: what it asks with, and what came of it so far. Without a price no money is counted."""

    endpoint: Endpoint
    rubric: Rubric
    store: Store
    settings: LabelSettings
    price: Price | None
    progress: Progress
    book: Book | None = None
    outcome: Outcome = field(init=False, default_factory=Outcome)
    failures: dict[str, int] = field(init=False, default_factory=dict)  # attempts that failed, by key
    _answered: int = field(init=False, default=0)
    _said: str = field(init=False, default="")
    _began: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Begin with all of the budget."""
        self.budget = Budget(self.settings.max_cost, self.settings.max_requests, self.book)
        self.pace = Pace(self.settings.rpm, self.settings.tpm)
        self.endpoint.say = self.say

    def begin(self, questions: Iterable[Question], known: Mapping[str, Known], total: int, answered: int) -> None:
        """Note what is about to be asked, of ``total`` questions, ``answered`` of which the store answers."""
        self._answered = answered
        self.progress.stage(self.rubric.work, total, answered)
        self.failures = {question.key: known.get(question.key, Known()).failures for question in questions}
        self.store.add_questions(questions, self.endpoint.asking, self.rubric.text)

    def call_for(self, question: Question) -> Call:
        """Return a question as it is sent."""
        messages = self.rubric.messages(question.dialogue)
        size = self.rubric.size(messages, self.endpoint.asking.max_tokens)
        worst = self.price.of(size.most_prompt, size.most_completion) if self.price else 0.0
        return Call(question, messages, size, worst)

    def attempted(self, key: str, status: str, detail: str, *, last: bool = False) -> bool:
        """Count an attempt; whether its question is settled: it has an answer, or this attempt was its last."""
        if status in {SCORED, WRITTEN}:
            self.outcome.scored += 1
        else:
            self.failures[key] += 1
            if self.failures[key] < ATTEMPTS and not last:
                return False
            self.outcome.failed[key] = (status, detail)
        settled, rejected = self.outcome.scored + len(self.outcome.failed), len(self.outcome.failed)
        facts = [f"{settled / max(time.monotonic() - self._began, 1e-9):.1f}/s"]
        facts += [f"${self.budget.spending.usd:.4f} spent"] if self.price else []
        facts += [f"{rejected} rejected"] if rejected else []
        self.progress.update(self._answered + settled, note=", ".join(facts))
        return True

    def say(self, text: str) -> None:
        """Say why nothing seems to happen, once per reason."""
        if text != self._said:
            self.progress.say(f"{self.rubric.work}: {text}")
        self._said = text
