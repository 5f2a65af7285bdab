"""How a report is made."""

from __future__ import annotations

from dataclasses import dataclass

from scorer.settings import check_settings, setting
from selection.errors import SelectionError
from selection.rules import RULES, THRESHOLD_RANGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """How plain score files are assigned to sets, what a judgement costs where no label says, and the title."""

    rule: str = setting("paper", "The rule that assigns them to sets.", choices=tuple(RULES))
    threshold: float = setting(5.0, "The threshold T of both heads.", *THRESHOLD_RANGE)
    judge_price: float | None = setting(
        None, "US dollars per judgement, where no label has judge.cost_usd.", high=100_000, above=0
    )
    title: str | None = setting(None, "The page's title.")

    def __post_init__(self) -> None:
        """Check every value; SelectionError gives the value and what was expected."""
        check_settings(self, SelectionError)
