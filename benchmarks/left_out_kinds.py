"""Whether a student rejects kinds of bad replies that it was never shown: one kind is left out of training at a time.

    python -m benchmarks.left_out_kinds LABELS SOFT --student-backbone ENCODER -o WORK

SOFT are the teachers' scores (`empathy teach`). Every student is trained without fold 0 and probed on its contexts,
with the probe's wordings, which no student learns. The first column is the student that learns all kinds.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from benchmarks.starter import STUDENT, at_once, options
from distill.labelled import LabelledSet, read_labelled
from distill.pretrained import quiet_transformers
from distill.training.calibrate import balanced_cuts
from distill.training.checkpoint import load_checkpoint
from distill.training.fits import assign
from distill.training.network import predict
from distill.training.settings import TrainSettings
from distill.training.soft import read_soft
from scorer.arrays import Mask
from selection.metrics import Pair, all_figures
from selection.probing.kinds import REPLIES, trials_of
from selection.probing.probe import sample_contexts
from selection.rules import PAPER, to_levels
from selection.settings import ProbeLimits

_PROBED = {"salad": "gibberish", "letters": "gibberish"}
"""Kinds of training that the probe calls otherwise; all others have one name."""

KINDS = ("hostile", "contempt", "dismissive", "letters", "filler", "echo", "unrelated", "refusal", "loop", "injection")


def kept(folder: Path, labelled: LabelledSet, held_out: Mask, sample: int, seed: int) -> tuple[dict[str, float], str]:
    """Return the share of each kind that a fit keeps on contexts it did not see, and its agreement there."""
    checkpoint = load_checkpoint(folder)
    model = checkpoint.load_model()
    rows = np.flatnonzero(held_out)
    real = [labelled.dialogues[row] for row in rows]
    scores = predict(model, checkpoint.encoder.encode(real))
    truth = labelled.scores[rows]
    cuts = balanced_cuts(scores, truth)
    figures = all_figures(Pair.of(truth, scores, to_levels(scores, cuts)))
    contexts = sample_contexts(real, sample, seed)
    shares = {}
    for kind in REPLIES:
        tried = [trial.dialogue for trial in trials_of(kind, contexts, seed)]
        shares[kind] = float((PAPER.apply(predict(model, checkpoint.encoder.encode(tried)), cuts) == 0).mean())
    shares["real"] = float((PAPER.apply(predict(model, checkpoint.encoder.encode(contexts)), cuts) == 0).mean())
    return shares, f"{figures['sensibility.pearson']:.3f} / {figures['rationality.pearson']:.3f}"


@click.command()
@click.argument("labels")
@click.argument("soft", type=click.Path(exists=True, path_type=Path))
@click.option("--student-backbone", required=True)
@click.option("-o", "--work", required=True, type=click.Path(path_type=Path), help="The folder of the fits.")
@click.option("--kinds", default=",".join(KINDS), show_default=True)
@click.option("--sample", default=400, show_default=True, help="Contexts of the probe.")
@click.option("--jobs", default=1, show_default=True, help="Fits at once.")
@click.option("--more", default="", help="Options of `empathy train` that differ from the recipe's.")
def main(
    labels: str, soft: Path, student_backbone: str, work: Path, kinds: str, sample: int, jobs: int, more: str
) -> None:
    """Train a student without each kind, probe it with that kind, and print a table."""
    quiet_transformers()
    work.mkdir(parents=True, exist_ok=True)
    info = read_soft(soft).info
    train = f"train {labels} --backbone {student_backbone} --soft {soft}{info.as_options} {options(STUDENT)} {more} -q"
    left_out = ["", *kinds.split(",")]
    folders = {kind: work / f"without-{kind or 'nothing'}" for kind in left_out}
    at_once(
        jobs,
        [
            (f"{train} -o {folder} --fit 0{kind and f' --left-out-kind {kind}'}", folder.with_suffix(".log"))
            for kind, folder in folders.items()
        ],
    )
    labelled = read_labelled([labels])
    settings = TrainSettings(backbone=student_backbone, folds=info.folds, split_seed=info.split_seed)
    held_out = assign(labelled.conversations, settings).fits[0].held_out
    every, agreement = kept(Path(f"{folders['']}.partial/folds/0"), labelled, held_out, sample, 0)
    print(f"r {agreement} with every kind learnt; real responses kept {every['real']:.1%}")
    print("| kind | kept, learnt | kept, left out | limit | r S / R |\n|---|---|---|---|---|")
    for kind in left_out[1:]:
        shares, agreement = kept(Path(f"{folders[kind]}.partial/folds/0"), labelled, held_out, sample, 0)
        probed = _PROBED.get(kind, kind)
        limit = getattr(ProbeLimits(), probed)
        print(f"| {kind} | {every[probed]:.1%} | {shares[probed]:.1%} | {limit:.0%} | {agreement} |", flush=True)


if __name__ == "__main__":
    main()
