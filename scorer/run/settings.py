"""How to score."""

from __future__ import annotations

from dataclasses import dataclass

from scorer.bundle.uncertainty import UNCERTAINTY_COLUMNS
from scorer.dialogue import HEADS
from scorer.engines.names import BATCH_SIZE
from scorer.errors import EmpathyError
from scorer.outputs import Existing
from scorer.reading.windows import WHOLE, Share
from scorer.settings import check_settings, setting

SCORE_COLUMNS = ("id", *HEADS, *UNCERTAINTY_COLUMNS)
"""The columns that a score file has of its own, those of ``uncertainty`` last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """How to score.

    ``window`` is also the most work that a killed run repeats. ``existing`` says what to do with an output that exists.
    ``share`` is this process's part of a run of several in one folder. ``keep`` are columns of the input (or paths to
    values in them) that go into the score file; the corpus has to keep its records then.
    """

    batch_tokens: int | None = setting(None, "Padded tokens per batch.", 1, shown="what suits the engine")
    batch_size: int = setting(BATCH_SIZE, "Dialogues per batch, at most.", 1)
    window: int = setting(8192, "Records that are sorted by length and written as one shard.", 1)
    readers: int | None = setting(
        None, "Processes that read and tokenise ahead; 0 is a thread of this one.", 0, shown="as many as are needed"
    )
    uncertainty: bool = setting(False, "Add two columns: how far the judge's score may lie from each score.")
    strict: bool = setting(False, "Stop at the first bad record, with exit code 2.")
    keep: tuple[str, ...] = ()
    share: Share = WHOLE
    existing: Existing = "error"

    def __post_init__(self) -> None:
        """Check every value; EmpathyError gives the value and what was expected."""
        check_settings(self, EmpathyError)
        for name in self.keep:
            if name in SCORE_COLUMNS:
                raise EmpathyError(f"keep {name}: the score file has a column of that name already; leave it out")
            if self.keep.count(name) > 1:
                raise EmpathyError(f"keep {name!a}: is there twice; name it once")
