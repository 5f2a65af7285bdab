"""The folder in which a training works until its output is whole, and what must be true of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from distill.errors import TrainError
from distill.labelled import LabelledSet
from distill.training.checkpoint import MANIFEST, Checkpoint
from distill.training.network import Backbone
from distill.training.settings import TrainSettings
from scorer.dialogue import Dialogue
from scorer.errors import OutputError
from scorer.outputs import Existing, replacing, writing

_BYTES_A_PARAMETER = 4
_TRAINER_COPIES = 6  # two checkpoints at once, each with the weights and AdamW's two moments


def check_room(output: Path, backbone: Backbone, settings: TrainSettings) -> None:
    """Raise TrainError if the disk will not hold the folds, the final model twice, and the Trainer's own state."""
    weights = _BYTES_A_PARAMETER * backbone.parameters
    needed = weights * (settings.folds + 2 + _TRAINER_COPIES)
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise TrainError(
            f"{output}: the training writes up to {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on that disk; "
            "make room or name another output"
        )


def identity(
    labelled: LabelledSet, settings: TrainSettings, teachers: Sequence[Checkpoint], unlabelled: Sequence[Dialogue]
) -> dict[str, Any]:
    """Return what must be the same for a training to be resumed."""
    state = blake2b(digest_size=16)
    for content, row in zip(labelled.hashes, labelled.scores.tolist(), strict=True):
        state.update(f"{content}{row}".encode())
    for dialogue in unlabelled:
        state.update(dialogue.id.encode())
    return {
        "settings": settings.to_json(),
        "inputs": state.hexdigest(),
        "teachers": [teacher.sha256 for teacher in teachers],
    }


def open_work(output: Path, known: dict[str, Any], existing: Existing) -> Path:
    """Return the folder in which a training works; OutputError if the output may not be written."""
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
    if output.exists() and existing != "overwrite":
        hint = "it is finished" if existing == "resume" else "name another output or say --overwrite"
        raise OutputError(f"{output}: exists already; {hint}")
    if output.exists() and not (output.is_dir() and (not any(output.iterdir()) or (output / MANIFEST).exists())):
        raise OutputError(
            f"{output}: is no checkpoint of `empathy train`, so it is not overwritten; remove it yourself"
        )
    return claim_work(output, known, existing, _check_same)


def claim_work(
    output: Path, known: dict[str, Any], existing: Existing, check_same: Callable[[Path, Any, Any], None]
) -> Path:
    """Return the folder OUT.partial, begun now or by an earlier run that ``check_same`` finds to be the same.

    ``known`` is JSON that says what the run is. OutputError where an earlier run may not be gone on with.
    """
    work = output.with_name(f"{output.name}.partial")
    manifest = work / "run.json"
    if work.exists() and existing == "error":
        raise OutputError(f"{work}: an earlier run's; go on with --resume or start afresh with --overwrite")
    with writing(output):
        if work.exists() and existing == "overwrite":
            shutil.rmtree(work)
        if manifest.exists():
            check_same(work, json.loads(manifest.read_text()), known)
        else:
            work.mkdir(exist_ok=True)
            with replacing(manifest) as file:
                file.write(json.dumps(known, indent=1) + "\n")
    return work


def _check_same(work: Path, known: dict[str, Any], mine: dict[str, Any]) -> None:
    for name, value in mine["settings"].items():
        if known["settings"].get(name) != value:
            raise OutputError(
                f"{work}: was begun with {name.replace('_', ' ')} {known['settings'].get(name)} and this run has "
                f"{value}; use the same, or start afresh with --overwrite"
            )
    if (known["inputs"], known["teachers"]) != (mine["inputs"], mine["teachers"]):
        raise OutputError(f"{work}: was begun with other labels, dialogues or teachers; start afresh with --overwrite")
