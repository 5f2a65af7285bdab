"""How a scored corpus is audited."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import LabelError
from scorer.settings import check_settings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """How many labels an audit buys, at what it looks, and when it is sure.

    ``limit`` None is what the scorer was measured with on held-out dialogues, less ``tolerance``.
    """

    threshold: int = setting(5, "T of the paper's rule.", 1, 9)
    limit: float | None = setting(
        None,
        "Trust wants more than this share of the dialogues in the judge's set.",
        0.01,
        0.99,
        shown="the scorer's own on held-out dialogues, less --tolerance",
    )
    tolerance: float = setting(0.05, "So much less agreement than the scorer was measured with is tolerated.", 0, 0.5)
    shift: float = setting(0.1, "So far may the share that the scorer keeps lie from the judge's.", 0.01, 0.9)
    alpha: float = setting(0.05, "How often an answer may be wrong, however often one looks.", 0.0001, 0.5)
    most: int = setting(1000, "Dialogues to ask about, at most.", 20, 10**6)
    step: int = setting(50, "Dialogues between two looks.", 10, 10**6)
    worth: int = setting(2000, "Dialogues that are worth a label, where the scorer should be trained anew.", 1, 10**7)
    seed: int = setting(0, "The seed of the random sample.")

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        check_settings(self, LabelError)
        if self.threshold != int(self.threshold):
            raise LabelError(f"threshold is {self.threshold}, expected a whole number: the judge's scores are")
