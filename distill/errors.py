"""What can go wrong between labels and bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scorer.errors import EmpathyError, reason_of

CHECKPOINT_JSON = "empathy.json"
"""The file in a checkpoint that says what it is."""

NEEDS_CODE = "it needs code of its own, which is never run"


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


def require_checkpoint(folder: Path) -> None:
    """Raise CheckpointError at once for what is no folder of `empathy train`; to load one takes seconds of imports."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder, expected a checkpoint (made by `empathy train`)")
    if not (folder / CHECKPOINT_JSON).is_file():
        raise CheckpointError(f"{folder}: holds no {CHECKPOINT_JSON}, so `empathy train` did not make it")


def reason_to_refuse(error: BaseException) -> str:
    """Return why transformers could not load a model, as one line; never its advice to run the model's own code."""
    if "trust_remote_code" in str(error):
        return NEEDS_CODE
    return reason_of(error)


@contextmanager
def loading_as(error: type[EmpathyError], what: str, fix: str = "") -> Iterator[None]:
    """Turn what transformers, tokenizers, safetensors, peft and the hub raise into an ``error`` that begins so.

    A damaged file makes them raise anything: tokenizers Exception itself, and a panic in Rust is not even one.
    """
    try:
        yield
    except (EmpathyError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # noqa: BLE001 - see above
        raise error(f"{what} ({reason_to_refuse(fault)}){fix}") from None
