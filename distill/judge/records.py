"""What a judge is asked and what comes back: the records that the store keeps, and the lines that labels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta

from scorer.apart import first_record
from scorer.dialogue import HEADS, Dialogue, content_hash
from scorer.text import digest
from scorer.values import Amount, Count, Rating

_Said = Annotated[int, Meta(ge=0, le=10)]

OPENAI_URL = "https://api.openai.com/v1"

SCORED = "scored"
"""The status of a reply with a judgement; any other is the reason why it has none."""

WRITTEN = "written"
"""The status of a reply that is a text as it was asked for, and no judgement; ``raw`` holds the text."""

LOST = "lost"
"""The status of a call whose answer never came whole: it may have been billed, so its worst case is booked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What all questions of a run have in common. ``base_url`` ends without a slash."""

    rubric: str
    base_url: str
    model: str
    temperature: Amount
    max_tokens: Count


@dataclass(frozen=True, slots=True)
class Question:
    """One judgement that is wanted: a dialogue, and which of its draws."""

    key: str
    dialogue: Dialogue
    draw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer that came, or may have come, and what it cost.

    ``status`` is ``SCORED``, ``WRITTEN``, ``LOST`` or the reason why the reply is unusable; prices are USD per million
    tokens, ``cost_usd`` is None where no price is known. Beside the scores that it says, a reply with log-probabilities
    has their expectations (``..._mean``) and standard deviations (``..._spread``).
    """

    status: str
    detail: str = ""
    sensibility: _Said | None = None
    rationality: _Said | None = None
    sensibility_mean: Rating | None = None
    rationality_mean: Rating | None = None
    sensibility_spread: Rating | None = None
    rationality_spread: Rating | None = None
    raw: str = ""
    served_model: str | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    price_in: Amount | None = None
    price_out: Amount | None = None
    cost_usd: Amount | None = None
    seconds: Amount = 0.0

    @property
    def counted(self) -> bool:
        """Whether the server counted the tokens of question and answer."""
        return bool(self.prompt_tokens and self.completion_tokens)


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement: the numbers ``said`` and, where log-probabilities came, what they expect and how widely."""

    said: tuple[int, int]
    means: tuple[float, float] | None = None
    spreads: tuple[float, float] | None = None

    @classmethod
    def of(cls, reply: Reply) -> Judged | None:
        """Return the judgement in a reply, None if it has none."""
        if reply.sensibility is None or reply.rationality is None:
            return None
        means, spreads = (
            (reply.sensibility_mean, reply.rationality_mean),
            (reply.sensibility_spread, reply.rationality_spread),
        )
        said = (reply.sensibility, reply.rationality)
        if means[0] is None or means[1] is None or spreads[0] is None or spreads[1] is None:
            return cls(said)
        return cls(said, (means[0], means[1]), (spreads[0], spreads[1]))

    def label(self, *, logprobs: bool = True) -> tuple[float, float]:
        """Return the scores of the label: the expectations if they are known and wanted, else what was said."""
        return self.means if logprobs and self.means is not None else self.said


@dataclass(frozen=True, slots=True)
class Known:
    """What a store knows of a question: its judgement or text if it has one, else how often it failed and how last.

    ``cost_usd`` is what all its replies cost together, None where that is not known.
    """

    judged: Judged | None = None
    failures: int = 0
    cost_usd: float | None = 0.0
    status: str = ""
    detail: str = ""
    raw: str = ""

    @property
    def scores(self) -> tuple[int, int] | None:
        """The numbers said, None without a judgement."""
        return self.judged.said if self.judged else None

    @property
    def answered(self) -> bool:
        """Whether it has a judgement, or the text that was asked for."""
        return self.judged is not None or self.status == WRITTEN

    def after(self, reply: Reply) -> Known:
        """Return what is known once another reply has come; a first judgement or text stays."""
        costs = (self.cost_usd, reply.cost_usd)
        spent = None if None in costs else sum(cost for cost in costs if cost is not None)
        if self.answered or reply.status == LOST:  # a lost call says nothing of the dialogue: no attempt
            return replace(self, cost_usd=spent)
        last = (reply.status, reply.detail, reply.raw)
        if (judged := Judged.of(reply)) is not None:
            return Known(judged, self.failures, spent, *last)
        if reply.status == WRITTEN:
            return Known(None, self.failures, spent, *last)
        return Known(None, self.failures + 1, spent, *last)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBatch:
    """A batch that is on its way: its own name, the server's id once it is known, and what it may come to.

    ``sizes`` holds the most tokens of each question, prompt and answer, by key; ``prices`` are USD per million tokens.
    """

    name: str
    sizes: Mapping[str, tuple[Count, Count]]
    worst_usd: Amount
    prices: tuple[Amount, Amount] | None
    batch_id: str | None = None


def question_key(dialogue: Dialogue, asking: Asking, draw: int) -> str:
    """Return the key of a question: a hash of all that shapes its answer, and of nothing else."""
    shape = (asking.rubric, asking.base_url, asking.model, repr(asking.temperature), str(asking.max_tokens))
    return digest((content_hash(dialogue.turns), *shape, str(draw)))


def host_of(base_url: str) -> str:
    """Return the host of a base URL, with its port where it has one."""
    return urlsplit(base_url).netloc


def label_json(
    dialogue: Mapping[str, Any],
    asking: Asking,
    draw: int,
    judged: Judged,
    cost_usd: float | None,
    *,
    logprobs: bool = True,
) -> dict[str, Any]:
    """Return a labelled record: the dialogue, its scores, and who judged it, by model and host.

    With ``logprobs`` the scores are the expectations where they are known; then "said" holds the numbers that the judge
    said, and "spread" the standard deviations.
    """
    judge: dict[str, Any] = {
        "model": asking.model,
        **({} if asking.base_url == OPENAI_URL else {"base_url": host_of(asking.base_url)}),
        "rubric": asking.rubric,
        "temperature": asking.temperature,
        "draw": draw,
        "cost_usd": cost_usd,
    }
    if logprobs and judged.spreads is not None:
        judge |= {"said": by_head(judged.said), "spread": by_head(judged.spreads)}
    return {**dialogue, **by_head(judged.label(logprobs=logprobs)), "judge": judge}


def is_label_file(path: Path) -> bool:
    """Whether a file is one of labels that a judge gave here."""
    judge = first_record(path).get("judge")
    return isinstance(judge, dict) and "rubric" in judge


def by_head(values: Sequence[float]) -> dict[str, float]:
    """Return a value per head, by its name."""
    return dict(zip(HEADS, values, strict=True))
