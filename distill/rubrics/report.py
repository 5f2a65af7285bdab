"""A trial of rubrics -> everything that is said of it: the record, and its lines in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from distill.agreement.compare import judge_name
from distill.judge.budget import Spending
from distill.judge.records import host_of
from distill.rubrics.changed import Reasons, changed_dialogues, most_changed
from distill.rubrics.measure import Measures, repeat_deviation, rounded_by_head
from distill.rubrics.trial import Account, Trial
from distill.settings import RubricSettings
from scorer.arrays import Floats
from scorer.cli.table import table_lines
from scorer.dialogue import HEADS, content_hash
from scorer.errors import printable
from selection.report.text import public_path
from selection.rubrics.run import FIGURES, Between, Figure, JudgedRow, RubricRun, RubricText, Spent, TriedVariant

_COLUMNS = ("r S", "r R", "MAE S", "MAE R", "kappa")


def shown_columns(trial: Trial) -> Floats:
    """Return the scores of all variants and, last, the labels, (N, V + 1, 2)."""
    labels = np.asarray(trial.labelled.scores, dtype=float)
    return np.concatenate([trial.scores, labels[:, None]], axis=1)


def compared_columns(trial: Trial) -> Floats:
    """Return the columns that are searched for differences: the variants', or one variant's and the labels'."""
    return trial.scores if len(trial.accounts) > 1 else shown_columns(trial)


def describe(
    trial: Trial,
    settings: RubricSettings,
    inputs: Sequence[str],
    available: int,
    *,
    reasons: Reasons,
    spent_on_reasons: Spending,
    notes: Sequence[str] = (),
) -> RubricRun:
    """Return everything that a trial came to; ``available`` is how many dialogues LABELS had."""
    labelled, accounts = trial.labelled, trial.accounts
    labels = np.asarray(labelled.scores, dtype=float)
    measures = Measures(labelled.conversations, settings.threshold, settings.bootstrap)
    ids = [dialogue.id for dialogue in labelled.dialogues]
    extremes = most_changed(compared_columns(trial), settings.show, ids)
    scores = trial.scores
    return RubricRun(
        rubric_test=1,
        created=datetime.now(UTC).date().isoformat(),
        version=version("empathy-scorer"),
        labels=tuple(printable(public_path(name)) for name in inputs),
        label_judges=printable(judge_name(labelled)),
        available=available,
        strategy="all" if settings.sample is None else settings.strategy,
        seed=settings.seed,
        repeats=settings.repeats,
        threshold=settings.threshold,
        stopped=trial.outcome.stopped,
        spent=_spent(trial, spent_on_reasons),
        rubrics={
            account.rubric: RubricText(hash=account.labelling.rubric.hash, text=account.labelling.rubric.text)
            for account in accounts
        },
        variants=tuple(
            _variant(account, labels, accounts[0].means if number else None, measures)
            for number, account in enumerate(accounts)
        ),
        between=measures.between([account.name for account in accounts], scores),
        changed=changed_dialogues(trial, extremes, reasons, shown_columns(trial), settings.threshold),
        notes=(*notes, *_notes(trial, settings)),
        dialogues=tuple(
            JudgedRow(
                id=dialogue.id,
                content=content_hash(dialogue.turns),
                label=_scores(labels[row]),
                scores=tuple(None if np.isnan(values[0]) else _scores(values) for values in scores[row]),
            )
            for row, dialogue in enumerate(labelled.dialogues)
        ),
    )


def _scores(values: Floats) -> tuple[float, float]:
    sensibility, rationality = (round(float(value), 4) for value in values)
    return sensibility, rationality


def _variant(account: Account, labels: Floats, first: Floats | None, measures: Measures) -> TriedVariant:
    asking, means = account.labelling.asking, account.means
    judged = means[~np.isnan(means[:, 0])]
    answered = account.replies - account.unusable["lost"]
    return TriedVariant(
        name=account.name,
        rubric=account.rubric,
        model=printable(asking.model),
        host=printable(host_of(asking.base_url)),
        served=tuple(sorted(account.served)),
        temperature=asking.temperature,
        max_tokens=asking.max_tokens,
        questions=len(account.labelling.questions),
        judged=account.judged,
        failed=account.failed,
        unasked=account.unasked,
        reasons=dict(account.reasons.most_common()),
        dialogues=len(judged),
        replies=account.replies,
        unusable=dict(account.unusable.most_common()),
        prompt_tokens=account.prompt_tokens,
        completion_tokens=account.completion_tokens,
        cost_usd=account.cost_usd,
        seconds=round(account.seconds / answered, 4) if answered > 0 else None,
        mean=rounded_by_head(judged.mean(axis=0)) if len(judged) else {},
        deviation=rounded_by_head(judged.std(axis=0)) if len(judged) else {},
        repeat=repeat_deviation(account.scores),
        agreement=measures.agreement(labels, means),
        difference={} if first is None else measures.difference(labels, first, means),
    )


