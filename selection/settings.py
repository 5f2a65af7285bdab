"""How to select, report and check: settings records, light enough for `empathy --help`."""

from __future__ import annotations

from dataclasses import dataclass, field

from scorer.dialogue import SCORE_RANGE
from scorer.settings import check_settings, setting
from selection.errors import GateError, GoldenError, ProbeError, SelectionError

Threshold = float | tuple[float, float]
THRESHOLD_RANGE = (1.0, 9.0)
"""Lowest and highest threshold T: at both, the cuts at T - 0.5 and T + 0.5 exist."""

PUBLISHED = ("paper", "release")
"""The published rules (`selection.rules.RULES`), which assign by a threshold per head."""

RANKED = {"quantile": ("share",), "top-k": ("count",), "budget": ("count", "tokens")}
"""Rules that take the best by rank, and the limits of which each needs one."""

PAIRS = "pairs"
"""The rule that makes preference pairs of the responses to one context."""

RULE_NAMES = (*PUBLISHED, *RANKED, PAIRS)
FORMATS = ("openai", "sharegpt", "alpaca")

DOUBT = 0.4
"""A dialogue is borderline where the judge would decide otherwise with at least this chance."""

BY = ("margin", "sensibility", "rationality", "difference", "both")
"""What a rank goes by: how deep inside the sensibility set, one score, the first less the second, the lower one."""

BEST, ALL = "best", "all"
"""Which pairs of a context are made: the best response against the worst, or all that lie far enough apart."""

