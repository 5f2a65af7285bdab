"""`empathy report`: options in, one call of the core, closing lines out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say
from selection.settings import ReportSettings


@opt.command(
    examples=(
        "empathy report sets -o report.html",
        "empathy report scores.parquet --dialogues dialogues.jsonl -o report.html",
    ),
    inside=True,
)
@opt.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@opt.option_group(
    "Output",
    opt.output_option("HTML", "The page to write."),
    opt.json_option("drift"),
    *opt.settings_options(ReportSettings, "title"),
    opt.option("--overwrite", is_flag=True, help="Replace files that exist."),
    opt.quiet_option,
)
@opt.option_group(
    "A judge's labels",
    opt.option(
        "--labels",
        metavar="LABELS",
        multiple=True,
        help="A judge's labels of some of the dialogues, by id: agreement and price.",
    ),
    *opt.settings_options(ReportSettings, "judge_price"),
)
@opt.option_group(
    "Plain scores",
    opt.option(
        "--dialogues", metavar="IN", multiple=True, help="Their dialogues: texts, categories and lengths, by id."
    ),
    opt.map_option,
    *opt.settings_options(ReportSettings, "rule", "threshold"),
    opt.option(
        "--scorer", metavar="BUNDLE", type=opt.SCORER, help="Their scorer, where the file does not say its cuts."
    ),
    opt.option("--raw-cuts", is_flag=True, help="Read them as a judge's, without the scorer's cuts."),
)
def report(
    sources: tuple[Path, ...],
    output: Path,
    json_path: Path | None,
    labels: tuple[str, ...],
    dialogues: tuple[str, ...],
    fields: dict[str, str],
    scorer: Path | None,
    *,
    raw_cuts: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Show scores or a selection as one HTML page.

    SOURCE is the output of `empathy select`, or of `empathy score`, which is assigned to sets for the page. One source
    shows scores, sets, patterns, agreement with the judge, stability, cost, reasons and examples. Several show each
    against the first, for batches of a stream: drift of the scores, shares of the sets, dialogues that moved. The page
    needs no other file.

    Exit codes: 0 done, 2 usage or file error.
    """
    from selection.report.build import write_report
    from selection.report.sources.selection_folder import is_selection

    plain = {"dialogues": dialogues, "rule": given["rule"], "threshold": given["threshold"]}
    about_scores = [name for name, value in (plain | {"scorer": scorer, "raw-cuts": raw_cuts}).items() if value]
    if about_scores and all(is_selection(path) for path in sources):
        fail(f"--{about_scores[0]} is about plain scores, and a selection folder has its own; leave it out")
    if fields and not dialogues:
        fail("--map is about the columns of --dialogues; name them")
    if scorer is not None and raw_cuts:
        fail("--scorer gives the cuts and --raw-cuts does without; give one of them")
    found = write_report(
        sources,
        output,
        ReportSettings(**opt.chosen(given)),
        labels=labels,
        dialogues=dialogues,
        fields=fields,
        scorer=scorer,
        raw_cuts=raw_cuts,
        json_path=json_path,
        overwrite=overwrite,
    )
    say(*([] if quiet else report_lines(found, output)), err=True)


def report_lines(found: dict[str, Any], output: Path) -> Iterator[str]:
    """Yield what a report came to, a line per source."""
    for source in found["sources"]:
        overview = source["overview"]
        sets = ", ".join(f"{name} {entry['share']:.1%}" for name, entry in overview["sets"].items())
        yield f"{source['label']}: {overview['dialogues']:,} dialogues; {sets}"
    for entry in found["drift"]:
        heads = ", ".join(f"{head} KS {one['ks']:.3f} PSI {one['psi']:.3f}" for head, one in entry["heads"].items())
        moved = f"; {entry['common']['moved']:.1%} of {entry['common']['dialogues']:,} moved" if entry["common"] else ""
        yield f"{entry['name']} against the first: {heads}{moved}"
    yield f"wrote {output} ({output.stat().st_size / 1e6:.2f} MB)"
