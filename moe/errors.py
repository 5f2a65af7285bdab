"""What can go wrong between selected sets and a mixture of experts."""

from __future__ import annotations

from scorer.errors import EmpathyError


class SettingError(EmpathyError):
    """A setting is out of its range, or two do not go together."""


class SetError(EmpathyError):
    """A set holds nothing to learn from or to answer."""


class ModelError(EmpathyError):
    """A base, an expert or a mixture cannot be loaded, or does not fit what is asked of it."""