PAIR_FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many dialogues are taken at most, and per category at least and at most. None is no limit."""

    share: float | None = setting(None, "Take at most this share of the dialogues, the best.", high=1, above=0)
    count: int | None = setting(None, "Take at most so many dialogues, the best.", 1)
    tokens: int | None = setting(None, "Take at most so many tokens, the best dialogues first.", 1)
    floor: int | None = setting(None, "Take at least so many dialogues per category.", 1)
    cap: int | None = setting(None, "Take at most so many dialogues per category.", 1)

    def __post_init__(self) -> None:
        """Check every value; SelectionError gives the value and what was expected."""
        check_settings(self, SelectionError)
        if self.floor is not None and self.cap is not None and self.floor > self.cap:
            raise SelectionError(f"floor is {self.floor} and cap {self.cap}, expected a floor of at most the cap")

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return self != Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSettings:
    """Which responses to one context become a preference pair, and how pairs are written."""

    margin: float = setting(
        1.0, "The chosen response leads by at least so many points of the judge's scale, and by more than 0.", 0, 10
    )
    pairs: str = setting(
        BEST,
        "best: of a context the best response and the worst; all: every two that lie so far apart.",
        choices=(BEST, ALL),
    )
    file: str = setting("jsonl", "How pairs are written.", choices=PAIR_FORMATS)

    def __post_init__(self) -> None:
        """Check every value; SelectionError gives the value and what was expected."""
        check_settings(self, SelectionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectSettings:
    """A rule, its threshold per head on the judge's scale, the limits, and how to write the sets.

    SelectionError for what does not go together.
    """

    rule: str = setting(
        "paper",
        "paper and release assign by the thresholds; pairs prefers one response to a context to another; the others "
        "take the best by rank.",
        choices=RULE_NAMES,
    )
    threshold: tuple[float, float] = (5.0, 5.0)
    by: str = setting(
        None,
        "What a rank or a pair goes by; margin is how deep inside the sensibility set a dialogue lies, both the lower "
        "of its scores.",
        choices=BY,
        shown="margin, of pairs sensibility",
    )
    limits: Limits = field(default_factory=Limits)
    pairing: PairSettings = field(default_factory=PairSettings)
    whole_conversations: bool = setting(
        False, "Keep the dialogues of a conversation together; their mean scores decide."
    )
    both_low: str = setting(
        "keep",
        "Dialogues with S < T and R < T: keep as the rule says, or discard (paper).",
        choices=("keep", "discard"),
    )
    doubt: float = setting(
        DOUBT, "A dialogue is borderline from this chance of another decision by the judge.", high=0.5, above=0
    )
    abstain: float = setting(
        0,
        "Write the N most doubtful dialogues (below 1: that share of all) to abstain.jsonl, for the judge.",
        0,
        shown="none",
    )
    format: str = setting("openai", "How dialogues are written.", choices=FORMATS)

    def __post_init__(self) -> None:
        """Check every value, and whether a ranked rule has a limit; say what ``by`` is where it was left open."""
        check_settings(self, SelectionError)
        if not self.by:
            object.__setattr__(self, "by", "sensibility" if self.rule == PAIRS else "margin")
        try:
            per_head(self.threshold)
        except ValueError as error:
            raise SelectionError(str(error)) from None
        if self.abstain >= 1 and self.abstain % 1:  # of infinity this is NaN
            raise SelectionError(f"abstain is {self.abstain}, expected a share below 1 or a whole number of dialogues")
        if self.both_low == "discard" and self.rule != "paper":
            raise SelectionError(f"both low is discard and the rule {self.rule} has no discard set; use the rule paper")
        wanted = RANKED.get(self.rule, ())
        if wanted and all(getattr(self.limits, name) is None for name in wanted):
            options = " or ".join(f"--{name}" for name in wanted)
            raise SelectionError(f"{self.rule} takes the best as long as there is room; say how much: {options}")
        if self.rule == PAIRS:
            self._check_pairs()
        elif self.pairing != PairSettings():
            raise SelectionError(
                f"a margin, pairs and their file are given and the rule is {self.rule}; use the rule pairs"
            )

    def _check_pairs(self) -> None:
        """Raise SelectionError for what only sets have."""
        others = {"limits": self.limits, "whole conversations": self.whole_conversations, "abstain": self.abstain}
        if given := [name for name, value in others.items() if value]:
            raise SelectionError(f"{' and '.join(given)} do not go with the rule pairs; leave them out")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """How plain score files are assigned to sets, what a judgement costs where no label says, and the title."""

    rule: str = setting("paper", "The rule that assigns them to sets.", choices=PUBLISHED)
    threshold: float = setting(5.0, "The threshold T of both heads.", *THRESHOLD_RANGE)
    judge_price: float | None = setting(
        None, "US dollars per judgement, where no label has judge.cost_usd.", high=100_000, above=0
    )
    title: str | None = setting(None, "The page's title.")

    def __post_init__(self) -> None:
        """Check every value; SelectionError gives the value and what was expected."""
        check_settings(self, SelectionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """How far scores may move and which share of decisions may change.

    ``tolerance`` None is the golden file's, else that of the precisions (``EXACT``, ``LOWER``, ``ACROSS``); a line's
    own comes first. ``max_flips`` None is that of the precisions.
    """

    tolerance: float | None = setting(
        None,
        "How far a score may move; a line's own tolerance comes first. With --write, GOLDEN keeps it.",
        *SCORE_RANGE,
        shown="GOLDEN's, else 0.001 in fp32, 0.02 in one lower precision, 0.25 between two",
    )
    max_flips: float | None = setting(
        None, "Share of selection decisions that may change.", 0, 1, shown="0 in fp32, else 0.01"
    )

    def __post_init__(self) -> None:
        """Check both; GoldenError gives the value and what was expected."""
        check_settings(self, GoldenError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """How much worse a later test of rubrics may be than an earlier one, for each variant. None is no limit."""

    max_fall: float = setting(0.05, "How far r and kappa with the labels may fall.", 0, 2)
    max_rise: float = setting(0.25, "How far the MAE may rise.", 0, 10)
    max_failures: float = setting(0.02, "How far the share of questions without a judgement may rise.", 0, 1)
    max_shift: float = setting(0.5, "How far a mean score may move.", 0, 10)
    allow_changed: bool = setting(
        False, "A rubric, model or setting that changed is said and is no fault: for an edit that is meant."
    )
    max_flips: float | None = None

    def __post_init__(self) -> None:
        """Check every limit; GoldenError gives the value and what was expected."""
        check_settings(self, GoldenError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLimits:
    """How large a share of each kind may be: of replies kept, of decisions changed by an edit. 1 is no limit."""

    hostile: float = setting(0.05, "Open hostility that is kept.", 0, 1)
    contempt: float = setting(0.05, "Contempt that is kept.", 0, 1)
    dismissive: float = setting(0.1, "Dismissals that are kept.", 0, 1)
    gibberish: float = setting(0.05, "Gibberish that is kept.", 0, 1)
    filler: float = setting(0.05, "Fillers that are kept.", 0, 1)
    echo: float = setting(0.1, "Echoes of the speaker that are kept.", 0, 1)
    unrelated: float = setting(0.35, "Responses of other dialogues that are kept.", 0, 1)
    refusal: float = setting(0.1, "Refusals that are kept.", 0, 1)
    loop: float = setting(0.1, "Loops of one phrase that are kept.", 0, 1)
    language: float = setting(1, "Replies in other languages that are kept.", 0, 1)
    injection: float = setting(0.1, "Instructions to the judge that are kept.", 0, 1)
    spelling: float = setting(0.02, "Decisions that slips of the keyboard change.", 0, 1)
    casing: float = setting(0.02, "Decisions that capitals change.", 0, 1)
    emoji: float = setting(0.02, "Decisions that an emoji changes.", 0, 1)
    names: float = setting(0.02, "Decisions that another name changes.", 0, 1)
    thanks: float = setting(0.02, "Decisions that a closing thanks changes.", 0, 1)

    def __post_init__(self) -> None:
        """Check every limit; ProbeError gives the value and what was expected."""
        check_settings(self, ProbeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How many contexts a probe tries, which, how many of the worst it keeps, and its limits."""

    sample: int = setting(400, "Contexts to try, at most one of a conversation.", 1)
    seed: int = setting(0, "Chooses contexts and wordings.", 0)
    show: int = setting(1, "Show so many of the worst of each kind.", 0)
    limits: ProbeLimits = field(default_factory=ProbeLimits)

    def __post_init__(self) -> None:
        """Check every value; ProbeError gives the value and what was expected."""
        check_settings(self, ProbeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """What a precision is held to, and how it is measured."""

    max_flips: float = setting(0.01, "Share of decisions that a precision may change.", 0, 1)
    threads: int | None = setting(None, "Processor threads.", 1, shown="one per core")
    max_length: int = setting(512, "Of MODEL.onnx: tokens of a text, at most.", 16)

    def __post_init__(self) -> None:
        """Check every value; GateError gives the value and what was expected."""
        check_settings(self, GateError)


def per_head(threshold: Threshold) -> tuple[float, float]:
    """Return the threshold of each head; ValueError for one that is not from 1 to 9."""
    both = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    low, high = THRESHOLD_RANGE
    for value in both:
        if not low <= value <= high:
            raise ValueError(f"threshold {value:g}, expected a number from {low:g} to {high:g}")
    return both
