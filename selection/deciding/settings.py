"""How to select."""

from __future__ import annotations

from dataclasses import dataclass, field

from scorer.settings import check_settings, setting
from selection.deciding.ranking import BY, Limits
from selection.deciding.stability import DOUBT
from selection.errors import SelectionError
from selection.rules import RULES, per_head

RANKED = {"quantile": ("share",), "top-k": ("count",), "budget": ("count", "tokens")}
"""Rules that take the best by rank, and the limits of which each needs one."""

RULE_NAMES = (*RULES, *RANKED)
FORMATS = ("openai", "sharegpt", "alpaca")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectSettings:
    """A rule, its threshold per head on the judge's scale, the limits, and how to write the sets.

    SelectionError for what does not go together.
    """

    rule: str = setting(
        "paper", "paper and release assign by the thresholds; the others take the best by rank.", choices=RULE_NAMES
    )
    threshold: tuple[float, float] = (5.0, 5.0)
    by: str = setting(
        "margin", "What a rank goes by; margin is how deep inside the sensibility set a dialogue lies.", choices=BY
    )
    limits: Limits = field(default_factory=Limits)
    whole_conversations: bool = setting(
        False, "Keep the dialogues of a conversation together; their mean scores decide."
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
        """Check every value, and whether a ranked rule has a limit."""
        check_settings(self, SelectionError)
        try:
            per_head(self.threshold)
        except ValueError as error:
            raise SelectionError(str(error)) from None
        if self.abstain >= 1 and self.abstain % 1:  # of infinity this is NaN
            raise SelectionError(f"abstain is {self.abstain}, expected a share below 1 or a whole number of dialogues")
        wanted = RANKED.get(self.rule, ())
        if wanted and all(getattr(self.limits, name) is None for name in wanted):
            options = " or ".join(f"--{name}" for name in wanted)
            raise SelectionError(f"{self.rule} takes the best as long as there is room; say how much: {options}")
