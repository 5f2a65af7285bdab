"""What can go wrong between labels and bundle."""

from __future__ import annotations

from scorer.errors import EmpathyError


class TrainError(EmpathyError):
    """A training cannot begin: its labels, backbone, teacher, settings or output are not what it needs."""


class CheckpointError(EmpathyError):
    """A folder is no checkpoint that `empathy train` made, or was changed since."""


class AgreementError(EmpathyError):
    """Two sets of scores cannot be compared."""
