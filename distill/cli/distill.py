"""`empathy distill`: the whole loop in one command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from distill.cli.label import MODEL_HELP, cost_options, judge_options, speed_options, store_option
from distill.settings import LabelSettings, LoopSettings
from distill.training.settings import TrainSettings
from scorer.cli import options as opt
from scorer.cli.main import EXIT_NOTHING_SCORED

_LOOP = ("check", "step", "rounds", "strategy", "target", "min_gain", "seed")
_TRAINING = ("backbone", "allow_pickle", "folds", "epochs", "max_length")


@opt.command(
    examples=(
        "empathy distill dialogues.jsonl -o loop --model gpt-4.1-mini --max-cost 20",
        "empathy distill dialogues.jsonl -o loop --model my-judge --base-url http://localhost:8000/v1 --target 0.8",
    )
)
@opt.inputs_argument()
@opt.option_group("Input", opt.map_option)
@opt.option_group(
    "Output",
    opt.output_option("DIR", "The folder of the loop; DIR/scorer is the scorer."),
    store_option,
    opt.quiet_option,
)
@opt.option_group("Judge", opt.option("--model", required=True, help=MODEL_HELP), *judge_options)
@opt.option_group("Cost", *opt.settings_options(LoopSettings, "max_cost"), *cost_options)
@opt.option_group("Rounds", *opt.settings_options(LoopSettings, *_LOOP))
@opt.option_group("Training", *opt.settings_options(TrainSettings, *_TRAINING))
@opt.option_group("Speed", *speed_options)
def distill(
    inputs: tuple[str, ...],
    output: Path,
    model: str,
    store_path: Path,
    rubric_path: Path | None,
    fields: dict[str, str],
    *,
    quiet: bool,
    **given: Any,
) -> None:
    """Make a scorer from dialogues: label, train, measure, repeat.

    Each round labels --step more dialogues, trains on all of them and measures the scorer on --check others. The loop
    ends at --target, when a round gains less than --min-gain, after --rounds, or at --max-cost. The same command
    continues where it was stopped, with more --rounds or --max-cost if you like.

    Exit codes: 0 done, 1 no round was finished, 2 usage, server or file error, 130 interrupted, 143 terminated.
    """
    from distill.judge.rubric import read_rubric
    from distill.judge.store import Store
    from distill.loop import Loop
    from distill.pretrained import quiet_transformers
    from distill.sampling.pick import read_unlabelled
    from scorer.cli.progress import Bar

    quiet_transformers()
    settings = LoopSettings(**opt.chosen({name: given.pop(name) for name in (*_LOOP, "max_cost")}))
    training = TrainSettings(**opt.chosen({name: given.pop(name) for name in _TRAINING}), seed=settings.seed)
    label = LabelSettings(model=model, **opt.chosen(given))
    rubric = read_rubric(rubric_path)
    dialogues, rejects = read_unlabelled(inputs, fields)
    with Bar(sys.stderr, quiet=quiet) as bar, Store(store_path) as store, store.locked():
        if rejects:
            bar.say(f"{len(rejects)} records are no dialogues; the first: {rejects[0]['detail']}")
        try:
            rounds, why = Loop(dialogues, rubric, label, training, settings, store, output, bar).run()
        except KeyboardInterrupt as stop:
            kept = f"{output} and {store_path} hold what is done: run the same command again to continue"
            raise type(stop)(kept) from None
        bar.say(f"stopped: {why}")
    if not rounds:
        sys.exit(EXIT_NOTHING_SCORED)
