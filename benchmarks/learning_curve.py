"""How agreement grows with the number of labels, so that a labelling budget can be planned.

    python -m benchmarks.learning_curve LABELS --teacher-backbone ENCODER [--student-backbone ENCODER --unlabelled IN]

With a student it is the starter's recipe with one teacher: the teacher learns the labels, scores them, the unlabelled
dialogues and re-paired ones, and the student learns these scores. Whole conversations are added until there are enough
labels. Every scorer is measured on the same held-out third of the conversations, which no training used. Cuts come from
half of that third and are measured on the other half. A seed chooses the labels and trains on them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from accelerate import PartialState
from scipy.stats import t as student_t

from benchmarks.starter import SPLIT_SEED, STUDENT, TEACHER, TEACHERS
from distill.labelled import LabelledSet, read_labelled
from distill.pretrained import quiet_transformers
from distill.training.calibrate import cross_calibrate, cross_levels
from distill.training.fits import Fit, TrainRun
from distill.training.network import has_bf16, predict
from distill.training.pairs import re_pair
from distill.training.settings import TrainSettings
from distill.training.soft import Lessons, SoftInfo, SoftSet
from distill.training.train import checked_backbone, run_fit
from scorer.arrays import Mask
from scorer.dialogue import Dialogue
from scorer.engines.base import Scores
from scorer.inputs.corpus import Corpus
from scorer.progress import Silent
from selection.folds import folds_of
from selection.metrics import Pair, all_figures

SIZES = (250, 500, 1000, 2000, 4000)
_SHOWN = ("sensibility.pearson", "rationality.pearson", "sensibility.mae", "rationality.mae", "paper.kappa")
_PASSES = 3 * 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One point of the curve: how many labels, which, and what is made of them."""

    size: int
    seed: int
    labels: tuple[str, ...]
    unlabelled: tuple[str, ...]
    teacher: str
    student: str | None
    pairs: int
    more: dict[str, Any]


def measured(job: Job) -> dict[str, float]:
    """Train the scorer of one point and return its figures, cross-fitted on the held-out third."""
    labelled, test = reduced(read_labelled(job.labels), job.size, job.seed)
    # Few labels need more passes: about as many steps as for two thousand labels, at most ten passes.
    passes = {"epochs": int(np.clip(round(_PASSES / int((~test).sum())), 3, 10))}
    teacher = {**TEACHER, **TEACHERS["teacher-1"], **passes, "seed": job.seed, **job.more}
    with tempfile.TemporaryDirectory() as folder:
        run = training(labelled, TrainSettings(backbone=job.teacher, **teacher), Path(folder) / "teacher")
        raw, model = run_fit(run, Fit("teacher", ~test, test, 0))
        if job.student:
            soft = taught(run, model, test, read_dialogues(job.unlabelled), job.pairs, job.student)
            student = TrainSettings(backbone=job.student, **{**STUDENT, "seed": job.seed, **job.more})
            raw, _ = run_fit(
                training(labelled, student, Path(folder) / "student", soft), Fit("student", ~test, test, 0)
            )
    figures = all_figures(cross_fitted(labelled, test, raw))
    return {name: figures[name] for name in _SHOWN}


def reduced(labelled: LabelledSet, size: int, seed: int) -> tuple[LabelledSet, Mask]:
    """Return ``size`` labels to learn with the held-out third of all, and which rows are held out.

    A conversation's place in the queue is a hash, so the smaller sets are parts of the larger ones.
    """
    test = folds_of(labelled.conversations, 3, SPLIT_SEED) == 0
    place = folds_of((f"queue:{conversation}" for conversation in labelled.conversations), 1 << 40, seed)
    queue = [row for row in np.argsort(place, kind="stable") if not test[row]]
    labelled = labelled.take(np.array(sorted([*queue[:size], *np.flatnonzero(test)])))
    return labelled, folds_of(labelled.conversations, 3, SPLIT_SEED) == 0


def cross_fitted(labelled: LabelledSet, test: Mask, raw: Scores) -> Pair:
    """Return judge and scorer on the held-out rows; calibration and cuts of each half come from the other."""
    truth = labelled.scores[test]
    half = folds_of((f"half:{conversation}" for conversation in labelled.conversations), 2, SPLIT_SEED)[test]
    scores = cross_calibrate(raw, truth, half)
    return Pair.of(truth, scores, cross_levels(scores, truth, half))


