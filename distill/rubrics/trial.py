"""Rubrics x models over the same dialogues: which variants there are, the asking, and what each judged."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from distill.errors import RubricError
from distill.judge.asker import ATTEMPTS, Outcome
from distill.judge.budget import Spending
from distill.judge.labelling import Labelling
from distill.judge.records import LOST, SCORED, Judged, Known
from distill.judge.rubric import Rubric, read_rubric
from distill.judge.store import Store
from distill.labelled import LabelledSet
from distill.panel.label import Panel, Part
from distill.sampling.strategies import choose_rows
from distill.settings import LabelSettings, RubricSettings, SampleSettings
from scorer.arrays import Floats
from scorer.dialogue import HEADS, Dialogue
from scorer.errors import printable
from scorer.progress import Progress


def read_rubrics(names: Sequence[str]) -> dict[str, Rubric]:
    """Return rubrics by what to call them: files, or names that ship; the project's own where none is named.

    RubricError where two would be called alike, or are the same text.
    """
    found: dict[str, Rubric] = {}
    for name in names or ("default",):
        path, rubric = Path(name), read_rubric(Path(name))
        called = printable(path.stem if path.exists() else name)
        if called in found:
            raise RubricError(f"{name}: two rubrics would be called {called}; rename one of the files")
        same = next((other for other, known in found.items() if known.hash == rubric.hash), None)
        if same is not None:
            raise RubricError(f"{name}: is the same rubric as {same}; name each once")
        found[called] = rubric
    return found


def sample_of(labelled: LabelledSet, settings: RubricSettings) -> LabelledSet:
    """Return the dialogues that are judged: all, or a sample by its seed; SampleError if there are fewer."""
    if settings.sample is None:
        return labelled
    how = SampleSettings(strategy=settings.strategy, seed=settings.seed)
    scores = labelled.scores if settings.strategy == "stratified" else None
    return labelled.take(np.array(choose_rows(labelled.dialogues, settings.sample, how, scores=scores)))


def variants_of(
    rubrics: Mapping[str, Rubric], models: Sequence[str], dialogues: Sequence[Dialogue]
) -> list[tuple[str, Part]]:
    """Return each rubric with each model, and the rubric's name; RubricError for a model that is named twice."""
    if len(set(models)) < len(models):
        raise RubricError(f"--model {max(models, key=list(models).count)} is given twice; name each model once")
    return [
        (name, Part(model, dialogues, rubric, printable(f"{name} x {model}")))
        for name, rubric in rubrics.items()
        for model in models
    ]


@dataclass(slots=True, eq=False)
class Account:
    """What became of a variant's questions, and all its replies, whenever they came.

    ``scores`` (N, K, 2) are those of N dialogues and K repeats, NaN where there is none. ``cost_usd`` is None where
    some reply has no price. ``seconds`` are those of all replies but lost ones.
    """

    name: str
    rubric: str
    labelling: Labelling
    scores: Floats
    failed: int = 0
    unasked: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    served: set[str] = field(default_factory=set)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0

    @property
    def judged(self) -> int:
        """How many questions have a judgement."""
        return int((~np.isnan(self.scores[:, :, 0])).sum())

    @property
    def means(self) -> Floats:
        """Each dialogue's mean over its repeats, (N, 2), NaN where it was not judged."""
        known = ~np.isnan(self.scores)
        counts = known.sum(axis=1)
        sums = np.where(known, self.scores, 0.0).sum(axis=1)
        return np.asarray(np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0))


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a run came to: the dialogues with their labels, each variant's account, and what this run spent."""

    labelled: LabelledSet
    accounts: tuple[Account, ...]
    outcome: Outcome
    spending: Spending
    from_store: int

    @property
    def scores(self) -> Floats:
        """Each variant's mean scores, (N, V, 2)."""
        return np.stack([account.means for account in self.accounts], axis=1)


def run_trial(
    labelled: LabelledSet, variants: Sequence[tuple[str, Part]], panel: Panel, progress: Progress | None = None
) -> Trial:
    """Ask all that the store does not know, within the limits of the panel's settings; LabelError as of ``Panel``."""
    saved = sum(labelling.saved[0] for labelling in panel.judges)
    outcome, spending = panel.run(progress)
    accounts = tuple(
        _account(name, part, labelling, outcome) for (name, part), labelling in zip(variants, panel.judges, strict=True)
    )
    return Trial(labelled, accounts, outcome, spending, saved)


def _account(rubric: str, part: Part, labelling: Labelling, outcome: Outcome) -> Account:
    questions, draws = labelling.questions, labelling.settings.draws
    known: dict[str, Known] = defaultdict(Known)
    account = Account(part.name, rubric, labelling, np.full((len(part.dialogues), draws, len(HEADS)), np.nan))
    priced = True
    for key, reply in labelling.store.replies([question.key for question in questions]):
        known[key] = known[key].after(reply)
        account.replies += 1
        account.unusable.update([reply.status] if reply.status != SCORED else [])
        account.served.update([printable(reply.served_model)] if reply.served_model else [])
        account.prompt_tokens += reply.prompt_tokens or 0
        account.completion_tokens += reply.completion_tokens or 0
        account.seconds += reply.seconds if reply.status != LOST else 0.0
        priced &= reply.cost_usd is not None
        account.cost_usd = (account.cost_usd or 0.0) + (reply.cost_usd or 0.0)
    account.cost_usd = account.cost_usd if priced else None
    for number, question in enumerate(questions):
        what = known[question.key]
        if what.judged is not None:
            account.scores[number // draws, number % draws] = _label(what.judged, labelling.settings)
        elif question.key in outcome.failed or what.failures >= ATTEMPTS:
            account.failed += 1
            account.reasons[outcome.failed.get(question.key, (what.status, ""))[0]] += 1
        else:
            account.unasked += 1
    return account


def _label(judged: Judged, settings: LabelSettings) -> tuple[float, float]:
    return judged.label(logprobs=settings.logprobs)


def panel_of(variants: Sequence[tuple[str, Part]], settings: LabelSettings, store: Store) -> Panel:
    """Return the panel of all variants under one budget; LabelError if a price is missing that --budget needs."""
    return Panel([part for _, part in variants], settings, store)
