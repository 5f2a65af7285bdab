"""`empathy train`: a judge's labels -> a checkpoint."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.training.settings import DEFAULT_BACKBONE, TrainSettings
from scorer.cli.main import fail

if TYPE_CHECKING:
    from distill.training.checkpoint import Checkpoint
    from scorer.dialogue import Dialogue

_DEFAULTS = TrainSettings()


def _setting(flag: str, kind: Any, text: str, default: str | None = None) -> Any:
    """Return an option of ``TrainSettings``; left out, the record's own default counts, which the help shows."""
    name = flag.removeprefix("--").replace("-", "_")
    shown = default or f"{getattr(_DEFAULTS, name):g}"
    return click.option(flag, name, type=kind, help=f"{text}  [default: {shown}]")


@click.command()
@click.argument("inputs", metavar="LABELS...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="CHECKPOINT",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder to write; OUT.partial holds the work until it is whole.",
)
@click.option("--backbone", metavar="ID_OR_FOLDER", help=f"The encoder to fine-tune.  [default: {DEFAULT_BACKBONE}]")
@click.option(
    "--teacher",
    "teachers",
    metavar="CHECKPOINT",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Learn this checkpoint's scores too; several are averaged.",
)
@click.option("--unlabelled", metavar="IN", multiple=True, help="Dialogues that the teacher scores for the student.")
@_setting("--folds", int, "Cross-validation folds by conversation; 0 holds out a tenth.")
@_setting("--epochs", int, "Passes over the data.")
@_setting("--learning-rate", float, "The last layer's.", default="5e-5 x (768 / hidden size)^2")
@_setting("--batch-size", int, "Dialogues a step and device.")
@_setting("--layers", int, "Keep the backbone's lowest layers only: smaller, faster, less faithful.", default="all")
@_setting("--layer-decay", float, "Factor on the learning rate from a layer to the one below.")
@_setting("--frozen-layers", int, "Lowest layers that are not trained, with the embeddings.")
@_setting("--weight-decay", float, "AdamW's.")
@_setting("--warmup", float, "Share of the steps in which the learning rate rises.")
@_setting("--max-length", int, "Tokens a dialogue, at most.")
@_setting("--judge-share", float, "Weight of the judge's label against the teacher's score of the same dialogue.")
@_setting("--patience", int, "Stop after so many epochs without a lower error.", default="train all epochs")
@_setting("--seed", int, "Of the new head, the order and the dropout.")
@_setting("--split-seed", int, "Of the deal of conversations into folds.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training (or begin, if there is none).")
@click.option("--overwrite", is_flag=True, help="Replace a checkpoint that exists.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no closing lines.")
def train(
    inputs: tuple[str, ...],
    output: Path,
    teachers: tuple[Path, ...],
    unlabelled: tuple[str, ...],
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a scorer on a judge's labels: an encoder with two regression outputs, sensibility and rationality.

    LABELS is any labelled input: `empathy label`'s, the Efficient-Empathy release, or any form that is read with
    sensibility and rationality. Several judgements of a dialogue are averaged. CHECKPOINT is a plain Hugging Face
    folder whose logits are scores from 0 to 10; what it is worth, from held-out conversations, is in its README.md.

    Exit codes: 0 done, 2 usage, label or file error.
    """
    from distill.cli.train_bar import TrainBar
    from distill.labelled import read_labelled
    from distill.training.checkpoint import load_checkpoint
    from distill.training.train import train as train_core

    if resume and overwrite:
        fail("--resume goes on with a training and --overwrite replaces it; give one of them")
    if resume and (output / "empathy.json").exists():
        click.echo(f"{output} is complete already; nothing was trained", err=True)
        return
    settings = TrainSettings(**{name: value for name, value in given.items() if value is not None})
    labelled = read_labelled(inputs)
    teaching = [load_checkpoint(path) for path in teachers]
    quiet = quiet or os.environ.get("RANK", "0") != "0"  # under torchrun the first process speaks
    with TrainBar(sys.stderr, show=sys.stderr.isatty() and not quiet, log=not quiet) as bar:
        checkpoint = train_core(
            labelled,
            settings,
            output,
            teachers=teaching,
            unlabelled=dialogues_of(unlabelled),
            existing="resume" if resume else "overwrite" if overwrite else "error",
            progress=bar,
        )
    for line in [] if quiet else _train_lines(checkpoint, labelled.rejects):
        click.echo(line, err=True)


def dialogues_of(inputs: tuple[str, ...]) -> list[Dialogue]:
    """Return the dialogues of inputs; records that are none are left out."""
    from scorer.dialogue import Dialogue
    from scorer.inputs.corpus import Corpus

    return [record for record in Corpus(inputs) if isinstance(record, Dialogue)] if inputs else []


def _train_lines(checkpoint: Checkpoint, rejects: Any) -> list[str]:
    from distill.training.card import agreement_rows

    training, measured = checkpoint.info["training"], checkpoint.info["measured"]
    return [
        f"trained on {training['dialogues']} dialogues of {training['conversations']} conversations"
        + (f" and {training['unlabelled']} unlabelled ones" if training["unlabelled"] else "")
        + (f"; {len(rejects)} records had no dialogue or label (rejects.jsonl)" if rejects else ""),
        f"measured by {measured['how']}:",
        *(f"  {name:32} {value}" for name, value in agreement_rows(measured)),
        f"written to {checkpoint.path}; next: empathy export {checkpoint.path} -o BUNDLE --check IN",
    ]
