"""What became of every dialogue that was asked for: kept, dropped for a reason, or not written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.judge.asker import ATTEMPTS, Outcome
from distill.judge.labelling import Labelling
from distill.judge.records import WRITTEN, Known, host_of
from distill.judge.verdict import ReplyError
from distill.synthesis.near import Near, has_only_words_of, words_in_common
from distill.synthesis.parse import read_written
from distill.synthesis.plan import BETWEEN, regions_of
from distill.synthesis.prompts import SYSTEM, Request
from distill.synthesis.settings import REGIONS, SynthesisSettings
from scorer.dialogue import HEADS, Dialogue, content_hash, conversation_key
from scorer.engines.base import Scores
from scorer.inputs.parse import to_record
from scorer.model import Scorer
from scorer.progress import Progress, Silent
from selection.probing.recognise import kind_of

KEPT, UNASKED = "kept", "not_asked"
INSTRUCTION, ELSEWHERE, NEAR_CORPUS, NEAR_KEPT = "instruction", "elsewhere", "near_corpus", "near_kept"
"""Why a dialogue that was written is not kept: it says what the model was told, its scores lie elsewhere, or it is
nearly one that is there."""

_COPIED_WORDS = 6

_DETAIL = 300


@dataclass(slots=True, eq=False)
class Fate:
    """What became of one request: ``KEPT``, or the reason why nothing of it was kept.

    ``dialogue`` is what was written and ``scores`` (2,) the scorer's, None where it did not come so far; ``region`` is
    where they fall.
    """

    request: Request
    fate: str = UNASKED
    detail: str = ""
    dialogue: Dialogue | None = None
    scores: Scores | None = None
    region: str | None = None

    def drop(self, fate: str, detail: str) -> None:
        """Note why it is not kept."""
        self.fate, self.detail = fate, detail[:_DETAIL]


@dataclass(slots=True)
class Replies:
    """All replies to the requests, whenever they came. ``cost_usd`` is None where some reply has no price."""

    by_status: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0

    @property
    def count(self) -> int:
        """How many there are."""
        return self.by_status.total()


def fates_of(
    requests: Sequence[Request],
    labelling: Labelling,
    outcome: Outcome,
    corpus: Sequence[Dialogue],
    scorer: Scorer,
    settings: SynthesisSettings,
    progress: Progress | None = None,
) -> list[Fate]:
    """Return what became of each request, in their order; the same replies give the same.

    What is written passes one test after the other: whether it repeats its instruction, what its words say it is,
    whether it is near a dialogue of the corpus, where its scores fall, and whether it is near one that is kept.
    """
    progress = progress or Silent()
    known = labelling.store.known([question.key for question in labelling.questions])
    fates = [
        _read(request, known.get(question.key, Known()), outcome.failed.get(question.key))
        for request, question in zip(requests, labelling.questions, strict=True)
    ]
    _drop_by_words(_left(fates), settings)
    _drop_near_corpus(_left(fates), corpus, settings.similar, progress)
    _score(_left(fates), scorer, settings, progress)
    kept = Near(settings.similar)
    for fate in _left(fates):
        assert fate.dialogue is not None
        if (near := kept.nearest(fate.dialogue)) is not None:
            fate.drop(NEAR_KEPT, f"{near[1]:.2f} of its word triples are those of {near[0]}")
        else:
            kept.add(fate.dialogue, fate.dialogue.id)
    return fates


def _left(fates: Sequence[Fate]) -> list[Fate]:
    return [fate for fate in fates if fate.fate == KEPT]


def _read(request: Request, what: Known, failed: tuple[str, str] | None) -> Fate:
    fate = Fate(request)
    if what.status == WRITTEN:
        try:
            turns = read_written(what.raw, False)
        except ReplyError as error:  # an earlier release took it, this one reads more strictly
            fate.drop(error.reason, error.detail)
            return fate
        name = f"synthetic-{content_hash(turns)}"
        fate.dialogue = Dialogue(
            id=name, turns=turns, conversation=conversation_key(turns), category=request.cell.category, synthetic=True
        )
        fate.fate = KEPT
    elif failed is not None or what.failures >= ATTEMPTS:
        fate.drop(*(failed or (what.status, what.detail)))
    return fate


def _drop_by_words(fates: Sequence[Fate], settings: SynthesisSettings) -> None:
    for fate in fates:
        assert fate.dialogue is not None
        kind = kind_of(fate.dialogue)
        if (copied := _copied(fate.dialogue, fate.request.dialogue.context[0].content)) is not None:
            fate.drop(INSTRUCTION, f"it says what its model was told: {copied}")
        elif kind is not None and kind not in settings.allow:
            fate.drop(kind, f"its response: {fate.dialogue.response}")


def _copied(dialogue: Dialogue, request: str) -> str | None:
    """Return what a dialogue has of its instruction: words in a row, or a speaker's name alone or before a colon."""
    roles = request.partition("\n")[0]
    for turn in dialogue.turns:
        if (copied := words_in_common(turn.content, f"{SYSTEM}\n{request}", _COPIED_WORDS)) is not None:
            return copied
        if has_only_words_of(name := turn.content.partition(": ")[0], roles):
            return name
    return None