def _spent(trial: Trial, more: Spending) -> Spent:
    priced = all(account.labelling.price is not None for account in trial.accounts)
    spent = trial.spending
    return Spent(
        requests=spent.requests + more.requests,
        usd=spent.usd + more.usd if priced else None,
        lost=spent.lost + more.lost,
        lost_usd=spent.lost_usd + more.lost_usd if priced else None,
        from_store=trial.from_store,
    )


def _notes(trial: Trial, settings: RubricSettings) -> Iterator[str]:
    if settings.sample is not None and settings.strategy == "stratified":
        yield (
            "the sample is spread over the scores, rare ones too, so r is higher than over the corpus: compare "
            "variants by it, and say --strategy random for the corpus's own"
        )
    if settings.repeats > 1 and all(account.labelling.asking.temperature == 0 for account in trial.accounts):
        yield "the repeats were asked at temperature 0, which understates a judge's noise; say --temperature 0.7"
    if len({tuple(np.isnan(account.means[:, 0])) for account in trial.accounts}) > 1:
        yield "not every variant judged all dialogues; each pair is compared on those that both judged"


def run_lines(run: RubricRun) -> Iterator[str]:
    """Yield the lines of a run for the terminal."""
    yield (
        f"{len(run.variants)} variants on {len(run.dialogues):,} of {run.available:,} dialogues of "
        f"{', '.join(run.labels)} (labels of {run.label_judges}), threshold {run.threshold}"
    )
    yield ""
    yield "agreement with the labels (S sensibility, R rationality, kappa of the paper's three sets)"
    rows = [[one.name, str(one.dialogues), *_cells(one.agreement)] for one in run.variants]
    yield from table_lines([["", "dialogues", *_COLUMNS], *rows])
    differences = [
        [f"{one.name} less {run.variants[0].name}", *_cells(one.difference, "+")] for one in run.variants[1:]
    ]
    if differences:
        yield ""
        yield from table_lines([["difference", *_COLUMNS], *differences])
    if run.between:
        yield ""
        yield from table_lines(
            [
                ["between variants", "dialogues", *_COLUMNS, "shift S", "shift R", "sets changed"],
                *map(_pair, run.between),
            ]
        )
    yield ""
    titles = ["scores and cost", "mean S", "mean R", "SD S", "SD R", "of repeats S", "R", "failed", "unusable replies"]
    yield from table_lines([[*titles, "tokens in", "out", "cost"], *map(_costs, run.variants)])
    if any(figure.low is not None for one in run.variants for figure in one.agreement.values()):
        yield from ("", "[low, high]: 95 % intervals, bootstrap over conversations; differences are paired")
    for note in run.notes:
        yield f"note: {note}"


def _cells(figures: dict[str, Figure], sign: str = "") -> list[str]:
    cells = []
    for key in FIGURES:
        found = figures.get(key, Figure(value=None))
        ends = "" if found.low is None else f" [{found.low:{sign}.2f}, {found.high:{sign}.2f}]"
        cells.append("-" if found.value is None else f"{found.value:{sign}.3f}{ends}")
    return cells


def _pair(one: Between) -> list[str]:
    shifts = [f"{one.shift[head]:+.2f}" if one.shift else "-" for head in HEADS]
    changed = "-" if one.changed is None else f"{one.changed:.1%}"
    return [f"{one.first} with {one.second}", str(one.dialogues), *_cells(one.agreement), *shifts, changed]


def _costs(one: TriedVariant) -> list[str]:
    numbers = [f"{part[head]:.2f}" if part else "-" for part in (one.mean, one.deviation, one.repeat) for head in HEADS]
    unusable = sum(one.unusable.values())
    return [
        one.name,
        *numbers,
        f"{one.failed} of {one.judged + one.failed}",
        f"{unusable} of {one.replies}",
        f"{one.prompt_tokens:,}",
        f"{one.completion_tokens:,}",
        "-" if one.cost_usd is None else f"${one.cost_usd:.4f}",
    ]
