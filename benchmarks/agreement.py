"""Measure how far scorers agree with the judge: baselines, a small encoder alone, its teacher, and the student.

    python -m benchmarks.agreement RELEASE --backbone MINILM --teacher-backbone MPNET --unlabelled IN --work DIR

RELEASE is a folder of the published release (or any labelled input). Everything is cross-validated by conversation on
the labels it finds there. DIR keeps the checkpoints: the same command resumes a killed run and reads a finished one.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.about import machine, versions
from distill.agreement.baselines import baseline_figures
from distill.agreement.compare import judge_against_scores
from distill.labelled import LabelledSet, read_labelled
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.settings import TrainSettings
from distill.training.train import train_scorer
from scorer.cli.progress import Bar
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus

COLUMNS = {
    "r S": "sensibility.pearson",
    "r R": "rationality.pearson",
    "MAE S": "sensibility.mae",
    "MAE R": "rationality.mae",
    "kappa": "paper.kappa",
    "F1": "paper.f1.sensibility",
    "kept": "paper.share.sensibility",
    "judge keeps": "paper.judge_share.sensibility",
}
SMALL = TrainSettings(epochs=3, batch_size=32)
TEACHER = TrainSettings(epochs=2, frozen_layers=4, learning_rate=8e-5)
STUDENT = TrainSettings(epochs=3, batch_size=64, learning_rate=3e-4)
"""The settings of the starter and its teacher; docs/training.md gives them as commands."""


@click.command()
@click.argument("release", nargs=-1, required=True)
@click.option("--backbone", help="A small encoder: fine-tuned alone, and as the student.")
@click.option("--teacher-backbone", help="A large encoder: fine-tuned alone, and as the teacher.")
@click.option("--unlabelled", multiple=True, help="Dialogues that the teacher scores for the student.")
@click.option("--folds", default=3, show_default=True)
@click.option("--split-seed", default=0, show_default=True, help="The seed that assigns conversations to folds.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Keeps the checkpoints.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(
    release: tuple[str, ...],
    backbone: str | None,
    teacher_backbone: str | None,
    unlabelled: tuple[str, ...],
    folds: int,
    split_seed: int,
    work: Path,
    json_path: Path | None,
) -> None:
    """Train what the options ask for, and print how each scorer agrees with the judge."""
    labelled = read_labelled(release)
    work.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, float]] = baseline_figures(labelled, backbone, folds=folds)
    teacher = None
    if teacher_backbone:
        settings = replace(TEACHER, backbone=teacher_backbone, folds=folds, split_seed=split_seed)
        teacher = trained(labelled, settings, work / "teacher")
        rows["large encoder, fine-tuned"] = out_of_fold(labelled, teacher)
    if backbone:
        settings = replace(SMALL, backbone=backbone, folds=folds, split_seed=split_seed)
        rows["small encoder, fine-tuned"] = out_of_fold(labelled, trained(labelled, settings, work / "small"))
    if backbone and teacher:
        dialogues = [record for record in Corpus(unlabelled) if isinstance(record, Dialogue)] if unlabelled else []
        settings = replace(STUDENT, backbone=backbone, folds=folds, split_seed=split_seed)
        student = trained(labelled, settings, work / "student", teacher=teacher, unlabelled=dialogues)
        rows["small encoder, taught by the large one"] = out_of_fold(labelled, student)
    print_table(labelled, rows, folds)
    if json_path:
        found = {"machine": machine(), "versions": versions("torch", "transformers", "scikit-learn"), "rows": rows}
        json_path.write_text(json.dumps(found, indent=1) + "\n")


def trained(labelled: LabelledSet, settings: TrainSettings, path: Path, **teaching: Any) -> Checkpoint:
    """Return the checkpoint at ``path``, trained now if it does not exist."""
    if (path / "empathy.json").exists():
        found = load_checkpoint(path)
        if found.info.settings != settings:
            raise click.ClickException(f"{path}: was trained with {found.info.settings}, name another --work")
        return found
    teachers = [teaching["teacher"]] if "teacher" in teaching else []
    with Bar(sys.stderr) as bar:
        return train_scorer(
            labelled,
            settings,
            path,
            teachers=teachers,
            unlabelled=teaching.get("unlabelled", ()),
            existing="resume",
            progress=bar,
        )


def out_of_fold(labelled: LabelledSet, checkpoint: Checkpoint) -> dict[str, float]:
    """Return the figures of a checkpoint's predictions of held-out conversations."""
    return judge_against_scores(labelled, checkpoint.path / "oof.parquet").measure(draws=0).figures


def print_table(labelled: LabelledSet, rows: dict[str, dict[str, float]], folds: int) -> None:
    """Print the main figures as a Markdown table."""
    conversations = len(set(labelled.conversations))
    print(f"{len(labelled)} labels of {conversations} conversations, {folds}-fold cross-validation by conversation\n")
    print("| |", " | ".join(COLUMNS), "|")
    print("|---|" + "---|" * len(COLUMNS))
    for name, figures in rows.items():
        cells = ("-" if np.isnan(figures[key]) else f"{figures[key]:.3f}" for key in COLUMNS.values())
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