def _drop_near_corpus(fates: Sequence[Fate], corpus: Sequence[Dialogue], similar: float, progress: Progress) -> None:
    """Drop what is near a dialogue of the corpus; it is the few that are indexed, and the many that are looked up."""
    written = Near(similar)
    names = {}
    for number, fate in enumerate(fates):
        assert fate.dialogue is not None
        names[str(number)] = fate
        written.add(fate.dialogue, str(number))
    progress.stage("comparing", len(corpus))
    for number, dialogue in enumerate(corpus if fates else (), start=1):
        for name, similarity in written.near(dialogue):
            if names[name].fate == KEPT:
                names[name].drop(NEAR_CORPUS, f"{similarity:.2f} of its word triples are those of {dialogue.id}")
        progress.update(number)


def _score(fates: Sequence[Fate], scorer: Scorer, settings: SynthesisSettings, progress: Progress) -> None:
    progress.stage("scoring", len(fates))
    scores = scorer.score([fate.dialogue for fate in fates if fate.dialogue is not None], progress=False)
    regions = regions_of(scores, scorer.bundle.info.cuts, settings.threshold) if fates else []
    for fate, found, region in zip(fates, scores, regions, strict=True):
        fate.scores, fate.region = found, region
        if region != fate.request.cell.region:
            fate.drop(ELSEWHERE, f"its scores {found[0]:.2f} and {found[1]:.2f} fall into {region}")
    progress.update(len(fates))


def replies_of(labelling: Labelling) -> Replies:
    """Return the account of every reply to the requests of a run."""
    found = Replies()
    for _, reply in labelling.store.replies([question.key for question in labelling.questions]):
        found.by_status[reply.status] += 1
        found.prompt_tokens += reply.prompt_tokens or 0
        found.completion_tokens += reply.completion_tokens or 0
        cost = None if found.cost_usd is None or reply.cost_usd is None else found.cost_usd + reply.cost_usd
        found.cost_usd = cost
    return found


def kept_records(fates: Sequence[Fate], labelling: Labelling, scorer: Scorer) -> Iterator[dict[str, Any]]:
    """Yield the records of what is kept, each with where it comes from."""
    asking = labelling.asking
    for fate in _left(fates):
        assert fate.dialogue is not None
        assert fate.scores is not None
        yield {
            **to_record(fate.dialogue, short=True),
            "synthesis": {
                "model": asking.model,
                "host": host_of(asking.base_url),
                "temperature": asking.temperature,
                "prompt": fate.request.prompt,
                "region": fate.request.cell.region,
                "scores": {head: round(float(value), 3) for head, value in zip(HEADS, fate.scores, strict=True)},
                "scorer": scorer.bundle.sha256,
            },
        }


def reject_records(fates: Sequence[Fate]) -> Iterator[dict[str, Any]]:
    """Yield what was asked for and not kept, and why; what was not asked for yet is none."""
    for fate in fates:
        if fate.fate in {KEPT, UNASKED}:
            continue
        cell, dialogue = fate.request.cell, fate.dialogue
        turns = {} if dialogue is None else {"messages": to_record(dialogue)["messages"]}
        where = {"category": cell.category, "region": cell.region, "fell": fate.region}
        yield {"source": "", "line": 0, "reason": fate.fate, "detail": fate.detail, "id": None, **where, **turns}


def by_region(fates: Sequence[Fate], regions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return for each wanted region how many were asked for and kept, why not, and where the others fell."""
    found: dict[str, dict[str, Any]] = {}
    for name in regions:
        mine = [fate for fate in fates if fate.request.cell.region == name]
        ends = Counter(fate.fate for fate in mine)
        fell = Counter(fate.region for fate in mine if fate.fate == ELSEWHERE)
        found[name] = {
            "planned": len(mine),
            "asked": len(mine) - ends[UNASKED],
            "kept": ends[KEPT],
            "not_kept": {why: count for why, count in ends.most_common() if why not in {KEPT, UNASKED}},
            "fell": {place: fell[place] for place in (*REGIONS, BETWEEN) if fell[place]},
        }
    return found
