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
from distill.judge.ask import Judge
from distill.judge.ask_batch import BatchJudge
from distill.judge.asker import ATTEMPTS, Outcome
from distill.judge.budget import Book, Spending
from distill.judge.prices import Price, Size, find_price
from distill.judge.records import Asking, Known, Question, label_json, question_key
from distill.judge.rubric import Rubric
from distill.judge.server import Endpoint, clean_url
from distill.judge.store import Store
from distill.settings import LabelSettings
from scorer.dialogue import HEADS, Dialogue
from scorer.inputs.parse import to_record
from scorer.outputs import replacing, writing
from scorer.progress import Progress, Silent


def asking_of(settings: LabelSettings, rubric: Rubric) -> Asking:
    """Return what all questions of a run have in common."""
    return Asking(
        rubric=rubric.hash,
        base_url=clean_url(settings.base_url),
        model=settings.model,
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
    )


class Labelling:
    """What one run is about: its questions, and what the store knew of them when it began."""

    def __init__(self, dialogues: Sequence[Dialogue], rubric: Rubric, settings: LabelSettings, store: Store) -> None:
        """Look the questions up; LabelError if settings and price do not go together."""
        self.settings = settings
        self.rubric = rubric
        self.store = store
        self.asking = asking_of(settings, rubric)
        self.questions = [
            Question(question_key(dialogue, self.asking, draw), dialogue, draw)
            for dialogue in dialogues
            for draw in range(settings.draws)
        ]
        self.known = store.known([question.key for question in self.questions])
        # The same content twice is one question.
        self.to_ask = list({question.key: question for question in self.questions if self._is_open(question)}.values())
        self._sizes = [rubric.size(rubric.messages(question.dialogue), settings.max_tokens) for question in self.to_ask]
        self.price = self._price()

    def _is_open(self, question: Question) -> bool:
        known = self.known.get(question.key, Known())
        return not known.answered and (self.settings.retry_rejects or known.failures < ATTEMPTS)

    def _price(self) -> Price | None:
        settings = self.settings
        longest = max((size.most_prompt for size in self._sizes), default=1)
        price = find_price(settings.model, self.asking.base_url, settings.price_in, settings.price_out, longest)
        if settings.max_cost is not None and price is None:
            raise LabelError(
                f"--max-cost needs the price of {settings.model}, which genai-prices does not know for this server: "
                "give --price-in and --price-out (USD per million tokens)"
            )
        return price.halved() if price and settings.batch else price

    @property
    def saved(self) -> tuple[int, float]:
        """How many answers the store had, and what they cost when they were asked."""
        judged = [known for known in self.known.values() if known.answered]
        return len(judged), sum(known.cost_usd or 0.0 for known in judged)

    @property
    def size(self) -> Size:
        """Tokens of everything that is to be asked, at one attempt per question."""
        return Size(*map(sum, zip(*self._sizes, strict=True))) if self._sizes else Size(0, 0, 0, 0)

    @property
    def worst_usd(self) -> float:
        """The most that a call may cost."""
        sizes = [(size.most_prompt, size.most_completion) for size in self._sizes]
        return max((self.price.of(*size) for size in sizes), default=0.0) if self.price else 0.0

    def run(self, progress: Progress | None = None, book: Book | None = None) -> tuple[Outcome, Spending]:
        """Ask everything that is missing, and return what it came to; ``book`` is told before money is spent.

        Ctrl-C and SIGTERM end the asking when the calls in flight have ended, since they are paid; then they do what
        they would have done without it: what was answered is in the store.
        """
        wanted = {question.key for question in self.to_ask}
        under_way = [batch for batch in self.store.open_batches(self.asking.base_url) if wanted & set(batch.sizes)]
        if under_way and not self.settings.batch:
            raise LabelError(
                f"{len(under_way)} batches with some of these questions are on their way and paid for; collect them "
                "with --batch"
            )
        judge, signals = asyncio.run(self._run(progress or Silent(), book))
        if signals:
            signal.raise_signal(signals[0])
        return judge.outcome, judge.budget.spending

    async def _run(self, progress: Progress, book: Book | None) -> tuple[Judge | BatchJudge, list[int]]:
        settings = self.settings
        kind = BatchJudge if settings.batch else Judge
        endpoint = Endpoint(
            self.asking, settings.key_name, settings.timeout, logprobs=settings.logprobs, schema=self.rubric.schema
        )
        async with endpoint.client:
            judge = kind(endpoint, self.rubric, self.store, settings, self.price, progress, book)
            known = {} if settings.retry_rejects else self.known
            judge.begin(self.to_ask, known, len({question.key for question in self.questions}), self.saved[0])
            with _stopped_by_signals(judge) as signals:
                await judge.ask_all(self.to_ask)
        return judge, signals


