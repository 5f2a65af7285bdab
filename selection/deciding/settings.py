"""How to select."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from selection.deciding.ranking import BY, Limits
from selection.deciding.stability import DOUBT
from selection.errors import SelectionError
from selection.rules import RULES, THRESHOLD_RANGE

RANKED = {"quantile": ("share",), "top-k": ("count",), "budget": ("count", "tokens")}
"""Rules that take the best by rank, and the limits of which each needs one."""

NAMES = (*RULES, *RANKED)
FORMATS = ("openai", "sharegpt", "alpaca")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectSettings:
    """A rule of ``NAMES`` and its thresholds on the judge's scale, the limits, and how to write the sets.

    ``by`` is what a rank goes by, ``whole_conversations`` decides by a conversation's mean scores. ``doubt`` is the
    chance of another decision from which a dialogue is borderline. ``abstain`` is how many dialogues (from 1), or which
    share of them (below 1), are written out for the judge. SelectionError for what does not go together.
    """

    rule: str = "paper"
    threshold: tuple[float, float] = (5.0, 5.0)
    by: str = "margin"
    limits: Limits = field(default_factory=Limits)
    whole_conversations: bool = False
    doubt: float = DOUBT
    abstain: float = 0
    format: str = "openai"

    def __post_init__(self) -> None:
        """Check what a command line cannot."""
        if self.rule not in NAMES or self.by not in BY or self.format not in FORMATS:
            raise SelectionError(f"rule {self.rule!r}, by {self.by!r} or format {self.format!r} is not known")
        low, high = THRESHOLD_RANGE
        for value in self.threshold:
            if not low <= value <= high:
                raise SelectionError(f"threshold {value:g}, expected a number from {low:g} to {high:g}")
        if not 0 < self.doubt <= 0.5:
            raise SelectionError(f"doubt {self.doubt:g}, expected a chance above 0, at most 0.5")
        if not 0 <= self.abstain < float("inf") or (self.abstain >= 1 and self.abstain % 1):
            raise SelectionError(f"abstain {self.abstain:g}, expected a share below 1 or a whole number of dialogues")
        self._check_limits()

    def _check_limits(self) -> None:
        limits = self.limits
        if self.rule in RANKED and not any(getattr(limits, name) is not None for name in RANKED[self.rule]):
            options = " or ".join(f"--{name}" for name in RANKED[self.rule])
            raise SelectionError(f"{self.rule} takes the best as long as there is room; say how much: {options}")
        if limits.share is not None and not 0 < limits.share <= 1:
            raise SelectionError(f"share {limits.share:g}, expected a number above 0, at most 1")
        for name in ("count", "tokens", "floor", "cap"):
            value = getattr(limits, name)
            if value is not None and value < 1:
                raise SelectionError(f"{name} {value}, expected a whole number of at least 1")
        if limits.floor is not None and limits.cap is not None and limits.floor > limits.cap:
            raise SelectionError(f"floor {limits.floor} and cap {limits.cap}, expected a floor of at most the cap")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as selection.json holds them."""
        return asdict(self)
