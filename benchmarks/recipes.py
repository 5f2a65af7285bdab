"""What the starter's new recipe brings over the one of release 0.1.0, with one teacher on a part of the data.

    python -m benchmarks.recipes LABELS UNLABELLED... -o WORK --teacher-backbone ENCODER --student-backbone ENCODER

A teacher learns ``--labels`` labels of two thirds of the conversations and scores them, ``--contexts`` unlabelled
dialogues, and re-paired ones of both. Students learn from these by each recipe and are measured on the last third,
which neither has seen, and by the probe on contexts of that third. It runs on a processor in hours; a killed run
continues behind the last finished training.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.learning_curve import cross_fitted, read_dialogues, reduced, taught, training
from benchmarks.starter import STUDENT, TEACHER, TEACHERS
from distill.labelled import LabelledSet, read_labelled
from distill.pretrained import quiet_transformers
from distill.training.calibrate import balanced_cuts
from distill.training.fits import Fit
from distill.training.network import load_network, predict
from distill.training.settings import TrainSettings
from distill.training.soft import SoftSet, read_soft, write_soft
from distill.training.train import run_fit
from scorer.arrays import Mask
from scorer.engines.base import Scores
from selection.metrics import Pair, all_figures, interval, resamples
from selection.probing.kinds import REPLIES, trials_of
from selection.probing.probe import sample_contexts
from selection.rules import PAPER

RELEASE_0_1: dict[str, Any] = {"epochs": 3, "learning_rate": 3e-4, "batch_size": 64, "layer_decay": 0.9}
"""The student of release 0.1.0: no re-paired dialogues, half of the weight on the judge's label."""

FIGURES = ("sensibility.pearson", "rationality.pearson", "paper.kappa", "paper.f1.sensibility")
_PROBED = 200
_DRAWS = 1000


def soft_scores(labelled: LabelledSet, test: Mask, teacher: TrainSettings, work: Path, options: Any) -> SoftSet:
    """Train the teacher and return its scores; both are kept in ``work``."""
    path = work / "soft.parquet"
    if not path.exists():
        run = training(labelled, teacher, work / "teacher")
        fit = Fit("teacher", ~test, test)
        model = run_fit(run, fit)[1] or load_network(run.folder(fit))
        unlabelled = read_dialogues(options["unlabelled"])
        some = random.Random(0).sample(unlabelled, min(options["contexts"], len(unlabelled)))
        soft = taught(run, model, test, some, options["pairs"], options["student_backbone"])
        write_soft(path, soft, {"labels": options["labels"], "contexts": options["contexts"]})
    return read_soft(path)


def kept(model: Any, encoder: Any, labelled: LabelledSet, test: Mask, raw: Scores) -> dict[str, float]:
    """Return the share of real and of bad responses that a student keeps on held-out contexts, by the probe's words."""
    real = [labelled.dialogues[row] for row in np.flatnonzero(test)]
    cuts = balanced_cuts(raw, labelled.scores[test])
    contexts = sample_contexts(real, _PROBED, 0)
    tried = {"real": contexts} | {kind: [one.dialogue for one in trials_of(kind, contexts, 0)] for kind in REPLIES}
    return {
        kind: float((PAPER.apply(predict(model, encoder.encode(dialogues)), cuts) == 0).mean())
        for kind, dialogues in tried.items()
    }


def student(
    labelled: LabelledSet, test: Mask, settings: TrainSettings, soft: SoftSet | None, work: Path
) -> tuple[Scores, dict[str, float]]:
    """Train one student, and return its raw scores of the held-out rows and what it keeps of bad replies."""
    run = training(labelled, settings, work, soft)
    fit = Fit(work.name, ~test, test)
    raw, model = run_fit(run, fit)
    probed = work / "probe.json"
    if not probed.exists():
        probed.write_text(json.dumps(kept(model or load_network(run.folder(fit)), run.encoder, labelled, test, raw)))
    return raw, json.loads(probed.read_text())


def gains(pairs: Mapping[str, Pair], conversations: list[str], base: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Return 95 % intervals of each recipe's figures less those of ``base``, over resampled conversations."""
    _, group = np.unique(conversations, return_inverse=True)
    drawn: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in pairs}
    for weights in resamples(group, _DRAWS, 0):
        found = {name: all_figures(pair, weights) for name, pair in pairs.items()}
        for name, figures in found.items():
            for figure in FIGURES:
                drawn[name][figure].append(figures[figure] - found[base][figure])
    return {name: {figure: interval(values) for figure, values in row.items()} for name, row in drawn.items()}


