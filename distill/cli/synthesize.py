"""`empathy synthesize`: options in, one call of each stage, the table by region out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.cli.label import budget_option, cost_options, judge_options, speed_options, store_option
from distill.settings import LabelSettings
from distill.synthesis.settings import DEFAULT_REGIONS, REGIONS, SynthesisSettings
from scorer.cli import options as opt
from scorer.cli.main import EXIT_NOTHING_SCORED, fail
from scorer.cli.streams import say
from selection.probing.recognise import RECOGNISED

if TYPE_CHECKING:
    from distill.judge.labelling import Labelling
    from distill.synthesis.plan import Cell
    from distill.synthesis.prompts import Request
    from scorer.dialogue import Dialogue
    from scorer.model import Scorer

_ASKED = ("temperature", "max_tokens")
_PLANNED = ("count", "threshold", "seed")
_DROPPED = ("similar",)


@opt.command(
    examples=(
        "empathy synthesize --like dialogues.jsonl -o synthetic.jsonl --model gpt-4.1-mini --count 500 --max-cost 5",
        "empathy synthesize --like dialogues.jsonl --model my-model --base-url http://localhost:8000/v1 --dry-run",
    )
)
@opt.option_group(
    "Input",
    opt.option(
        "--like",
        "inputs",
        metavar="CORPUS",
        multiple=True,
        required=True,
        help="The dialogues that are too few somewhere, of any form.",
    ),
    opt.path_option("--scores", "SCORES", "Scores of CORPUS, of `empathy score`.  [default: scored here]"),
    opt.scorer_option,
    opt.map_option,
)
@opt.option_group(
    "Output",
    opt.output_option("OUT", "The dialogues that are kept, JSON lines.", required=False),
    opt.json_option("synthesis"),
    store_option,
    opt.existing_options[1],
    opt.quiet_option,
)
@opt.option_group(
    "Model",
    opt.option("--model", required=True, help="Who writes, by the name that the server knows it by."),
    judge_options[0],
    *opt.settings_options(LabelSettings, "key_name", "retry_rejects", key_name="--key-env"),
    *opt.settings_options(SynthesisSettings, *_ASKED),
)
@opt.option_group(
    "Plan",
    *opt.settings_options(SynthesisSettings, *_PLANNED),
    opt.option(
        "--region",
        "regions",
        multiple=True,
        type=click.Choice(list(REGIONS)),
        help=f"Where dialogues are wanted; give it once for each.  [default: {', '.join(DEFAULT_REGIONS)}]",
    ),
)
@opt.option_group(
    "What is dropped",
    *opt.settings_options(SynthesisSettings, *_DROPPED),
    opt.option(
        "--allow",
        multiple=True,
        type=click.Choice(RECOGNISED),
        help="Keep what the probe's wordings call so; give it once for each kind.",
    ),
)
@opt.option_group(
    "Cost",
    opt.option("--dry-run", is_flag=True, help="Show the plan, count calls and tokens, price them, and ask nothing."),
    budget_option(),
    *cost_options,
)
@opt.option_group("Speed", *speed_options)
def synthesize(
    inputs: tuple[str, ...],
    scores: Path | None,
    bundle: Path | None,
    fields: dict[str, str],
    output: Path | None,
    json_path: Path | None,
    store_path: Path,
    model: str,
    regions: tuple[str, ...],
    allow: tuple[str, ...],
    *,
    dry_run: bool,
    overwrite: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Have an LLM write the dialogues that a corpus lacks.

    Counts CORPUS by category and region of its two scores, asks for dialogues where it has the fewest, and keeps what
    the local scorer puts where it was planned: no near-duplicates, nothing hostile or empty. OUT holds what is kept,
    each marked "synthetic", OUT.rejects.jsonl the rest and why. Only categories and lengths of CORPUS are sent. Every
    answer is kept in the store: after a crash or a limit the same command asks for the rest.

    Exit codes: 0 done, 1 nothing was kept, 2 usage, server or file error, 130 interrupted, 143 terminated.
    """
    from distill.judge.labelling import Labelling
    from distill.judge.store import MEMORY, Store
    from distill.sampling.pick import read_unlabelled
    from distill.synthesis.plan import plan_cells, style_of
    from distill.synthesis.prompts import Writing, requests_of
    from distill.synthesis.report import plan_lines
    from scorer.model import Scorer

    more: dict[str, Any] = {name: tuple(value) for name, value in {"regions": regions, "allow": allow}.items() if value}
    mine = opt.chosen({name: given.pop(name) for name in (*_PLANNED, *_DROPPED, *_ASKED)})
    settings = SynthesisSettings(**mine, **more)
    asked: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": settings.max_tokens, "logprobs": False}
    label = LabelSettings(model=model, **asked, **opt.chosen(given))
    if not dry_run:
        _check_output(output, overwrite=overwrite)
    corpus, _ = read_unlabelled(inputs, fields)
    scorer = Scorer.load(bundle)
    places = _regions(corpus, scores, scorer, settings)
    cells = plan_cells([dialogue.category for dialogue in corpus], places, settings.regions, settings.count)
    requests = requests_of(cells, style_of(corpus), settings.seed)
    dialogues = [request.dialogue for request in requests]
    if dry_run or output is None:
        from distill.cli.label import estimate_lines

        with Store(store_path if store_path.exists() else MEMORY) as store:
            say(*plan_lines(cells), *estimate_lines(Labelling(dialogues, Writing(), label, store)))
        return
    with Store(store_path) as store, store.locked():
        labelling = Labelling(dialogues, Writing(), label, store)
        _synthesize(corpus, cells, requests, labelling, scorer, settings, output, json_path, quiet=quiet)


