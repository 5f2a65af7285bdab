"""`empathy rubric ...`: rubrics shown, and tried on labelled dialogues."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.cli.label import MODEL_HELP, budget_option, cost_options, judge_options, speed_options, store_option
from distill.settings import LabelSettings, RubricSettings
from scorer.cli import options as opt
from scorer.cli.main import EXIT_NOTHING_SCORED, fail
from scorer.cli.streams import say

if TYPE_CHECKING:
    from distill.labelled import LabelledSet
    from distill.panel.label import Panel, Part
    from selection.rubrics.run import RubricRun

_SAMPLE = ("sample", "strategy", "seed")
_FIGURES = ("threshold", "bootstrap")
_SHOWN = ("show", "reasons")
_ASKED = (
    judge_options[0],
    *opt.settings_options(LabelSettings, "key_name", "temperature", "logprobs", "max_tokens", key_name="--key-env"),
)
"""All but the rubric, which is an argument here, and the draws, which are the repeats."""


@opt.group(
    examples=(
        "empathy rubric show brief > mine.txt",
        "empathy rubric test default mine.txt --on labels.jsonl --model gpt-4.1-mini --budget 2 -o rubrics.html",
    )
)
def rubric() -> None:
    """Show rubrics, and test them on labelled dialogues."""


@rubric.command(examples=("empathy rubric show", "empathy rubric show default > mine.txt"))
@opt.argument("name", metavar="[RUBRIC]", required=False, help="A file, or one that ships.")
def show(name: str | None) -> None:
    """Print a rubric, or the names of those that ship.

    Exit codes: 0 done, 2 usage or file error.
    """
    from distill.judge.rubric import SHIPPED, read_rubric

    say(*(SHIPPED if name is None else read_rubric(Path(name)).text.splitlines()))


@rubric.command(
    examples=(
        "empathy rubric test default mine.txt --on labels.jsonl --model gpt-4.1-mini --sample 200 -o out.html",
        "empathy rubric test mine.txt --on labels.jsonl --model a --model b --json run.json -o out.html",
    )
)
@opt.argument(
    "rubrics", metavar="[RUBRIC]...", nargs=-1, required=False, help="Files, or names that `empathy rubric show` lists."
)
@opt.option_group(
    "Input",
    opt.option(
        "--on", "inputs", metavar="LABELS", multiple=True, required=True, help="Labelled dialogues of any form."
    ),
    opt.map_option,
)
@opt.option_group(
    "Output",
    opt.output_option("PAGE", "The page, one HTML file that loads nothing.", required=False),
    opt.json_option("rubric_test"),
    store_option,
    opt.existing_options[1],
    opt.quiet_option,
)
@opt.option_group(
    "Judge",
    opt.option(
        "--model", "models", multiple=True, required=True, help=f"{MODEL_HELP} More than one: each by each rubric."
    ),
    *_ASKED,
    *opt.settings_options(LabelSettings, "retry_rejects"),
)
@opt.option_group("Sample", *opt.settings_options(RubricSettings, *_SAMPLE, "repeats"))
@opt.option_group("Figures", *opt.settings_options(RubricSettings, *_FIGURES, *_SHOWN))
@opt.option_group(
    "Cost",
    opt.option("--dry-run", is_flag=True, help="Count calls and tokens, price them, and ask nothing."),
    budget_option("; all variants together"),
    *cost_options,
)
@opt.option_group("Speed", *speed_options)
def test(
    rubrics: tuple[str, ...],
    inputs: tuple[str, ...],
    fields: dict[str, str],
    output: Path | None,
    json_path: Path | None,
    models: tuple[str, ...],
    store_path: Path,
    *,
    dry_run: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Try rubrics and models on the same labelled dialogues.

    Each RUBRIC with each --model judges the same sample of LABELS. The page and the JSON show each variant's agreement
    with the labels and with the others, its spread, failures, tokens and cost, and the dialogues that changed most,
    with what the judges say why. Every answer is kept in the store: after a crash or a limit the same command asks for
    the rest. `empathy check EARLIER.json LATER.json` holds a later run against an earlier one.

    Exit codes: 0 done, 1 nothing was judged, 2 usage, server or file error, 130 interrupted, 143 terminated.
    """
    from distill.judge.store import MEMORY, Store
    from distill.labelled import read_labelled
    from distill.rubrics.trial import panel_of, read_rubrics, sample_of, variants_of
    from selection.report.page import check_page

    settings = RubricSettings(
        **opt.chosen({name: given.pop(name) for name in (*_SAMPLE, "repeats", *_FIGURES, *_SHOWN)})
    )
    label = LabelSettings(model=models[0], draws=settings.repeats, **opt.chosen(given))
    if not dry_run:
        if output is None:
            fail("no output; name the page with -o, or see what it would cost with --dry-run")
        check_page(output, overwrite=overwrite)
    read = read_rubrics(rubrics)
    whole = read_labelled(inputs, fields)
    labelled = sample_of(whole, settings)
    variants = variants_of(read, models, labelled.dialogues)
    if dry_run or output is None:
        with Store(store_path if store_path.exists() else MEMORY) as store:
            _estimate(panel_of(variants, label, store), settings)
        return
    with Store(store_path) as store, store.locked():
        run = _run(labelled, variants, panel_of(variants, label, store), settings, inputs, whole, quiet=quiet)
    _write(run, output, json_path, quiet=quiet)


