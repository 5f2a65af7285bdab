"""What can go wrong between labels and bundle."""

from __future__ import annotations

from scorer.errors import EmpathyError, reason_of


class TrainError(EmpathyError):
    """A training cannot begin: its labels, backbone, teacher, settings or output are not what it needs."""


class CheckpointError(EmpathyError):
    """A folder is no checkpoint that `empathy train` made, or was changed since."""


class ExportError(EmpathyError):
    """A checkpoint cannot be exported with these settings."""


class AgreementError(EmpathyError):
    """Two sets of scores cannot be compared."""


class RubricError(EmpathyError):
    """A file holds no rubric."""


class StoreError(EmpathyError):
    """A label store cannot be used: it is locked by another process, foreign or damaged."""


class LabelError(EmpathyError):
    """A labelling cannot begin or go on: its settings, prices, key or server are not what it needs."""


class SampleError(EmpathyError):
    """A sample cannot be chosen: more is wanted than there is, or a strategy lacks what it chooses by."""


def reason_to_refuse(error: BaseException) -> str:
    """Return why transformers could not load a model, as one line; never its advice to run the model's own code."""
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which is never run"
    return reason_of(error)