@click.command()
@click.argument("release")
@click.argument("unlabelled", nargs=-1, required=True)
@click.option("-o", "--work", required=True, type=click.Path(path_type=Path), help="The folder of everything made.")
@click.option("--teacher-backbone", required=True)
@click.option("--student-backbone", required=True)
@click.option("--recipes", help="Students to train, between commas.  [default: all]")
@click.option("--labels", default=1500, show_default=True, help="Labels that are learnt.")
@click.option("--contexts", default=900, show_default=True, help="Unlabelled dialogues.")
@click.option("--pairs", default=2, show_default=True, help="Re-paired dialogues per dialogue.")
@click.option("--epochs", default=4, show_default=True, help="Passes of the new recipe's student.")
@click.option("--batch-size", default=128, show_default=True, help="Its dialogues per step: fewer for less data.")
@click.option("--learning-rate", default=4e-4, show_default=True)
@click.option("--teacher-batch-size", default=32, show_default=True, help="The teacher's: fewer for fewer labels.")
@click.option("--max-length", default=256, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(release: str, work: Path, json_path: Path | None, **options: Any) -> None:
    """Train the same student by both recipes, and print what each reaches and the difference."""
    quiet_transformers()
    work.mkdir(parents=True, exist_ok=True)
    labelled, test = reduced(read_labelled([release]), options["labels"], 1)
    length = {"max_length": options["max_length"]}
    own = {**length, "batch_size": options["teacher_batch_size"]}
    teacher = TrainSettings(backbone=options["teacher_backbone"], **{**TEACHER, **TEACHERS["teacher-1"], **own})
    soft = soft_scores(labelled, test, teacher, work, options)
    of_teacher = soft.scores[0][: int(test.sum())]  # the held-out rows stand first
    now = {**STUDENT, **length} | {name: options[name] for name in ("epochs", "batch_size", "learning_rate")}
    real = soft.take([row for row in range(len(soft)) if soft.is_real(row)])
    recipes: dict[str, tuple[SoftSet | None, dict[str, Any]]] = {
        "release 0.1.0": (real, {**RELEASE_0_1, **length}),
        "now": (soft, now),
        "now without bad replies": (soft, {**now, "counterexamples": 0}),
        "no teacher": (None, {**RELEASE_0_1, **length, "epochs": 5}),
    }
    if options["recipes"]:
        recipes = {name: recipes[name] for name in options["recipes"].split(",")}
    pairs, probes = {"teacher": cross_fitted(labelled, test, of_teacher)}, {}
    for name, (lessons, settings) in recipes.items():
        chosen = TrainSettings(backbone=options["student_backbone"], **settings)
        raw, probes[name] = student(labelled, test, chosen, lessons, work / name.replace(" ", "-"))
        pairs[name] = cross_fitted(labelled, test, raw)
        click.echo(f"{name}: trained", err=True)
    base = "release 0.1.0"
    over = gains(pairs, [labelled.conversations[row] for row in np.flatnonzero(test)], base)
    print(f"{len(soft) - len(of_teacher)} soft scores, {len(real) - len(of_teacher)} of real dialogues\n")
    print("| recipe | r S | r R | kappa | F1 |\n|---|---|---|---|---|")
    for name, pair in pairs.items():
        figures = all_figures(pair)
        cells = (
            f"{figures[figure]:.3f}" + (f" ({low:+.3f} to {high:+.3f})" if name != base else "")
            for figure, (low, high) in over[name].items()
        )
        print(f"| {name} |", " | ".join(cells), "|")
    print("\n| kept | " + " | ".join(probes) + " |\n|---|" + "---|" * len(probes))
    for kind in next(iter(probes.values())):
        print(f"| {kind} |", " | ".join(f"{row[kind]:.1%}" for row in probes.values()), "|")
    if json_path:
        figures_of = {name: {figure: all_figures(pair)[figure] for figure in FIGURES} for name, pair in pairs.items()}
        json_path.write_text(json.dumps({"figures": figures_of, "gains": over, "kept": probes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
