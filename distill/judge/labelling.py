"""From dialogues to labels: what is to be asked, what that will cost, the asking, and the lines that come of it."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import LabelError
from distill.judge.ask import ATTEMPTS, Judge, Outcome, Watcher
from distill.judge.ask_batch import BatchJudge
from distill.judge.budget import Budget, Spending
from distill.judge.prices import Price, find_price, size_of
from distill.judge.rate_limit import Limits
from distill.judge.records import Asking, Known, Question, dialogue_json, label_json, question_key
from distill.judge.rubric import Rubric
from distill.judge.server import DEFAULT_KEY, Endpoint, clean_url
from distill.judge.store import Store
from scorer.dialogue import HEADS, Dialogue
from scorer.outputs import replacing, writing

INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """How a judge is asked. Money is USD; prices are for a million tokens; ``timeout`` are seconds a call."""

    model: str
    base_url: str | None = None
    key_name: str = DEFAULT_KEY
    temperature: float = 0.0
    max_tokens: int = 128
    draws: int = 1
    concurrency: int = 16
    timeout: float = 60.0
    rpm: int | None = None
    tpm: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    max_cost: float | None = None
    max_requests: int | None = None
    retry_rejects: bool = False
    batch: bool = False
    poll_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        if not self.model.strip():
            raise LabelError("--model is empty, expected the name under which the server knows the judge")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is in no range
                raise LabelError(f"--{name.replace('_', '-')} is {value}, expected {low:g} to {high:g}")

    def asking(self, rubric: Rubric) -> Asking:
        """Return what all questions have in common."""
        return Asking(
            rubric=rubric.hash,
            base_url=clean_url(self.base_url),
            model=self.model,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )


_RANGES = (
    ("temperature", 0, 2),
    ("max_tokens", 8, 100_000),
    ("draws", 1, 100),
    ("concurrency", 1, 1000),
    ("timeout", 0.1, 3600),
    ("rpm", 1, 10**9),
    ("tpm", 1, 10**12),
    ("price_in", 0, 10**6),
    ("price_out", 0, 10**6),
    ("max_cost", 0, 10**9),
    ("max_requests", 0, 10**12),
    ("poll_seconds", 0.01, 3600),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is still to be asked. ``usd`` is the expected price, ``most_usd`` the bound of one attempt each."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    most_usd: float | None


class Labelling:
    """What one run is about: its questions, and what the store knew of them when it began."""

    def __init__(self, dialogues: Sequence[Dialogue], rubric: Rubric, settings: LabelSettings, store: Store) -> None:
        """Look the questions up; LabelError if settings and price do not go together."""
        self.settings = settings
        self.rubric = rubric
        self.asking = settings.asking(rubric)
        price = find_price(settings.model, self.asking.base_url, settings.price_in, settings.price_out)
        self.price: Price | None = price.halved() if price and settings.batch else price
        if settings.max_cost is not None and self.price is None:
            raise LabelError(
                f"--max-cost needs the price of {settings.model}, which is not in this release's table: give "
                "--price-in and --price-out (USD a million tokens)"
            )
        self.questions = [
            Question(question_key(dialogue, self.asking, draw), dialogue, draw)
            for dialogue in dialogues
            for draw in range(settings.draws)
        ]
        self.store = store
        self.known = store.known([question.key for question in self.questions])
        attempts = 10**9 if settings.retry_rejects else ATTEMPTS
        open_keys = {
            question.key: question
            for question in self.questions
            if (known := self.known.get(question.key, Known())).scores is None and known.failures < attempts
        }
        self.to_ask = list(open_keys.values())  # the same content twice is one question

    @property
    def saved(self) -> tuple[int, float]:
        """How many judgements the store had, and what they cost when they were asked."""
        found = {question.key: self.known.get(question.key, Known()) for question in self.questions}
        judged = [known for known in found.values() if known.scores is not None]
        return len(judged), sum(known.cost_usd or 0.0 for known in judged)

    def estimate(self) -> Estimate:
        """Return what is to be asked and what it will cost."""
        sizes = [size_of(self.rubric.messages(question.dialogue), self.asking.max_tokens) for question in self.to_ask]
        prompt, completion = sum(size.prompt for size in sizes), sum(size.completion for size in sizes)
        most = (sum(size.most_prompt for size in sizes), sum(size.most_completion for size in sizes))
        return Estimate(
            calls=len(sizes),
            prompt_tokens=prompt,
            completion_tokens=completion,
            usd=self.price.of(prompt, completion) if self.price else None,
            most_usd=self.price.of(*most) if self.price else None,
        )

    def run(self, watcher: Watcher) -> tuple[Outcome, Spending]:
        """Ask everything that is missing, and return what it came to."""
        wanted = {question.key for question in self.to_ask}
        under_way = [batch for batch in self.store.open_batches(self.asking.base_url) if wanted & set(batch.sizes)]
        if under_way and not self.settings.batch:
            raise LabelError(
                f"{len(under_way)} batches with some of these questions are on their way and paid for; collect them "
                "with --batch"
            )
        return asyncio.run(self._run(watcher))

    async def _run(self, watcher: Watcher) -> tuple[Outcome, Spending]:
        settings = self.settings
        known = {} if settings.retry_rejects else self.known
        watcher.begin(len({question.key for question in self.questions}), self.saved[0])
        async with Endpoint(self.asking, settings.key_name, settings.timeout) as endpoint:
            judge = self._batch_judge(endpoint, watcher) if settings.batch else self._judge(endpoint, watcher)
            with _interruptible(judge):
                outcome = await judge.ask_all(self.to_ask, known)
        return outcome, judge.spending

    def _judge(self, endpoint: Endpoint, watcher: Watcher) -> Judge:
        settings = self.settings
        return Judge(
            endpoint,
            self.rubric,
            self.store,
            Budget(settings.max_cost, settings.max_requests),
            Limits(settings.rpm, settings.tpm),
            price=self.price,
            concurrency=settings.concurrency,
            watcher=watcher,
        )

    def _batch_judge(self, endpoint: Endpoint, watcher: Watcher) -> BatchJudge:
        settings = self.settings
        return BatchJudge(
            endpoint,
            self.rubric,
            self.store,
            price=self.price,
            max_usd=settings.max_cost,
            max_requests=settings.max_requests,
            poll_seconds=settings.poll_seconds,
            watcher=watcher,
        )


@contextmanager
def _interruptible(judge: Judge | BatchJudge) -> Iterator[None]:
    """Let Ctrl-C end the asking: the first one waits for calls in flight, since they are paid; the second does not."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if judge.stopping:
            judge.drop()
        judge.stop(INTERRUPTED)

    elsewhere = threading.current_thread() is not threading.main_thread()  # signals come to the main one alone
    if elsewhere or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a job in the background is not meant
        yield
        return
    try:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    except NotImplementedError:  # Windows: there Ctrl-C is a KeyboardInterrupt, which the command answers
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@dataclass(slots=True)
class Written:
    """What the output holds. ``sums`` are of the scores, by head; ``unasked`` are judgements not asked for yet."""

    labelled: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(HEADS))
    rejected: Counter[str] = field(default_factory=Counter)
    unasked: int = 0


