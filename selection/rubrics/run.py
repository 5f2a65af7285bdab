"""What a test of rubrics found, as `empathy rubric test --json` writes it and `empathy check` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from scorer.outputs import read_json
from scorer.values import Amount, Count, Line, Portion, Rating
from selection.errors import GoldenError

KEY = "rubric_test"
"""The first key of such a file, by which it is known."""

FIGURES = {
    "sensibility.pearson": "r of sensibility",
    "rationality.pearson": "r of rationality",
    "sensibility.mae": "MAE of sensibility",
    "rationality.mae": "MAE of rationality",
    "paper.kappa": "kappa of the paper's rule",
}
"""The figures of agreement, by their names in ``metrics.all_figures``; of the MAE less is better."""

_AGAIN = "make it again with `empathy rubric test --json`"
_Number = Annotated[float, Meta(ge=-1e6, le=1e6)]
_ByHead = dict[Line, Rating]
_Scores = tuple[Rating, Rating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure and its 95 % interval; None where it is not defined."""

    value: _Number | None
    low: _Number | None = None
    high: _Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricText:
    """A rubric that was tried."""

    hash: Line
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedVariant:
    """A rubric and a model: what was asked, what came of it and what it cost when it was asked.

    ``served`` are the models that the server says answered. Each of ``questions`` was judged, failed for one of
    ``reasons``, or is ``unasked``. Of all ``replies`` some were ``unusable``, by reason, each asked again. ``repeat``
    is the standard deviation of a dialogue's repeats. ``agreement`` is with the labels, ``difference`` that agreement
    less the first variant's on the dialogues that both judged.
    """

    name: Line
    rubric: Line
    model: Line
    host: Line
    served: tuple[Line, ...]
    temperature: Amount
    max_tokens: Count
    questions: Count
    judged: Count
    failed: Count
    unasked: Count
    reasons: dict[Line, Count]
    dialogues: Count
    replies: Count
    unusable: dict[Line, Count]
    prompt_tokens: Count
    completion_tokens: Count
    cost_usd: Amount | None
    seconds: Amount | None
    mean: _ByHead
    deviation: _ByHead
    repeat: _ByHead
    agreement: dict[Line, Figure]
    difference: dict[Line, Figure]

    @property
    def failures(self) -> float:
        """The share of questions without a judgement among those that were settled."""
        return self.failed / max(1, self.judged + self.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Two variants on the dialogues that both judged; ``shift`` is the second's mean score less the first's.

    ``changed`` is the share of dialogues in another set of the paper's rule.
    """

    first: Line
    second: Line
    dialogues: Count
    agreement: dict[Line, Figure]
    shift: dict[Line, _Number]
    changed: Portion | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRow:
    """A dialogue: its labels, and each variant's mean scores, None where it has none."""

    id: str
    content: Line
    label: _Scores
    scores: tuple[_Scores | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTurn:
    """A turn of a dialogue that is shown; ``cut`` characters of it are not."""

    role: str
    content: str
    cut: Count = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What a variant, or the labels, made of a dialogue.

    ``reason`` is what the judge said when it was asked once more, with a reason; its ``said`` may differ.
    """

    name: Line
    scores: _Scores
    set: Line
    reason: str | None = None
    said: _Scores | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedDialogue:
    """One of the dialogues on which two opinions, the ``first`` and the ``second``, differ most."""

    id: str
    distance: Amount
    turns: tuple[ShownTurn, ...]
    turns_left_out: Count
    first: Opinion
    second: Opinion
    others: tuple[Opinion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What this run itself sent and paid; what the store had cost nothing."""

    requests: Count
    usd: Amount | None
    lost: Count
    lost_usd: Amount | None
    from_store: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricRun:
    """All that a test of rubrics found."""

    rubric_test: Literal[1]
    created: Line
    version: Line
    labels: tuple[Line, ...]
    label_judges: Line
    available: Count
    strategy: Line
    seed: int
    repeats: Count
    threshold: Annotated[int, Meta(ge=1, le=9)]
    stopped: str | None
    spent: Spent
    rubrics: dict[Line, RubricText]
    variants: tuple[TriedVariant, ...]
    between: tuple[Between, ...]
    changed: tuple[ChangedDialogue, ...]
    notes: tuple[str, ...]
    dialogues: tuple[JudgedRow, ...]

    def by_name(self) -> dict[str, TriedVariant]:
        """Return the variants by name."""
        return {variant.name: variant for variant in self.variants}


def is_rubric_run(path: Path) -> bool:
    """Whether a file is what `empathy rubric test --json` wrote."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return f'"{KEY}"'.encode() in file.read(100)


def read_run(path: Path) -> RubricRun:
    """Return what a test of rubrics found; GoldenError for a file that is none."""
    try:
        found = read_json(path, RubricRun, _AGAIN, GoldenError)
    except FileNotFoundError:
        raise GoldenError(f"{path}: no such file; {_AGAIN}") from None
    if any(len(row.scores) != len(found.variants) for row in found.dialogues) or not found.variants:
        raise GoldenError(f"{path}: is damaged (a dialogue's scores are not one per variant); {_AGAIN}")
    return found
