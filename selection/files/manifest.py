"""The folder of a selection, and selection.json in it: what it was made from, by which rule, what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from scorer.bundle.cuts import read_cuts
from scorer.bundle.probed import Probed
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS
from scorer.outputs import check_folder, read_json
from scorer.reading.windows import OutsideDomain
from scorer.values import Amount, Count, Line, Portion
from selection.errors import SelectionError
from selection.settings import SelectSettings, per_head

SELECTION_JSON = "selection.json"
TABLE, ABSTAINED, REJECTS = "selection.parquet", "abstain.jsonl", "rejects.jsonl"
FILES = frozenset({SELECTION_JSON, TABLE, ABSTAINED, REJECTS})
"""What a selection writes beside its sets."""

SELECT_AGAIN = "make it again with `empathy select`"

Interval = tuple[float, float]
PerHead = dict[str, float]
_Interval = tuple[Portion, Portion]


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How the thresholds came about: given, by a target share, or to match a judge's labels.

    ``f1`` is that of the match, ``judge_threshold`` those of the set that was matched. What does not apply is unset.
    """

    by: str
    share: Portion | UnsetType = UNSET
    labels: str | UnsetType = UNSET
    judge_threshold: PerHead | UnsetType = UNSET
    dialogues: Count | UnsetType = UNSET
    f1: Portion | UnsetType = UNSET
    f1_cross_validated: Portion | UnsetType = UNSET
    f1_interval_95: _Interval | UnsetType = UNSET
    threshold_interval_95: dict[str, Interval] | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRule:
    """The rule by which dialogues were assigned to sets, and its threshold per head."""

    name: str
    source: str
    threshold: PerHead
    how: Thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class SetInfo:
    """One set: how many dialogues it has, which share of all, and how many of them are synthetic."""

    count: Count
    share: Portion
    borderline: Count
    synthetic: Count = 0
    file: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """How many records were no dialogue with a score, and how many for which reason."""

    count: Count
    reasons: dict[str, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsInfo:
    """A judge's labels that decided in place of scores."""

    count: Count
    used: Count
    rejected: dict[str, Count]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInfo:
    """Whose judgements were read, and what one cost, None where no label says."""

    models: list[str]
    rubrics: list[str]
    judgements: Count
    usd_a_judgement: Amount | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """How far the sets are from the judge's, by the scorer's own error; an index is None where it is not defined."""

    of: str
    dialogues: Count
    moved: Portion
    moved_interval_90: _Interval
    jaccard: dict[str, Portion | None]
    jaccard_interval_90: dict[str, tuple[Portion | None, Portion | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusInfo:
    """The inputs, and the hash of the ids and texts of all dialogues."""

    inputs: list[str]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsInfo:
    """The preference pairs of a selection by the rule ``pairs``.

    ``contexts`` counts the contexts by what became of them, ``unpaired`` the dialogues in no pair by the reason;
    ``median_gap`` is in points of the judge's scale, ``agreed`` is the judge's mean chance to rank a pair the
    same, None where that is not known, and ``lost`` counts what pairs have no place for.
    """

    count: Count
    file: Line
    by: str
    contexts: dict[str, Count]
    unpaired: dict[str, Count]
    median_gap: Amount
    agreed: Portion | None = None
    lost: dict[str, Count] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionInfo:
    """What selection.json holds.

    ``scorer`` is what the score file says of its scorer, as it stands there. ``both_low`` dialogues have S < T and R <
    T, each by its own scores; ``synthetic`` ones a model wrote as a whole; both None in folders of earlier releases.
    ``lost`` counts what the sets' layout has no place for (`selection.files.layouts.LOST`).
    """

    format: Literal["empathy-selection"] = "empathy-selection"
    format_version: Literal[1] = 1
    created: str | None = None
    rule: AppliedRule
    cuts: dict[str, list[float]]
    dialogues: Count = 0
    judged: Count = 0
    sets: dict[str, SetInfo]
    pairs: PairsInfo | None = None
    reasons: dict[str, Count] = field(default_factory=dict)
    borderline: Count = 0
    both_low: Count | None = None
    synthetic: Count | None = None
    rejected: Rejected = field(default_factory=lambda: Rejected(count=0, reasons={}))
    scores_without_dialogue: Count = 0
    scorer: Mapping[str, Any] | None
    labels: LabelsInfo | None = None
    judge: JudgeInfo | None = None
    stability: Stability | None = None
    corpus: CorpusInfo | None = None
    file_format: str | None = None
    lost: dict[str, Count] = field(default_factory=dict)
    settings: SelectSettings = field(default_factory=SelectSettings)

    def __post_init__(self) -> None:
        """Raise ValueError for what is no cut, threshold, half-width, probe or count, and sets that do not add up."""
        if (counted := sum(entry.count for entry in self.sets.values())) != self.dialogues and self.sets:
            raise ValueError(f"its sets have {counted} dialogues of {self.dialogues}")
        read_cuts(self.cuts)
        if not set(HEADS) <= set(self.rule.threshold):
            raise ValueError(f"thresholds of {list(self.rule.threshold)}, expected those of {list(HEADS)}")
        per_head(self.threshold)
        _ = self.error, self.probe, self.outside

    @property
    def threshold(self) -> tuple[float, float]:
        """The threshold of each head, on the judge's scale."""
        sensibility, rationality = (self.rule.threshold[head] for head in HEADS)
        return sensibility, rationality

    @property
    def error(self) -> Uncertainty | None:
        """How far the judge's scores may lie from the scorer's, None where that is not known."""
        widths = (self.scorer or {}).get("half_widths")
        return msgspec.convert(widths, Uncertainty) if widths else None

    @property
    def probe(self) -> Probed | None:
        """What the scorer makes of bad replies, None where its bundle does not say."""
        found = (self.scorer or {}).get("probe")
        return msgspec.convert(found, Probed) if found else None

    @property
    def outside(self) -> OutsideDomain | None:
        """How many of the dialogues lie outside the scorer's training domain, None where the scores do not say."""
        found = (self.scorer or {}).get("outside")
        return msgspec.convert(found, OutsideDomain) if found else None


def read_selection_info(folder: Path) -> SelectionInfo:
    """Return what selection.json of a folder says; SelectionError where it is missing or damaged."""
    path = folder / SELECTION_JSON
    try:
        return read_json(path, SelectionInfo, SELECT_AGAIN, SelectionError)
    except FileNotFoundError as error:
        raise SelectionError(f"{path}: cannot be read ({error.strerror}); {SELECT_AGAIN}") from None


def written_files(folder: Path) -> frozenset[str]:
    """Return the names of the files that a selection wrote into its folder."""
    try:
        info = read_selection_info(folder)
        return FILES | {entry.file for entry in (*info.sets.values(), info.pairs) if entry is not None}
    except SelectionError:  # damaged: what cannot be told is kept
        return FILES


def check_selection_folder(output: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless ``output`` is new, or an earlier selection that may be replaced."""
    check_folder(output, "overwrite" if overwrite else "error", SELECTION_JSON, "`empathy select`", written_files)
