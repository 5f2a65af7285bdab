"""`empathy label`: options in, one call of the core, closing lines out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scorer.cli.main import EXIT_INTERRUPTED, EXIT_NOTHING_SCORED, fail

if TYPE_CHECKING:
    from distill.judge.labelling import Labelling, LabelSettings, Written
    from distill.judge.rubric import Rubric
    from distill.judge.store import Store
    from scorer.dialogue import Dialogue

STRATEGIES = ("random", "stratified", "diverse", "uncertain")


def judge_options(command: Any) -> Any:
    """Add the options that say who judges, how, and for how much at most."""
    for option in reversed(_JUDGE_OPTIONS):
        command = option(command)
    return command


_JUDGE_OPTIONS = (
    click.option("--model", help="The judge, by the name that the server knows it by."),
    click.option(
        "--base-url",
        metavar="URL",
        envvar="OPENAI_BASE_URL",
        show_envvar=True,
        help="The server: OpenAI's, Azure's, or your own (vLLM, llama.cpp, Ollama).  "
        "[default: https://api.openai.com/v1]",
    ),
    click.option(
        "--key-env",
        "key_name",
        metavar="NAME",
        default="OPENAI_API_KEY",
        show_default=True,
        help="The environment variable that holds the key; there is no other way to give it.",
    ),
    click.option(
        "--rubric",
        "rubric_path",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="A rubric of your own, a text file.  [default: this project's]",
    ),
    click.option("--temperature", type=float, default=0.0, show_default=True, help="The judge's."),
    click.option(
        "--draws",
        type=int,
        default=1,
        show_default=True,
        help="Judge each dialogue so many times, to see how far the judge agrees with itself.",
    ),
    click.option(
        "--max-tokens",
        type=int,
        default=128,
        show_default=True,
        help="Tokens an answer, at most; a model that reasons first needs 2000 or more.",
    ),
    click.option("--concurrency", type=int, default=16, show_default=True, help="Calls in flight."),
    click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds a call, in all."),
    click.option("--rpm", type=int, help="Requests a minute, at most."),
    click.option("--tpm", type=int, help="Tokens a minute, at most."),
    click.option("--price-in", type=float, help="USD a million prompt tokens.  [default: OpenAI's, where known]"),
    click.option("--price-out", type=float, help="USD a million answer tokens.  [default: OpenAI's, where known]"),
    click.option(
        "--max-cost",
        metavar="USD",
        type=float,
        help="Stop before this run costs more, calls in flight counted at their worst.",
    ),
    click.option("--max-requests", type=int, help="Stop before this run sends more."),
    click.option("--batch", is_flag=True, help="Use the Batch API: half the price, an answer within a day."),
    click.option(
        "--poll",
        "poll_seconds",
        metavar="SECONDS",
        type=float,
        default=30.0,
        show_default=True,
        help="With --batch: seconds between two looks.",
    ),
    click.option(
        "--store",
        "store_path",
        metavar="PATH",
        type=click.Path(path_type=Path),
        default=Path("empathy-labels.sqlite"),
        show_default=True,
        help="Where every answer is kept, so that none is paid for twice.",
    ),
)


@click.command()
@click.argument("inputs", metavar="[IN]...", nargs=-1)
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help="The labels, JSON lines.")
@judge_options
@click.option("--retry-rejects", is_flag=True, help="Ask again what was rejected before, with five new attempts.")
@click.option("--sample", "count", metavar="N", type=click.IntRange(min=1), help="Label N dialogues of IN.")
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="random",
    show_default=True,
    help="Which N: any, spread over scores, spread over embeddings, or least sure.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the sample.")
@click.option(
    "--scorer",
    "bundle",
    metavar="BUNDLE",
    type=click.Path(path_type=Path),
    help="Whose scores stratified and uncertain go by.  [default: the starter]",
)
@click.option("--whole-conversations", is_flag=True, help="Keep the dialogues of a conversation together.")
@click.option("--dry-run", is_flag=True, help="Count calls and tokens, price them, and ask nothing.")
@click.option("--export", "export_only", is_flag=True, help="Write the labels of the store alone; IN is not needed.")
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no closing lines; warnings and errors only.")
def label(
    inputs: tuple[str, ...],
    output: Path | None,
    model: str | None,
    store_path: Path,
    rubric_path: Path | None,
    count: int | None,
    *,
    dry_run: bool,
    export_only: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Have an LLM judge the dialogues in IN for sensibility and rationality, 0 to 10, and write them with its scores.

    IN is read as by `empathy score`. OUT holds a line a judgement; OUT.rejects.jsonl what got none, why, and the
    judge's reply. Every answer is kept in the store when it arrives: after a crash, a limit or with more dialogues,
    the same command asks for what is missing and nothing else.

    Exit codes: 0 done, 1 nothing was labelled, 2 usage, server or file error, 130 interrupted.
    """
    from distill.judge.rubric import read_rubric
    from distill.judge.store import MEMORY, Store
    from distill.sampling.pick import pick, read_dialogues

    if output is None and not dry_run:
        fail("no output; name one with -o, or see what it would cost with --dry-run")
    if output is not None and not dry_run:
        _check_output(output, overwrite=overwrite)
    rubric = read_rubric(rubric_path)
    if export_only:
        _export(store_path, output, model, rubric if rubric_path else None, inputs, dry_run=dry_run, quiet=quiet)
        return
    if not inputs:
        fail("no IN; name the dialogues to label, or write what the store holds with --export")
    if model is None:
        fail("no --model; name the judge, as --model gpt-4.1-mini, or what your own server calls it")
    choice = {name: given.pop(name) for name in ("strategy", "seed", "bundle", "whole_conversations")}
    settings = _settings(model, given)
    dialogues, rejects = read_dialogues(inputs)
    if count is not None:
        dialogues = pick(dialogues, count, **choice)
    if dry_run and not store_path.exists():
        store_path = MEMORY  # a look at the price leaves nothing behind
    with Store(store_path) as store:
        if dry_run:
            for line in _estimate_lines(_labelling(dialogues, rubric, settings, store)):
                click.echo(line)
            return
        assert output is not None
        with store.locked():
            _label(_labelling(dialogues, rubric, settings, store), rejects, output, quiet=quiet)


