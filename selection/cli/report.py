"""`empathy report`: options in, one call of the core, closing lines out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from scorer.cli.main import fail
from selection.rules import RULES


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", metavar="HTML", type=click.Path(path_type=Path), required=True, help="The page to write."
)
@click.option(
    "--dialogues",
    metavar="IN",
    multiple=True,
    help="The dialogues of plain scores: texts, categories and lengths, by id.",
)
@click.option(
    "--labels",
    metavar="LABELS",
    multiple=True,
    help="A judge's labels of some of the dialogues, by id: agreement and price.",
)
@click.option("--rule", type=click.Choice(list(RULES)), help="How plain scores are dealt.  [default: paper]")
@click.option("--threshold", type=float, help="T of both heads for plain scores, 1 to 9.  [default: 5]")
@click.option(
    "--scorer",
    metavar="BUNDLE",
    type=click.Path(path_type=Path),
    help="The scorer of plain scores, where the file does not say its cuts.",
)
@click.option("--raw-cuts", is_flag=True, help="Read plain scores as a judge's, without the scorer's cuts.")
@click.option(
    "--judge-price", type=float, metavar="USD", help="US dollars a judgement, where no label has judge.cost_usd."
)
@click.option(
    "--json", "json_path", metavar="FILE", type=click.Path(path_type=Path), help="Write every number on the page."
)
@click.option("--title", help="The page's title.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("-q", "--quiet", is_flag=True, help="No closing lines.")
def report(
    sources: tuple[Path, ...],
    output: Path,
    dialogues: tuple[str, ...],
    labels: tuple[str, ...],
    rule: str | None,
    threshold: float | None,
    scorer: Path | None,
    judge_price: float | None,
    json_path: Path | None,
    title: str | None,
    *,
    raw_cuts: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Show scores or a selection as one HTML page, complete in itself.

    SOURCE is the output of `empathy select`, or of `empathy score`, which is dealt for the page. One source: scores,
    sets, patterns, agreement with the judge, stability, cost, reasons and examples. Several: each against the first,
    for batches of a stream: drift of the scores, shares of the sets, dialogues that moved.

    Exit codes: 0 done, 2 usage or file error.
    """
    from scorer.inputs.corpus import Corpus
    from selection.files.labels import read_labels
    from selection.report.build import ReportSettings, check_outputs
    from selection.report.build import report as report_core
    from selection.report.sources.selection_folder import is_selection

    given = {
        "--dialogues": dialogues,
        "--rule": rule,
        "--threshold": threshold,
        "--scorer": scorer,
        "--raw-cuts": raw_cuts,
    }
    about_scores = [name for name, value in given.items() if value not in (None, False, ())]
    if about_scores and all(is_selection(path) for path in sources):
        fail(f"{about_scores[0]} is about plain scores, and a selection folder has its own; leave it out")
    if scorer is not None and raw_cuts:
        fail("--scorer gives the cuts and --raw-cuts does without; give one of them")
    check_outputs(sources, output, json_path, overwrite=overwrite)
    chosen: dict[str, Any] = {"rule": rule, "threshold": threshold, "judge_price": judge_price, "title": title}
    settings = ReportSettings(**{name: value for name, value in chosen.items() if value is not None})
    table = read_labels(labels) if labels else None
    if table is not None and table.judges.price is not None and judge_price is not None:
        fail(f"the labels say what a judgement cost (${table.judges.price:.4g} on average); leave --judge-price out")
    found = report_core(
        sources,
        output,
        settings,
        corpus=Corpus(dialogues) if dialogues else None,
        labels=table,
        scorer=scorer,
        raw_cuts=raw_cuts,
        json_path=json_path,
        overwrite=overwrite,
    )
    for line in [] if quiet else report_lines(found, output):
        click.echo(line, err=True)


def report_lines(found: dict[str, Any], output: Path) -> Iterator[str]:
    """Yield what a report came to, a line a source."""
    for source in found["sources"]:
        overview = source["overview"]
        sets = ", ".join(f"{name} {entry['share']:.1%}" for name, entry in overview["sets"].items())
        yield f"{source['label']}: {overview['dialogues']:,} dialogues; {sets}"
    for entry in found["drift"]:
        heads = ", ".join(f"{head} KS {one['ks']:.3f} PSI {one['psi']:.3f}" for head, one in entry["heads"].items())
        moved = f"; {entry['common']['moved']:.1%} of {entry['common']['dialogues']:,} moved" if entry["common"] else ""
        yield f"{entry['name']} against the first: {heads}{moved}"
    yield f"wrote {output} ({output.stat().st_size / 1e6:.2f} MB)"
