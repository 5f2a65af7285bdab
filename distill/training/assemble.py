"""The end of a training: held-out predictions become calibration, cuts, uncertainty, figures and a whole checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from distill.labelled import LabelledSet
from distill.training.calibrate import (
    COVERAGE,
    balanced_cuts,
    cross_calibrate,
    cross_coverage,
    fit_calibration,
    fit_uncertainty,
)
from distill.training.card import checkpoint_card
from distill.training.checkpoint import FOLDS, OOF, THEN, Checkpoint, load_checkpoint, write_checkpoint
from distill.training.fits import Mask, Part, Training, measured_folds
from distill.training.measure import cross_levels, summarise
from distill.training.network import Scores, fold_affine, has_bf16
from distill.training.settings import TrainSettings
from scorer.bundle.domain import fit_domain
from scorer.dialogue import HEADS, training_hash
from scorer.outputs import replacing, writing
from scorer.run.score_file import write_scores
from selection.folds import Folds
from selection.metrics import Pair

_NAMED = 5  # so many files of many are named


def finish(run: Training, parts: Sequence[Part], raw: Scores) -> Checkpoint:
    """Calibrate the final model on the held-out predictions and write the whole checkpoint beside the work."""
    labelled, settings = run.labelled, run.settings
    held_out: Mask = np.asarray(~np.isnan(raw).any(axis=1))
    folds = measured_folds(labelled, settings)[held_out]
    scores, labels = raw[held_out], labelled.scores[held_out]
    calibration = fit_calibration(scores, labels)
    calibrated = cross_calibrate(scores, labels, folds)
    levels = cross_levels(calibrated, labels, folds)
    pair = Pair.of(labels, calibrated, levels)
    coverage = cross_coverage(calibrated, labels, folds)
    model = load_checkpoint(run.folder(parts[-1])).load_model()
    fold_affine(model, calibration.slope, calibration.intercept)
    shipped = calibration.apply(scores)
    info: dict[str, Any] = {
        **_common(run),
        "part": "all labels" if settings.folds else "nine tenths of the conversations",
        "calibration": {"slope": list(calibration.slope), "intercept": list(calibration.intercept)},
        "cuts": balanced_cuts(shipped, labels),
        "uncertainty": fit_uncertainty(shipped, labels).to_json(),
        "measured": {
            "how": _how(settings, held_out),
            **summarise(pair),
            "coverage": {head: round(value, 4) for head, value in zip(HEADS, coverage, strict=True)},
            "coverage_aim": COVERAGE,
        },
        "training": _training(run, parts[-1]),
        "domain": fit_domain(labelled.dialogues, run.encoded, len(run.backbone.tokenizer)).to_json(),  # type: ignore[arg-type]
        "seconds": round(time.monotonic() - run.started),
    }
    whole = run.work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    with writing(run.work, then=THEN):
        checkpoint = write_checkpoint(whole, model, run.backbone, info)
        with replacing(whole / "README.md") as file:
            file.write(checkpoint_card(checkpoint.info))
        _write_rejects(whole / "rejects.jsonl", labelled)
        about = {"name": OOF, "cuts": info["cuts"], "half_widths": info["uncertainty"], "backbone": info["backbone"]}
        about |= {key: info["training"][key] for key in ("judge", "rubric")}
        _write_oof(whole / OOF, run, held_out, folds, calibrated, scores, about)
        if settings.folds:
            # Links, not copies: both names must be there until the whole takes its place.
            skip = shutil.ignore_patterns("*.npy", ".*")
            shutil.copytree(run.work / FOLDS, whole / FOLDS, ignore=skip, copy_function=_link)
    return checkpoint


def _common(run: Training) -> dict[str, Any]:
    return {
        "settings": run.settings.to_json(),
        "max_length": run.settings.max_length,
        "backbone": Path(run.settings.backbone).name if Path(run.settings.backbone).is_dir() else run.settings.backbone,
        "created": date.today().isoformat(),
        "versions": {name: version(name) for name in ("empathy-scorer", "torch", "transformers")},
        "bf16": has_bf16(),
    }


def fold_info(run: Training, part: Part) -> dict[str, Any]:
    """Return the empathy.json of one fit: what is known of it before anything is measured."""
    return {**_common(run), "part": part.name, "training": _training(run, part)}


def _training(run: Training, part: Part) -> dict[str, Any]:
    hashes = run.labelled.hashes
    rows = np.flatnonzero(part.train)
    teaching = run.teaching
    files = sorted({Path(run.labelled.dialogues[row].source).name for row in rows})
    return {
        "data": ", ".join(files[:_NAMED]) + (f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""),
        "dialogues": len(rows),
        "judgements": sum(len(run.labelled.judgements[row]) for row in rows),
        "judge": _judges(run.labelled, rows.tolist(), "model"),
        "rubric": _judges(run.labelled, rows.tolist(), "rubric"),
        "conversations": len({run.labelled.dialogues[row].conversation for row in rows}),
        "unlabelled": 0 if teaching is None else len(teaching.unlabelled),
        "teachers": [] if teaching is None else [teacher.info["backbone"] for teacher in teaching.teachers],
        "content_hashes": sorted(hashes[row] for row in rows),
        "unlabelled_hashes": [] if teaching is None else sorted(map(training_hash, teaching.unlabelled)),
    }


def _judges(labelled: LabelledSet, rows: Sequence[int], key: str) -> list[str] | None:
    """Return what the labels say of their judge, None where they say nothing."""
    found = {str(said) for row in rows for one in labelled.judgements[row] if (said := (one.judge or {}).get(key))}
    return sorted(found) or None


def _write_rejects(path: Path, labelled: LabelledSet) -> None:
    if labelled.rejects:
        with replacing(path) as file:
            file.writelines(json.dumps(asdict(reject)) + "\n" for reject in labelled.rejects)


def _write_oof(
    path: Path, run: Training, held_out: Mask, folds: Folds, calibrated: Scores, raw: Scores, about: Mapping[str, Any]
) -> None:
    """Write held-out predictions as a score file: with ids, scores and, for selection, the scale they are on."""
    rows = np.flatnonzero(held_out)
    dialogues = [run.labelled.dialogues[row] for row in rows]
    hashes = run.labelled.hashes
    columns: dict[str, Any] = {
        "id": [dialogue.id for dialogue in dialogues],
        "conversation": [dialogue.conversation for dialogue in dialogues],
        "fold": folds,
        **{head: calibrated[:, i] for i, head in enumerate(HEADS)},
        **{f"{head}_raw": raw[:, i] for i, head in enumerate(HEADS)},
        **{f"{head}_judge": run.labelled.scores[rows, i] for i, head in enumerate(HEADS)},
        "content": [hashes[row] for row in rows],
    }
    write_scores(path, columns, json.dumps(about))


def _how(settings: TrainSettings, held_out: Mask) -> str:
    count = int(held_out.sum())
    if settings.folds:
        return f"{settings.folds}-fold cross-validation by conversation, {count} labels"
    return f"one tenth of the conversations held out, {count} labels"


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
