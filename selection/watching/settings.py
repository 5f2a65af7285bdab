"""How a stream of scores is watched: windows, reference, limits and alerts."""

from __future__ import annotations

from dataclasses import dataclass

from scorer.settings import check_settings, setting
from selection.errors import WatchError


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """Windows of time that are shown, the dialogues that alerts are about, and the limits of alerts.

    An alert begins where the figure of the last ``recent`` dialogues is beyond its limit with confidence: where the
    lower end of its interval is. ``false_alarms`` is the chance that one look at an undisturbed source ends in an
    alert, over all figures; there is a look every fifth of ``recent`` dialogues.
    """

    window: int = setting(3600, "Seconds of a window of time; older ones are joined to days.", 1, 86_400)
    recent: int = setting(500, "Alerts are about so many of the latest dialogues.", 50, 100_000)
    reference_rows: int = setting(
        1000, "Without --reference, so many dialogues of the source itself, the first, are what drift is against.", 50
    )
    false_alarms: float = setting(1e-4, "The chance of an alert at one look at an undisturbed source.", above=0, high=1)
    drift: float = setting(
        0.1, "Alert where a score's distribution is further than this from the reference (KS).", 0, 1
    )
    sets: float = setting(0.1, "Alert where the share of a set differs by more than this from the reference.", 0, 1)
    outside: float = setting(0.1, "Alert where a larger share than this is outside the training domain.", 0, 1)
    low: float = setting(0.2, "Alert where a larger share than this is low on both scores.", 0, 1)
    keep_texts: bool = setting(False, "Keep the texts of the dialogues that are shown.")

    def __post_init__(self) -> None:
        """Check every value; WatchError gives the value and what was expected."""
        check_settings(self, WatchError)
