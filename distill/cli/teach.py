"""`empathy teach`: teachers' scores of dialogues, by fold, as a file for students."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from distill.training.settings import TeachSettings
from scorer.cli import options as opt
from scorer.cli.streams import say


@opt.command(
    examples=(
        "empathy teach teacher-1 teacher-2 labels.jsonl dialogues.jsonl -o soft.parquet",
        "empathy teach teacher dialogues.jsonl --pairs 3 -o soft.parquet",
    )
)
@opt.inputs_argument("TEACHER... IN...")
@opt.option_group("Input", opt.map_option)
@opt.option_group(
    "Output",
    opt.output_option("FILE", "The Parquet file to write; FILE.partial holds the work until it is whole."),
    *opt.existing_options,
    opt.quiet_option,
)
@opt.option_group("Re-paired dialogues", *opt.settings_options(TeachSettings, "pairs", "near_encoder", "seed"))
def teach(
    inputs: tuple[str, ...],
    fields: dict[str, str],
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Score dialogues by teachers, for students to learn.

    TEACHER is a checkpoint of `empathy train`, best one with --folds: then each fold's scores are by the models that
    did not see the fold, and a student trained with the same --folds and --split-seed on `empathy train --soft FILE` is
    measured honestly. Several teachers are averaged. IN are dialogues in any form that is read; name the labelled files
    too. Every input that is a checkpoint's folder is a teacher.

    Exit codes: 0 done, 2 usage, teacher or file error.
    """
    existing = opt.existing_of(resume=resume, overwrite=overwrite)
    settings = TeachSettings(**opt.chosen(given))
    from distill.cli.train import read_dialogues
    from distill.errors import CHECKPOINT_JSON
    from distill.pretrained import quiet_transformers
    from distill.training import teach as teaching
    from distill.training.checkpoint import load_checkpoint
    from scorer.cli.progress import Bar

    quiet_transformers()
    complete = resume and output.exists()
    teachers = [name for name in inputs if (Path(name) / CHECKPOINT_JSON).is_file()]
    rest = tuple(name for name in inputs if name not in teachers)
    if not teachers or not rest:
        missing = "a checkpoint of `empathy train`" if not teachers else "dialogues to score"
        raise click.UsageError(f"{', '.join(inputs)}: {missing} is missing; expected TEACHER... IN...")
    checkpoints = [load_checkpoint(name) for name in teachers]
    dialogues = read_dialogues(rest, "IN", fields)
    with Bar(sys.stderr, quiet=quiet) as bar:
        soft = teaching.teach(checkpoints, dialogues, settings, output, existing=existing, progress=bar)
        if complete:
            say(f"{output} is complete already; nothing was scored", err=True)
            return
        bar.say(f"{len(soft)} dialogues, {soft.re_paired} of them re-paired, scored by {len(checkpoints)} teachers")
        bar.say(f"written to {output}; next: empathy train LABELS --soft {output} -o STUDENT" + soft.info.as_options)
