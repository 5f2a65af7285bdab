"""`empathy run`: the whole way as one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from moe.cli.lines import evaluation_lines
from moe.cli.options import base_option, note, quiet_bar
from moe.settings import ComposeSettings, ExpertSettings, GenerateSettings, RouterSettings, RunSettings
from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say
from selection.settings import PUBLISHED, SelectSettings


@opt.command(
    "run",
    examples=(
        "empathy run dialogues.jsonl -o run --base Qwen/Qwen3-0.6B",
        "empathy run dialogues.jsonl -o run --base Qwen/Qwen3-0.6B --epochs 2 --marker other-scorer",
    ),
)
@opt.inputs_argument()
@opt.option_group("Input", opt.map_option)
@opt.option_group("Output", opt.output_option("DIR", "The folder of the run."), opt.quiet_option)
@opt.option_group(
    "Selection",
    opt.option("--scorer", metavar="BUNDLE", type=opt.SCORER, help="The scorer that selects.  [default: the starter]"),
    opt.option("--rule", type=click.Choice(list(PUBLISHED)), help="How sets are chosen.  [default: paper]"),
    opt.option("--threshold", type=float, help="Threshold T of both heads.  [default: 5]"),
    opt.option("--sets", metavar="NAME,NAME", help="The sets that become experts.  [default: the rule's first two]"),
)
@opt.option_group("Experts", base_option(), *opt.settings_options(ExpertSettings, "targets", "epochs", "learning_rate"))
@opt.option_group(
    "Mixture",
    *opt.settings_options(ComposeSettings, "router", "top_k"),
    opt.option(
        "--router-learning-rate",
        type=float,
        help=f"Of the router's training.  [default: {RouterSettings().learning_rate:g}]",
    ),
)
@opt.option_group(
    "Evaluation",
    opt.option(
        "--marker",
        metavar="BUNDLE",
        type=opt.SCORER,
        help="The scorer that marks the responses; use one of other training.  [default: the one that selects]",
    ),
    *opt.settings_options(RunSettings, "held_out", "evaluate_on"),
    *opt.settings_options(GenerateSettings, "max_new_tokens"),
)
@opt.option_group("Every stage", *opt.settings_options(ExpertSettings, "batch_size", "max_length", "seed"))
def run(
    inputs: tuple[str, ...],
    output: Path,
    scorer: Path | None,
    marker: Path | None,
    fields: dict[str, str],
    *,
    quiet: bool,
    **given: Any,
) -> None:
    """Go from the dialogues of IN to a measured mixture.

    It scores, selects, trains experts, composes them, trains the router and evaluates. DIR holds every stage's output
    and state.json. The same command resumes an interrupted run, and repeats only the stages whose inputs or settings
    changed.

    Exit codes: 0 done, 2 usage, input or model error.
    """
    settings = _settings(opt.chosen(given))
    from moe.pipeline import Pipeline
    from scorer.model import Scorer

    selecting = Scorer.load(scorer)
    marking = selecting if marker is None else Scorer.load(marker)
    with quiet_bar(quiet=quiet) as bar:
        found = Pipeline(inputs, output, settings, selecting, marking, bar, fields=fields).run()
    say(*evaluation_lines(found))
    if not quiet:
        note(f"wrote {output}; side by side: {output / 'evaluation' / 'responses.html'}")


def _settings(given: dict[str, Any]) -> RunSettings:
    """Return the settings of all stages from the options that were given."""

    def some(*names: str) -> dict[str, Any]:
        return {name: given[name] for name in names if name in given}

    selection = some("rule")
    if "threshold" in given:
        selection["threshold"] = (given["threshold"], given["threshold"])
    router = some("batch_size", "max_length", "seed")
    if "router_learning_rate" in given:
        router["learning_rate"] = given["router_learning_rate"]
    sets = None
    if "sets" in given:
        sets = tuple(name.strip() for name in given["sets"].split(","))
        if not all(sets):
            fail(f"--sets is {given['sets']!r}, expected names with a comma between them")
    return RunSettings(
        expert=ExpertSettings(**some("base", "targets", "epochs", "learning_rate", "batch_size", "max_length", "seed")),
        select=SelectSettings(**selection),
        compose=ComposeSettings(**{"router": "informed", **some("router", "top_k", "max_length", "seed")}),
        router=RouterSettings(**router),
        generate=GenerateSettings(**some("max_new_tokens", "max_length", "batch_size", "seed")),
        sets=sets,
        **some("held_out", "evaluate_on"),
    )
