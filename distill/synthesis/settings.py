"""How dialogues are asked for and which are kept."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import LabelError
from scorer.settings import check_settings, setting

REGIONS: dict[str, tuple[int, int]] = {
    "sensibility": (1, -1),
    "both_high": (1, 1),
    "rationality": (-1, 1),
    "both_low": (-1, -1),
}
"""Regions of the two scores by name: whether (sensibility, rationality) lies above (1) or below (-1) the threshold."""

DEFAULT_REGIONS = ("sensibility", "both_high")


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisSettings:
    """What is planned, how it is asked for, and what is dropped."""

    count: int = setting(200, "Ask for so many dialogues.", 1, 10**6)
    threshold: float = setting(5.0, "T that parts the regions, as of `empathy select`.", 1, 9)
    temperature: float = setting(1.0, "The model's temperature.", 0, 2)
    max_tokens: int = setting(
        1000, "Tokens per dialogue, at most; a model that reasons first needs 4000 or more.", 50, 100_000
    )
    similar: float = setting(
        0.5, "Drop a dialogue whose share of common word triples with another one is higher.", 0.05, 1
    )
    seed: int = setting(0, "The seed of situations, roles and lengths.")
    regions: tuple[str, ...] = DEFAULT_REGIONS
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        from selection.probing.recognise import RECOGNISED

        check_settings(self, LabelError)
        for given, known, what in ((self.regions, REGIONS, "region"), (self.allow, RECOGNISED, "allow")):
            for name in given:
                if name not in known:
                    raise LabelError(f"{what} is {name!a}, expected {' or '.join(known)}")
        if not self.regions or len(set(self.regions)) < len(self.regions):
            raise LabelError(f"region is {', '.join(self.regions) or 'nothing'}, expected each region once")