@contextmanager
def _stopped_by_signals(judge: Judge | BatchJudge) -> Iterator[list[int]]:
    """Let signals end the asking, and give those that came: the first waits for calls in flight, the second does not.

    Without this the event loop would end in the middle of a call whose answer is paid.
    """
    loop = asyncio.get_running_loop()
    came: list[int] = []

    def stop(number: int) -> None:
        if came:
            judge.drop()
        came.append(number)
        judge.stop(signal.Signals(number).name)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: now for number, now in before.items() if now not in (None, signal.SIG_IGN)}  # ignored: not meant
    if threading.current_thread() is not threading.main_thread():  # signals come to no other
        before = {}
    try:
        for number in before:
            loop.add_signal_handler(number, stop, number)
    except NotImplementedError:  # Windows: there Ctrl-C is a KeyboardInterrupt, which the command answers
        before = {}
    try:
        yield came
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


@dataclass(slots=True)
class Tally:
    """The labels of one judge: how many, the sums of their scores by head, how many are expectations."""

    labelled: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(HEADS))
    expected: int = 0

    @property
    def means(self) -> list[float]:
        """The mean of the scores, by head."""
        return [total / self.labelled for total in self.sums]


@dataclass(slots=True)
class Written:
    """What the output holds: of each judge by its model, and of each reject its reason and what judge or server said.

    ``unasked`` are judgements not asked for yet.
    """

    judges: dict[str, Tally] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    unasked: int = 0

    @property
    def labelled(self) -> int:
        """How many judgements were written."""
        return sum(tally.labelled for tally in self.judges.values())


def write_labels(
    judges: Sequence[Labelling], outcome: Outcome, rejects: Sequence[Mapping[str, Any]], output: Path
) -> Written:
    """Write one line per judgement, and to OUT.rejects.jsonl what has none and why; whole or not at all.

    The judges have judged the same dialogues, and all lines of a dialogue stand together.
    """
    written = Written(rejected=Counter(str(reject["reason"]) for reject in rejects))
    known: dict[str, Known] = {}
    for labelling in judges:
        written.judges[labelling.asking.model] = Tally()
        known |= labelling.store.known([question.key for question in labelling.questions])
    lines, bad = [], [*rejects]
    for labelling, question in _by_dialogue(judges):
        what = known.get(question.key, Known())
        if what.judged is not None:
            record = to_record(question.dialogue, short=True)
            logprobs = labelling.settings.logprobs
            label = label_json(record, labelling.asking, question.draw, what.judged, what.cost_usd, logprobs=logprobs)
            lines.append(json.dumps(label, ensure_ascii=False) + "\n")
            tally, scores = written.judges[labelling.asking.model], what.judged.label(logprobs=logprobs)
            tally.labelled += 1
            tally.sums = [a + b for a, b in zip(tally.sums, scores, strict=True)]
            tally.expected += logprobs and what.judged.means is not None
        elif question.key in outcome.failed or what.failures >= ATTEMPTS:
            reason, detail = outcome.failed.get(question.key, (what.status, what.detail))
            model = {"model": labelling.asking.model} if len(judges) > 1 else {}
            bad.append(_reject(question, reason, detail, what.raw) | model)
            written.rejected[reason] += 1
            written.words[" ".join(detail.split())] += 1
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


def _by_dialogue(judges: Sequence[Labelling]) -> Iterator[tuple[Labelling, Question]]:
    draws = judges[0].settings.draws
    for start in range(0, len(judges[0].questions), draws):
        for labelling in judges:
            for question in labelling.questions[start : start + draws]:
                yield labelling, question


def _reject(question: Question, reason: str, detail: str, reply: str) -> dict[str, Any]:
    dialogue = question.dialogue
    what = {"source": dialogue.source, "line": dialogue.line, "reason": reason, "detail": detail}
    return {**what, "id": dialogue.id, "draw": question.draw, "reply": reply}