def _settings(model: str, given: dict[str, Any]) -> LabelSettings:
    from distill.judge.labelling import LabelSettings

    return LabelSettings(model=model, **given)


def _labelling(dialogues: list[Dialogue], rubric: Rubric, settings: LabelSettings, store: Store) -> Labelling:
    from distill.judge.labelling import Labelling

    return Labelling(dialogues, rubric, settings, store)


def _label(labelling: Labelling, rejects: list[dict[str, Any]], output: Path, *, quiet: bool) -> None:
    from distill.cli.label_bar import LabelBar
    from distill.judge.labelling import INTERRUPTED, write_labels

    store = labelling.store.path
    show = sys.stderr.isatty() and not quiet
    try:
        with LabelBar(sys.stderr, show=show, log=not quiet, priced=labelling.price is not None) as bar:
            outcome, spending = labelling.run(bar)
    except KeyboardInterrupt:
        click.echo(f"empathy: interrupted; what was answered is in {store}: run the same command again", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if outcome.stopped == INTERRUPTED:
        click.echo(
            f"empathy: interrupted; {outcome.scored} new answers are in {store}: go on with the same command", err=True
        )
        sys.exit(EXIT_INTERRUPTED)
    written = write_labels(labelling, outcome, rejects, output)
    for line in [] if quiet else _closing_lines(labelling, written, spending, output):
        click.echo(line, err=True)
    if outcome.stopped:
        click.echo(
            f"empathy: warning: stopped by {outcome.stopped}; {written.unasked} judgements were not asked for", err=True
        )
    if not written.labelled:
        sys.exit(EXIT_NOTHING_SCORED)


def _check_output(output: Path, *, overwrite: bool) -> None:
    from scorer.errors import OutputError

    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder, expected a file; name another output")
    if output.exists() and not overwrite:
        raise OutputError(
            f"{output}: exists already; name another output or say --overwrite (what is in the store is not paid again)"
        )


def _export(
    store_path: Path,
    output: Path | None,
    model: str | None,
    rubric: Rubric | None,
    inputs: tuple[str, ...],
    *,
    dry_run: bool,
    quiet: bool,
) -> None:
    import json

    from distill.judge.store import Store
    from scorer.outputs import replacing, writing

    if inputs or dry_run or output is None:
        fail("--export writes all that the store holds, narrowed by --model and --rubric; leave IN and --dry-run out")
    where = {"model": model, "q.rubric": rubric.hash if rubric else None}
    lines = 0
    with Store(store_path, create=False) as store, writing(output), replacing(output) as file:
        for record in store.labels({name: value for name, value in where.items() if value is not None}):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines += 1
    if not quiet:
        click.echo(f"wrote {lines:,} judgements of {store_path} to {output}", err=True)
    if not lines:
        sys.exit(EXIT_NOTHING_SCORED)


def _estimate_lines(labelling: Labelling) -> list[str]:
    found = labelling.estimate()
    saved, usd = labelling.saved
    price = labelling.price
    lines = [
        f"to ask: {found.calls:,} questions (the store has {saved:,} more, which cost ${usd:.4f})",
        f"tokens: about {found.prompt_tokens:,} in and {found.completion_tokens:,} out",
    ]
    if price is None:
        lines.append(f"price: not known for {labelling.settings.model}; give --price-in and --price-out")
    else:
        lines += [
            f"price: ${price.per_million_in:g} in, ${price.per_million_out:g} out a million tokens ({price.source})",
            f"cost: about ${found.usd:.4f}; ${found.most_usd:.4f} at most, if every question takes one attempt",
        ]
    return lines


def _closing_lines(labelling: Labelling, written: Written, spending: Any, output: Path) -> list[str]:
    saved, saved_usd = labelling.saved
    priced = labelling.price is not None
    total = written.labelled + sum(written.rejected.values()) + written.unasked
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in written.rejected.most_common())
    lost = f"; {spending.lost:,} calls brought no whole answer" + (
        f" and are booked at their worst, ${spending.lost_usd:.4f}" if priced else ""
    )
    lines = [
        f"labelled {written.labelled:,} of {total:,}, {saved:,} of them from the store",
        (f"spent ${spending.usd:.4f}" if priced else "spent: no price is known")
        + f" in {spending.requests:,} requests"
        + (lost if spending.lost else ""),
        f"saved by the store: {saved:,} questions" + (f", ${saved_usd:.4f}" if priced else ""),
        f"rejected: {sum(written.rejected.values()):,}"
        + (f" ({reasons}), see {output}.rejects.jsonl" if reasons else ""),
    ]
    if written.labelled:
        means = [total / written.labelled for total in written.sums]
        lines.append(f"means: sensibility {means[0]:.2f}, rationality {means[1]:.2f}")
        lines.append(f"wrote {output}")
    else:
        lines.append(f"nothing was labelled, so {output} was not written")
    return lines
