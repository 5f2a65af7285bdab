"""`empathy demo`: the main job from end to end - score, select, report - on the examples or a file of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say

if TYPE_CHECKING:
    from scorer.inputs.corpus import Corpus

SCORES, SETS, REPORT, MARK = "scores.parquet", "sets", "report.html", "demo.json"


@opt.command(examples=("empathy demo", "empathy demo dialogues.jsonl -o my-demo"))
@opt.inputs_argument("[IN]...", required=False)
@opt.option_group(
    "Options",
    opt.output_option(
        "DIR", "For scores, sets, report; replaces an earlier demo's.  [default: empathy-demo]", required=False
    ),
    opt.scorer_option,
    opt.map_option,
)
def demo(inputs: tuple[str, ...], output: Path | None, bundle: Path | None, fields: dict[str, str]) -> None:
    """Score IN, select training sets from it, draw a report.

    Left out, IN is the examples that come with the package. The scores are shown in the terminal as well.
    """
    from scorer.apart import check_apart
    from scorer.cli.preview import examples_path, show_scores
    from scorer.cli.progress import Bar
    from scorer.inputs.corpus import Corpus
    from scorer.inputs.files.sources import STDIN
    from scorer.model import Scorer
    from scorer.outputs import check_folder, write_json, writing
    from scorer.run.score import score_files
    from scorer.run.settings import ScoreSettings

    if STDIN in inputs:
        fail("the demo reads its input more than once, so standard input will not do; name a file")
    if fields and not inputs:
        fail("--map is about the columns of IN; name an input")
    corpus = Corpus(inputs or (str(examples_path()),), fields=fields, keep_records=True)
    output = output or Path("empathy-demo")
    scorer = Scorer.load(bundle)
    check_apart(output, *inputs)
    check_folder(output, "overwrite", MARK, "`empathy demo`")
    with writing(output):
        output.mkdir(exist_ok=True)
    write_json(output / MARK, {"made_by": "empathy demo"})
    with Bar(sys.stderr) as progress:
        score_files(scorer, corpus, output / SCORES, ScoreSettings(existing="overwrite"), progress)
    show_scores(scorer, corpus, output / SCORES, sys.stdout)
    say(*_selected(corpus, output))


def _selected(corpus: Corpus, output: Path) -> Iterator[str]:
    """Select and draw; yield what came of it."""
    from scorer.run.score_table import read_scores
    from selection.cli.select import select_lines
    from selection.select import select_sets
    from selection.settings import SelectSettings

    table = read_scores(output / SCORES)
    found = select_sets(corpus, output / SETS, SelectSettings(), table=table, overwrite=True)
    yield ""
    yield from select_lines(found)
    try:
        from selection.report.build import write_report
        from selection.settings import ReportSettings

        write_report([output / SETS], output / REPORT, ReportSettings(), overwrite=True)
    except ModuleNotFoundError as error:
        yield f"no report, since {error.name} is not installed: pip install 'empathy-scorer[select]'"
    else:
        yield f"drew {output / REPORT}: open it in a browser"
