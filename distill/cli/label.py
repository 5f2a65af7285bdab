"""`empathy label`: options in, one call of the core, closing lines out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.settings import LabelSettings, SampleSettings
from scorer.cli import options as opt
from scorer.cli.main import EXIT_NOTHING_SCORED, fail
from scorer.cli.streams import say

if TYPE_CHECKING:
    from distill.judge.budget import Spending
    from distill.judge.labelling import Labelling, Written
    from distill.panel.label import Panel

MODEL_HELP = "The judge, by the name that the server knows it by."
judge_options: tuple[opt.Decorator, ...] = (
    opt.option(
        "--base-url",
        metavar="URL",
        envvar="OPENAI_BASE_URL",
        show_envvar=True,
        help="The server: OpenAI's, Azure's, or your own (vLLM, llama.cpp, Ollama).  "
        "[default: https://api.openai.com/v1]",
    ),
    opt.option(
        "--rubric",
        "rubric_path",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="A rubric of your own, a text file.  [default: this project's]",
    ),
    *opt.settings_options(
        LabelSettings, "key_name", "temperature", "draws", "logprobs", "max_tokens", key_name="--key-env"
    ),
)
speed_options = opt.settings_options(
    LabelSettings, "concurrency", "timeout", "rpm", "tpm", "batch", "poll_seconds", poll_seconds="--poll"
)
cost_options = opt.settings_options(LabelSettings, "max_requests", "price_in", "price_out")


def budget_option(more: str = "") -> Any:
    """Return --budget, of which ``more`` is said, for a command that asks judges for something else than labels."""
    help_text = f"USD: stop before this run costs more, calls in flight counted at their worst{more}."
    return opt.option("--budget", "--max-cost", "max_cost", type=float, help=help_text)


store_option = opt.option(
    "--store",
    "store_path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    default=Path("empathy-labels.sqlite"),
    help="Where every answer is kept, so that none is paid for twice.",
)
_SAMPLE = ("strategy", "seed", "whole_conversations")


@opt.command(
    examples=(
        "empathy label dialogues.jsonl -o labels.jsonl --model gpt-4.1-mini --max-cost 5",
        "empathy label dialogues.jsonl --model my-judge --base-url http://localhost:8000/v1 --dry-run",
    )
)
@opt.inputs_argument("[IN]...", required=False)
@opt.option_group(
    "Output",
    opt.output_option("OUT", "The labels, JSON lines.", required=False),
    store_option,
    opt.option("--export", "export_only", is_flag=True, help="Write the labels of the store alone; IN is not needed."),
    opt.existing_options[1],
    opt.quiet_option,
)
@opt.option_group(
    "Judge",
    opt.option("--model", "models", multiple=True, help=f"{MODEL_HELP} More than one: each judges every dialogue."),
    *judge_options,
    *opt.settings_options(LabelSettings, "retry_rejects"),
)
@opt.option_group(
    "Cost",
    opt.option("--dry-run", is_flag=True, help="Count calls and tokens, price them, and ask nothing."),
    *opt.settings_options(LabelSettings, "max_cost"),
    *cost_options,
)
@opt.option_group(
    "Sample",
    opt.option(
        "--sample", "count", metavar="N", type=click.IntRange(min=1), help="Label N dialogues of IN.  [default: all]"
    ),
    *opt.settings_options(SampleSettings, *_SAMPLE),
    opt.scorer_option,
)
@opt.option_group("Input", opt.map_option)
@opt.option_group("Speed", *speed_options)
def label(
    inputs: tuple[str, ...],
    output: Path | None,
    models: tuple[str, ...],
    store_path: Path,
    rubric_path: Path | None,
    count: int | None,
    bundle: Path | None,
    fields: dict[str, str],
    *,
    dry_run: bool,
    export_only: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Have an LLM judge dialogues, and write its scores.

    IN is read as by `empathy score`; each dialogue gets sensibility and rationality, 0 to 10. OUT holds one line per
    judgement, OUT.rejects.jsonl what got none, why, and the judge's reply. Every answer is kept in the store when it
    arrives: after a crash, a limit or with more dialogues, the same command asks for what is missing and nothing else.

    Exit codes: 0 done, 1 nothing was labelled, 2 usage, server or file error, 130 interrupted, 143 terminated.
    """
    from distill.judge.rubric import read_rubric
    from distill.judge.store import MEMORY, Store
    from distill.panel.label import Panel
    from distill.sampling.pick import pick_dialogues, read_unlabelled

    if not dry_run:
        _check_output(output, overwrite=overwrite)
    rubric = read_rubric(rubric_path)
    if export_only:
        if inputs or dry_run or output is None:
            fail("--export writes what the store holds, narrowed by --model and --rubric; leave IN and --dry-run out")
        where = {"model": models or None, "q.rubric": [rubric.hash] if rubric_path else None}
        _export(store_path, output, opt.chosen(where), logprobs=given["logprobs"] is not False, quiet=quiet)
        return
    if not inputs:
        fail("no IN; name the dialogues to label, or write what the store holds with --export")
    if not models:
        fail("no --model; name the judge, as --model gpt-4.1-mini, or what your own server calls it")
    sample = SampleSettings(**opt.chosen({name: given.pop(name) for name in _SAMPLE}))
    settings = LabelSettings(model=models[0], **opt.chosen(given))
    dialogues, rejects = read_unlabelled(inputs, fields)
    if count is not None:
        dialogues = pick_dialogues(dialogues, count, sample, bundle=bundle)
    if output is None or dry_run:
        with Store(store_path if store_path.exists() else MEMORY) as store:  # a look at the price leaves nothing behind
            say(*all_estimates(Panel.of_models(dialogues, rubric, settings, models, store)))
        return
    with Store(store_path) as store, store.locked():
        _label(Panel.of_models(dialogues, rubric, settings, models, store), rejects, output, quiet=quiet)


