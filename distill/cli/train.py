"""`empathy train`: a judge's labels -> a checkpoint."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.training.settings import TeachSettings, TrainSettings
from scorer.cli import options as opt
from scorer.cli.streams import say

if TYPE_CHECKING:
    from distill.training.checkpoint import Checkpoint
    from scorer.dialogue import Dialogue


@opt.command(
    examples=(
        "empathy train labels.jsonl -o checkpoint",
        "empathy train labels.jsonl -o small --backbone microsoft/MiniLM-L6-H384-uncased --teacher checkpoint",
    )
)
@opt.inputs_argument("LABELS...")
@opt.option_group("Input", opt.map_option)
@opt.option_group(
    "Output",
    opt.output_option("CHECKPOINT", "The folder to write; CHECKPOINT.partial holds the work until it is whole."),
    *opt.existing_options,
    opt.quiet_option,
)
@opt.option_group(
    "Teacher",
    opt.option(
        "--teacher",
        "teachers",
        metavar="CHECKPOINT",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Learn this checkpoint's scores too; several are averaged.",
    ),
    opt.option("--unlabelled", metavar="IN", multiple=True, help="Dialogues that the teacher scores for the student."),
    *opt.settings_options(TeachSettings, "pairs"),
    opt.option(
        "--soft",
        metavar="FILE",
        multiple=True,
        type=click.Path(path_type=Path),
        help="Learn these scores, from `empathy teach`, in place of --teacher's; several files count as one.",
    ),
    *opt.settings_options(TrainSettings, "judge_share"),
)
@opt.option_group(
    "Encoder", *opt.settings_options(TrainSettings, "backbone", "allow_pickle", "layers", "frozen_layers", "max_length")
)
@opt.option_group(
    "Measuring",
    *opt.settings_options(TrainSettings, "folds", "split_seed"),
    opt.option(
        "--fit",
        metavar="N",
        type=int,
        help="Train only fold N (or, N = --folds, on everything), beside other processes; then the same with --resume.",
    ),
)
@opt.option_group(
    "Training",
    *opt.settings_options(
        TrainSettings,
        *("epochs", "patience", "batch_size", "learning_rate", "layer_decay", "weight_decay", "warmup"),
        *("earlier_share", "dropout", "r_drop", "seed"),
    ),
)
@opt.option_group("Robustness", *opt.settings_options(TrainSettings, "counterexamples", "left_out_kind", "edits"))
def train(
    inputs: tuple[str, ...],
    output: Path,
    teachers: tuple[Path, ...],
    unlabelled: tuple[str, ...],
    pairs: int | None,
    soft: tuple[Path, ...],
    fit: int | None,
    fields: dict[str, str],
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a scorer on a judge's labels.

    It is an encoder with two regression outputs, sensibility and rationality. LABELS is any labelled input: `empathy
    label`'s, the Efficient-Empathy release, or any form that is read with sensibility and rationality. Several
    judgements of a dialogue are averaged. CHECKPOINT is a plain Hugging Face folder whose logits are scores from 0 to
    10; what it is worth, from held-out conversations, is in its README.md.

    Exit codes: 0 done, 2 usage, label or file error.
    """
    existing = opt.existing_of(resume=resume, overwrite=overwrite)
    settings = TrainSettings(**opt.chosen(given))
    if soft and (teachers or unlabelled or pairs):
        raise click.UsageError(
            "--soft holds the teachers' scores already: leave out --teacher, --unlabelled and --pairs"
        )
    if fit is not None and teachers:
        raise click.UsageError("--fit takes the teachers' scores from a file: `empathy teach`, then --soft")
    if pairs and not unlabelled:
        raise click.UsageError("--pairs re-pairs --unlabelled dialogues: name some")
    from distill.errors import CHECKPOINT_JSON, TrainError, require_checkpoint
    from distill.labelled import read_labelled
    from distill.pretrained import hub_options, quiet_transformers
    from distill.training.soft import read_soft_files

    complete = (resume or fit is not None) and (output / CHECKPOINT_JSON).exists()
    labelled = read_labelled(inputs, fields)
    softly = read_soft_files(soft) if soft else None
    for path in teachers:
        require_checkpoint(path)
    hub_options(settings.backbone, TrainError)  # what is not there is said before the seconds of imports
    from distill.training.checkpoint import load_checkpoint
    from distill.training.train import train_fit, train_scorer
    from scorer.cli.progress import Bar

    quiet_transformers()
    teaching = [load_checkpoint(path) for path in teachers]
    dialogues = read_dialogues(unlabelled, "--unlabelled", fields)
    teach_settings = TeachSettings(pairs=pairs, near_encoder=settings.backbone) if pairs else None
    quiet = quiet or os.environ.get("RANK", "0") != "0"  # under torchrun the first process speaks
    with Bar(sys.stderr, quiet=quiet) as bar:
        if fit is not None:
            folder = train_fit(labelled, settings, output, fit, soft=softly, progress=bar)
            if not complete:
                bar.say(f"written to {folder}; when all fits are there: the same with --resume and without --fit")
                return
        else:
            checkpoint = train_scorer(
                labelled,
                settings,
                output,
                teachers=teaching,
                unlabelled=dialogues,
                teaching=teach_settings,
                soft=softly,
                existing=existing,
                progress=bar,
            )
    if complete:
        say(f"{output} is complete already; nothing was trained", err=True)
        return
    for line in _closing_lines(checkpoint, len(labelled.rejects)):
        bar.say(line)


def read_dialogues(inputs: tuple[str, ...], flag: str, fields: dict[str, str]) -> list[Dialogue]:
    """Return the dialogues of an option's inputs; say on standard error how many records were none."""
    from scorer.inputs.corpus import Corpus
    from scorer.inputs.parse import Reject

    dialogues, rejects = [], []
    for record in Corpus(inputs, fields=fields) if inputs else ():
        if isinstance(record, Reject):
            rejects.append(record)
        else:
            dialogues.append(record)
    if rejects:
        said = f"{flag}: {len(rejects)} records are no dialogues and were left out; the first: {rejects[0]}"
        say(said, err=True)
    return dialogues


def _closing_lines(checkpoint: Checkpoint, rejected: int) -> list[str]:
    from distill.training.card import agreement_rows, knows_by_heart

    training, measured = checkpoint.info.training, checkpoint.info.measured
    assert measured  # of a whole checkpoint
    advice = knows_by_heart(measured)
    return [
        f"trained on {training.dialogues} dialogues of {training.conversations} conversations"
        + (f" and {training.unlabelled} unlabelled ones" if training.unlabelled else "")
        + (f"; {rejected} records had no dialogue or label (rejects.jsonl)" if rejected else ""),
        f"measured by {measured['how']}:",
        *(f"  {name:32} {value}" for name, value in agreement_rows(measured)),
        *([advice] if advice else []),
        f"written to {checkpoint.path}; next: empathy export {checkpoint.path} -o BUNDLE --check IN",
    ]
