"""`empathy distill`: the whole loop in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from distill.cli.label import STRATEGIES, judge_options
from distill.training.settings import DEFAULT_BACKBONE
from scorer.cli.main import EXIT_INTERRUPTED, EXIT_NOTHING_SCORED, fail

_TRAINING = ("backbone", "folds", "epochs", "max_length")
_LOOP = ("check", "step", "rounds", "strategy", "target", "min_gain", "seed", "max_cost")


@click.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder of the loop; DIR/scorer is the scorer.",
)
@judge_options
@click.option(
    "--check",
    type=int,
    default=300,
    show_default=True,
    help="Dialogues that are labelled to measure and never trained on, drawn at random.",
)
@click.option("--step", type=int, default=500, show_default=True, help="Dialogues that each round labels.")
@click.option("--rounds", type=int, default=5, show_default=True, help="Rounds, at most.")
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="uncertain",
    show_default=True,
    help="Which dialogues a round labels; the last scorer says where it is least sure.",
)
@click.option("--target", type=float, help="Stop at this agreement: Pearson's r with the judge, both heads' mean.")
@click.option("--min-gain", type=float, default=0.005, show_default=True, help="Stop after a round that gains less.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples and the training.")
@click.option(
    "--backbone", metavar="ID_OR_FOLDER", default=DEFAULT_BACKBONE, show_default=True, help="The encoder to fine-tune."
)
@click.option("--folds", type=int, default=0, show_default=True, help="Cross-validation folds of each training.")
@click.option("--epochs", type=int, default=3, show_default=True, help="Passes over the labels.")
@click.option("--max-length", type=int, default=256, show_default=True, help="Tokens a dialogue, at most.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no closing lines; warnings and errors only.")
def distill(
    inputs: tuple[str, ...],
    output: Path,
    model: str | None,
    store_path: Path,
    rubric_path: Path | None,
    *,
    quiet: bool,
    **given: Any,
) -> None:
    """Make a scorer from the dialogues in IN: sample, label, train, export, agree, and again.

    Each round labels --step more dialogues, trains on all of them and reads the scorer on --check others. The loop
    ends at --target, when a round gains less than --min-gain, after --rounds, or at --max-cost, which counts all runs
    of the loop. The same command goes on where it was stopped, with more --rounds or --max-cost if you like.

    Exit codes: 0 done, 1 no round was finished, 2 usage, server or file error, 130 interrupted.
    """
    from distill.cli.label_bar import LabelBar
    from distill.cli.train_bar import TrainBar
    from distill.judge.labelling import LabelSettings
    from distill.judge.rubric import read_rubric
    from distill.judge.store import Store
    from distill.loop import Loop, LoopSettings
    from distill.sampling.pick import read_dialogues
    from distill.training.settings import TrainSettings

    if model is None:
        fail("no --model; name the judge, as --model gpt-4.1-mini, or what your own server calls it")
    training = TrainSettings(**{name: given.pop(name) for name in _TRAINING}, seed=given["seed"])
    settings = LoopSettings(**{name: given.pop(name) for name in _LOOP})
    label = LabelSettings(model=model, max_cost=settings.max_cost, **given)
    rubric = read_rubric(rubric_path)
    dialogues, rejects = read_dialogues(inputs)
    if rejects and not quiet:
        click.echo(f"{len(rejects)} records are no dialogues; the first: {rejects[0]['detail']}", err=True)
    show = sys.stderr.isatty() and not quiet

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    with (
        Store(store_path) as store,
        store.locked(),
        LabelBar(sys.stderr, show=show, log=not quiet, priced=settings.max_cost is not None) as label_bar,
        TrainBar(sys.stderr, show=show, log=not quiet) as train_bar,
    ):
        try:
            loop = Loop(
                dialogues,
                rubric,
                label,
                training,
                settings,
                store,
                output,
                say=say,
                watcher=label_bar,
                progress=train_bar,
            )
            rounds, why = loop.run()
        except KeyboardInterrupt:
            click.echo(
                f"empathy: interrupted; go on with the same command: {output} and {store_path} hold the rest", err=True
            )
            sys.exit(EXIT_INTERRUPTED)
    say(f"stopped: {why}")
    if not rounds:
        sys.exit(EXIT_NOTHING_SCORED)