def write_labels(labelling: Labelling, outcome: Outcome, rejects: Sequence[Mapping[str, Any]], output: Path) -> Written:
    """Write a line a judgement, and to OUT.rejects.jsonl what has none and why; whole or not at all."""
    known = labelling.store.known([question.key for question in labelling.questions])
    written = Written()
    bad = [*rejects]
    written.rejected.update(str(reject["reason"]) for reject in rejects)
    lines = []
    for question in labelling.questions:
        what = known.get(question.key, Known())
        if what.scores is not None:
            record = dialogue_json(question.dialogue)
            label = label_json(record, labelling.asking, question.draw, what.scores, what.cost_usd)
            lines.append(json.dumps(label, ensure_ascii=False) + "\n")
            written.labelled += 1
            written.sums = [a + b for a, b in zip(written.sums, what.scores, strict=True)]
        elif question.key in outcome.failed or what.failures >= ATTEMPTS:
            reason, detail = outcome.failed.get(question.key, (what.status, what.detail))
            bad.append(_reject(question, reason, detail, what.raw))
            written.rejected[reason] += 1
        else:
            written.unasked += 1
    rejects_path = output.with_name(f"{output.name}.rejects.jsonl")
    with writing(output):
        if lines:
            with replacing(output) as file:
                file.writelines(lines)
        if bad:
            with replacing(rejects_path) as file:
                file.writelines(json.dumps(reject) + "\n" for reject in bad)
        else:
            rejects_path.unlink(missing_ok=True)
    return written


def _reject(question: Question, reason: str, detail: str, raw: str) -> dict[str, Any]:
    dialogue = question.dialogue
    return {
        "source": dialogue.source,
        "line": dialogue.line,
        "reason": reason,
        "detail": detail,
        "id": dialogue.id,
        "draw": question.draw,
        "reply": raw,
    }