def _check_output(output: Path | None, *, overwrite: bool) -> None:
    from scorer.apart import check_own, check_rejects, first_record
    from scorer.outputs import check_new

    if output is None:
        fail("no output; name one with -o, or see the plan and its price with --dry-run")
    check_new(output, overwrite=overwrite)
    check_own(output, lambda path: "synthesis" in first_record(path), "file of synthetic dialogues")
    check_rejects(output.with_name(f"{output.name}.rejects.jsonl"))


def _regions(corpus: Sequence[Dialogue], scores: Path | None, scorer: Scorer, settings: SynthesisSettings) -> list[str]:
    """Return the region of each dialogue of the corpus: by a file of scores, or scored now."""
    import numpy as np

    from distill.synthesis.plan import regions_of
    from scorer.inputs.corpus import id_hash
    from scorer.run.score_table import read_scores
    from selection.files.labels import Index

    if scores is None:
        return regions_of(scorer.score(corpus), scorer.bundle.info.cuts, settings.threshold)
    table = read_scores(scores, scorer=scorer.bundle.path)
    if table.scorer.get("sha256", scorer.bundle.sha256) != scorer.bundle.sha256:
        fail(f"{scores}: is not of the scorer {scorer.bundle.info.name}; name the scorer that made it with --scorer")
    hashes = np.fromiter((id_hash(dialogue.id) for dialogue in corpus), dtype=np.uint64, count=len(corpus))
    rows = Index(table.hashes).rows_of(hashes)
    if (missing := int((rows < 0).sum())) > 0:
        first = corpus[int((rows < 0).argmax())].id
        fail(f"{scores}: has no score for {missing} of {len(corpus)} dialogues, as {first!a}; score the corpus again")
    return regions_of(table.scores[rows], table.cuts, settings.threshold)


def _synthesize(
    corpus: Sequence[Dialogue],
    cells: Sequence[Cell],
    requests: Sequence[Request],
    labelling: Labelling,
    scorer: Scorer,
    settings: SynthesisSettings,
    output: Path,
    json_path: Path | None,
    *,
    quiet: bool,
) -> None:
    from distill.synthesis.report import region_lines, report_of
    from distill.synthesis.run import UNASKED, fates_of, kept_records, reject_records
    from scorer.cli.progress import Bar
    from scorer.outputs import write_json

    try:
        with Bar(sys.stderr, quiet=quiet) as bar:
            outcome, spending = labelling.run(bar)
            fates = fates_of(requests, labelling, outcome, corpus, scorer, settings, bar)
    except KeyboardInterrupt as stop:
        kept = f"what was answered is in {labelling.store.path}: run the same command again to continue"
        raise type(stop)(kept) from None
    written = [*kept_records(fates, labelling, scorer)]
    _write_lines(written, [*reject_records(fates)], output)
    report = report_of(fates, cells, labelling, settings, corpus, scorer, spending, outcome.stopped)
    if json_path is not None:
        write_json(json_path, report)
    if not quiet:
        wrote = (
            f"wrote {len(written):,} dialogues to {output}" if written else f"nothing was kept: {output} not written"
        )
        say(*region_lines(report), wrote, err=True)
    if outcome.stopped:
        unasked = sum(fate.fate == UNASKED for fate in fates)
        say(f"empathy: warning: stopped by {outcome.stopped}; {unasked:,} dialogues were not asked for", err=True)
    if not written:
        sys.exit(EXIT_NOTHING_SCORED)


def _write_lines(written: Sequence[dict[str, Any]], rejects: Sequence[dict[str, Any]], output: Path) -> None:
    from scorer.outputs import replacing, writing

    rejects_path = output.with_name(f"{output.name}.rejects.jsonl")
    with writing(output):
        if written:
            with replacing(output) as file:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in written)
        if rejects:
            with replacing(rejects_path) as file:
                file.writelines(json.dumps(record) + "\n" for record in rejects)
        else:
            rejects_path.unlink(missing_ok=True)
