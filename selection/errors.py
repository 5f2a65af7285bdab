"""What can go wrong in a selection or a report."""

from __future__ import annotations

from scorer.errors import EmpathyError


class SelectionError(EmpathyError):
    """Scores and dialogues do not fit each other, or a rule cannot be applied to them."""


class GoldenError(EmpathyError):
    """A golden file, or a limit that a scorer is held to, is not what it should be."""


class ProbeError(EmpathyError):
    """A probe has no dialogues, or a setting of it is not what it should be."""


class ServeError(EmpathyError):
    """A server cannot be started as it was asked to."""


class WatchError(EmpathyError):
    """Scores that are watched cannot be read or counted, or a setting of the watch is not what it should be."""
