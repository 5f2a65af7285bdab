"""How a scored corpus is audited."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import LabelError
from scorer.settings import check_settings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """How many labels an audit buys, at what it looks, and when it is sure."""

    threshold: float = setting(5.0, "T of the paper's rule.", 1, 9)
    limit: float = setting(
        0.65, "The scorer is trusted where it puts more than this share of dialogues into the judge's set.", 0, 1
    )
    alpha: float = setting(0.05, "How often the verdict on the limit may be wrong.", 0.0001, 0.5)
    most: int = setting(400, "Labels, at most.", 20, 10**6)
    step: int = setting(50, "Labels between two looks.", 10, 10**6)
    seed: int = setting(0, "The seed of the random sample.")

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        check_settings(self, LabelError)