def _estimate(panel: Panel, settings: RubricSettings) -> None:
    from distill.cli.label import all_estimates

    say(*all_estimates(panel))
    if settings.reasons and settings.show:
        say(f"reasons: at most {2 * settings.show} questions more, which are not in these figures")


def _run(
    labelled: LabelledSet,
    variants: Sequence[tuple[str, Part]],
    panel: Panel,
    settings: RubricSettings,
    inputs: Sequence[str],
    whole: LabelledSet,
    *,
    quiet: bool,
) -> RubricRun:
    """Ask, ask why, and measure."""
    from distill.errors import LabelError
    from distill.judge.budget import Spending
    from distill.rubrics.changed import Reasons, ask_reasons, most_changed
    from distill.rubrics.report import compared_columns, describe
    from distill.rubrics.trial import run_trial
    from scorer.cli.progress import Bar

    reasons: Reasons = {}
    more, notes = Spending(), []
    if whole.rejects:
        notes.append(f"{len(whole.rejects)} records had no dialogue or label; the first: {whole.rejects[0]}")
    try:
        with Bar(sys.stderr, quiet=quiet) as bar:
            trial = run_trial(labelled, variants, panel, bar)
            extremes = most_changed(
                compared_columns(trial), settings.show, [dialogue.id for dialogue in labelled.dialogues]
            )
            if settings.reasons and trial.outcome.stopped is None:
                parts = [part for _, part in variants]
                try:
                    reasons, more, stopped = ask_reasons(trial, extremes, parts, panel.settings, bar)
                except LabelError as error:  # the judgements are there, and worth more than the reasons
                    stopped = str(error)
                notes += [f"not every reason was asked for: stopped by {stopped}"] if stopped else []
            bar.stage("measuring")
            return describe(trial, settings, inputs, len(whole), reasons=reasons, spent_on_reasons=more, notes=notes)
    except KeyboardInterrupt as stop:
        kept = f"what was answered is in {panel.store.path}: run the same command again to continue"
        raise type(stop)(kept) from None


def _write(run: RubricRun, output: Path, json_path: Path | None, *, quiet: bool) -> None:
    from distill.rubrics.page import write_run_page
    from distill.rubrics.report import run_lines
    from scorer.outputs import write_json

    judged = sum(variant.judged for variant in run.variants)
    spent = run.spent
    usd = "no price is known" if spent.usd is None else f"${spent.usd:.4f}"
    worst = "" if spent.lost_usd is None else f" and are booked at their worst, ${spent.lost_usd:.4f}"
    lost = f"; {spent.lost:,} calls brought no whole answer{worst}" if spent.lost else ""
    closing = [f"spent {usd} in {spent.requests:,} requests, {spent.from_store:,} judgements from the store{lost}"]
    if judged:
        write_run_page(run, output)
        if json_path is not None:
            write_json(json_path, run)
        say(*run_lines(run))
        closing += [f"wrote {path}" for path in (output, json_path) if path is not None]
    else:
        reasons = {reason: n for variant in run.variants for reason, n in variant.reasons.items()}
        closing.append(
            f"nothing was judged, so {output} was not written" + (f" ({', '.join(reasons)})" if reasons else "")
        )
    say(*(() if quiet else closing), err=True)
    if run.stopped:
        unasked = sum(variant.unasked for variant in run.variants)
        say(f"empathy: warning: stopped by {run.stopped}; {unasked} judgements were not asked for", err=True)
    if not judged:
        sys.exit(EXIT_NOTHING_SCORED)