def training(labelled: LabelledSet, settings: TrainSettings, work: Path, soft: SoftSet | None = None) -> TrainRun:
    """Return a training of some labels that keeps its fits in ``work``."""
    work.mkdir(exist_ok=True)
    backbone = checked_backbone(settings)
    encoder = backbone.encoder(settings.max_length)
    lessons = Lessons.of(soft, labelled, settings, encoder) if soft else None
    processes = PartialState(cpu=not torch.cuda.is_available())
    encoded = encoder.encode(labelled.dialogues)
    return TrainRun(labelled, settings, backbone, encoder, encoded, lessons, work, Silent(), processes)


def taught(
    run: TrainRun, model: Any, test: Mask, unlabelled: Iterable[Dialogue], pairs: int, near_encoder: str
) -> SoftSet:
    """Return a teacher's scores of the labelled dialogues, the unlabelled ones, and ``pairs`` re-paired ones of each.

    Nothing is re-paired with the rows of ``test``; they are scored too, which says how good the teacher is.
    """
    learnt = [dialogue for dialogue, held_out in zip(run.labelled.dialogues, test, strict=True) if not held_out]
    held_out = [dialogue for dialogue, out in zip(run.labelled.dialogues, test, strict=True) if out]
    real = [*learnt, *unlabelled]
    paired, partners = re_pair(real, pairs, seed=run.settings.seed, encoder=near_encoder)
    dialogues = [*held_out, *real, *paired]
    scores: Scores = predict(model, run.encoder.encode(dialogues), bf16=has_bf16())
    owners = [*(dialogue.conversation for dialogue in (*held_out, *real)), *partners]
    settings = run.settings
    info = SoftInfo(folds=0, split_seed=settings.split_seed, teachers=[settings.backbone], teacher_hashes=[])
    return SoftSet(dialogues, owners, scores[None], info)


def read_dialogues(paths: Sequence[str]) -> list[Dialogue]:
    """Return the dialogues of files; bad records are left out."""
    return [item for item in Corpus(list(paths)) if isinstance(item, Dialogue)] if paths else []


def interval(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of a mean over seeds (Student's t), NaN of one seed."""
    count = len(values)
    return float(student_t.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count)) if count > 1 else np.nan


@click.command()
@click.argument("labels", nargs=-1, required=True)
@click.option("--teacher-backbone", required=True, help="The encoder that learns the labels.")
@click.option("--student-backbone", help="The encoder that learns the teacher's scores; without it none does.")
@click.option("--unlabelled", multiple=True, help="Dialogues that the teacher scores for the student.")
@click.option("--pairs", default=2, show_default=True, help="Re-paired dialogues per dialogue.")
@click.option("--sizes", default=",".join(map(str, SIZES)), show_default=True)
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Points at once.")
@click.option("--epochs", type=int, help="Passes of every training.  [default: the recipe's]")
@click.option("--max-length", default=256, show_default=True, help="Tokens per dialogue, at most.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    labels: tuple[str, ...],
    teacher_backbone: str,
    student_backbone: str | None,
    unlabelled: tuple[str, ...],
    pairs: int,
    sizes: str,
    seeds: str,
    jobs: int,
    epochs: int | None,
    max_length: int,
    json_path: Path | None,
) -> None:
    """Train on more and more labels and print what each scorer reaches: means over seeds, 95 % intervals."""
    quiet_transformers()
    points = [
        Job(
            size=size,
            seed=seed,
            labels=labels,
            unlabelled=unlabelled,
            teacher=teacher_backbone,
            student=student_backbone,
            pairs=pairs,
            more={"max_length": max_length, **({"epochs": epochs} if epochs else {})},
        )
        for size, seed in product(map(int, sizes.split(",")), map(int, seeds.split(",")))
    ]
    if jobs == 1:
        found = list(map(measured, points))
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            found = list(pool.map(measured, points))
    rows = [{"labels": point.size, "seed": point.seed, **row} for point, row in zip(points, found, strict=True)]
    print("| labels | r S | r R | MAE S | MAE R | kappa |\n|---|---|---|---|---|---|")
    for size in dict.fromkeys(point.size for point in points):
        columns = ([row[name] for row in rows if row["labels"] == size] for name in _SHOWN)
        print(f"| {size} |", " | ".join(f"{np.mean(column):.3f} ± {interval(column):.3f}" for column in columns), "|")
    if json_path:
        json_path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