def _check_output(output: Path | None, *, overwrite: bool) -> None:
    from distill.judge.records import is_label_file
    from scorer.apart import check_own, check_rejects
    from scorer.outputs import check_new

    if output is None:
        fail("no output; name one with -o, or see what it would cost with --dry-run")
    if output.is_dir():
        fail(f"{output}: is a folder, expected a file; name another output")
    check_new(output, overwrite=overwrite)
    check_own(output, is_label_file, "file of labels")
    check_rejects(output.with_name(f"{output.name}.rejects.jsonl"))


def _label(panel: Panel, rejects: list[dict[str, Any]], output: Path, *, quiet: bool) -> None:
    from distill.judge.labelling import write_labels
    from scorer.cli.progress import Bar

    try:
        with Bar(sys.stderr, quiet=quiet) as bar:
            outcome, spending = panel.run(bar)
    except KeyboardInterrupt as stop:
        store = panel.store.path
        raise type(stop)(f"what was answered is in {store}: run the same command again to continue") from None
    written = write_labels(panel.judges, outcome, rejects, output)
    say(*([] if quiet else _closing_lines(panel.judges, written, spending, output)), err=True)
    if outcome.stopped:
        say(
            f"empathy: warning: stopped by {outcome.stopped}; {written.unasked} judgements were not asked for", err=True
        )
    if not written.labelled:
        sys.exit(EXIT_NOTHING_SCORED)


def _export(store_path: Path, output: Path, where: Mapping[str, Any], *, logprobs: bool, quiet: bool) -> None:
    from distill.judge.store import Store
    from scorer.outputs import replacing, writing

    lines = 0
    with Store(store_path, create=False) as store, writing(output), replacing(output) as file:
        for record in store.labels(where, logprobs=logprobs):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines += 1
    if not quiet:
        say(f"wrote {lines:,} judgements of {store_path} to {output}", err=True)
    if not lines:
        sys.exit(EXIT_NOTHING_SCORED)


def all_estimates(panel: Panel) -> list[str]:
    """Return what each judge of a panel would ask and cost, and all together."""
    judges = panel.judges
    if len(judges) == 1:
        return estimate_lines(judges[0])
    named = zip(panel.parts, judges, strict=True)
    lines = [line for part, labelling in named for line in (f"{part.name}:", *estimate_lines(labelling))]
    sizes = [(labelling.size, labelling.price) for labelling in judges]
    costs = [
        (price.of(size.prompt, size.completion), price.of(size.most_prompt, size.most_completion))
        for size, price in sizes
        if price
    ]
    if len(costs) == len(judges):
        expected, most = map(sum, zip(*costs, strict=True))
        lines.append(f"all judges: about ${expected:.4f}; ${most:.4f} at most, if every question takes one attempt")
    return lines


def estimate_lines(labelling: Labelling) -> list[str]:
    """Return what a labelling would ask and cost."""
    size, price = labelling.size, labelling.price
    saved, usd = labelling.saved
    lines = [
        f"to ask: {len(labelling.to_ask):,} questions (the store has {saved:,} more, which cost ${usd:.4f})",
        f"tokens: about {size.prompt:,} in and {size.completion:,} out",
    ]
    if price is None:
        return [*lines, f"price: not known for {labelling.settings.model}; give --price-in and --price-out"]
    expected, most = price.of(size.prompt, size.completion), price.of(size.most_prompt, size.most_completion)
    return [
        *lines,
        f"price: ${price.per_million_in:g} in, ${price.per_million_out:g} out per million tokens ({price.source})",
        f"cost: about ${expected:.4f}; ${most:.4f} at most, if every question takes one attempt",
    ]


def _closing_lines(judges: Sequence[Labelling], written: Written, spending: Spending, output: Path) -> list[str]:
    saved, saved_usd = map(sum, zip(*(labelling.saved for labelling in judges), strict=True))
    priced = all(labelling.price is not None for labelling in judges)
    rejected = sum(written.rejected.values())
    total = written.labelled + rejected + written.unasked
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in written.rejected.most_common())
    spent = f"spent ${spending.usd:.4f}" if priced else "spent: no price is known"
    worst = f" and are booked at their worst, ${spending.lost_usd:.4f}" if priced else ""
    lost = f"; {spending.lost:,} calls brought no whole answer{worst}" if spending.lost else ""
    words = written.words.most_common(1)
    lines = [
        f"labelled {written.labelled:,} of {total:,}, {saved:,} of them from the store",
        f"{spent} in {spending.requests:,} requests{lost}",
        f"saved by the store: {saved:,} questions" + (f", ${saved_usd:.4f}" if priced else ""),
        f"rejected: {rejected:,}" + (f" ({reasons}), see {output}.rejects.jsonl" if reasons else ""),
        *(f"most of the rejects say: {detail[:300]}" for detail, _ in words),
    ]
    if not written.labelled:
        return [*lines, f"nothing was labelled, so {output} was not written"]
    for model, tally in written.judges.items():
        who = f"{model}, {tally.labelled:,} labels: " if len(judges) > 1 else ""
        if tally.labelled:
            sensibility, rationality = tally.means
            lines.append(f"{who}means: sensibility {sensibility:.2f}, rationality {rationality:.2f}")
    expected = sum(tally.expected for tally in written.judges.values())
    if expected:
        rest = "" if expected == written.labelled else "; the others are the numbers said"
        lines.append(f"expectations of log-probabilities: {expected:,} of {written.labelled:,} labels{rest}")
    return [*lines, f"wrote {output}"]
