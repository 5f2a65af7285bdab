"""How far a run has come: the one protocol between those that work and those that show it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is told how far a run has come, stage by stage. Amounts are in the stage's own unit, such as tokens or steps."""

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        """Begin a stage of ``total`` amounts, None where nobody knows; ``done`` were finished by an earlier run."""
        ...

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        """Say how much of the stage is done, what its total is now thought to be, and what else is worth seeing."""
        ...

    def say(self, text: str) -> None:
        """Show a line that stays."""
        ...


class Silent:
    """A progress that shows nothing."""

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        """Show nothing."""

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""
