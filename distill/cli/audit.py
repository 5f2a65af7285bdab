"""`empathy audit`: a scored corpus in, few questions to the judge, a verdict out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.auditing.settings import AuditSettings
from distill.cli.label import MODEL_HELP, cost_options, judge_options, store_option
from distill.settings import LabelSettings
from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say

if TYPE_CHECKING:
    from distill.auditing.report import Request
    from distill.auditing.rounds import Rounds

_AUDIT = ("threshold", "limit", "tolerance", "shift", "alpha", "most", "step", "worth", "seed")
EXIT_NOT_TRUSTED = 1


@opt.command(
    examples=(
        "empathy audit scores.parquet --dialogues dialogues.jsonl -o audit --model gpt-4.1-mini --max-cost 1",
        "empathy audit scores.parquet dialogues.jsonl --model my-judge --base-url http://localhost:8000/v1 --dry-run",
    )
)
@opt.argument("sources", metavar="SCORES... [IN]...", nargs=-1, required=True)
@opt.option_group(
    "Corpus",
    opt.option("--dialogues", metavar="IN", multiple=True, help="The dialogues that were scored; may follow SCORES."),
    opt.map_option,
    opt.scorer_option,
)
@opt.option_group(
    "Output",
    opt.output_option(
        "DIR", "Write audit.json, labels.jsonl and, where they help, worth-a-label.jsonl here.", required=False
    ),
    opt.path_option("--write-bundle", "BUNDLE", "Where the verdict is to recalibrate: write the scorer with new cuts."),
    opt.json_option("verdict"),
    store_option,
    opt.quiet_option,
)
@opt.option_group("Judge", opt.option("--model", required=True, help=MODEL_HELP), *judge_options)
@opt.option_group(
    "Cost",
    opt.option("--dry-run", is_flag=True, help="Say what it would cost at most, and ask nothing."),
    *opt.settings_options(LabelSettings, "max_cost"),
    *cost_options,
)
@opt.option_group("Verdict", *opt.settings_options(AuditSettings, *_AUDIT))
@opt.option_group("Speed", *opt.settings_options(LabelSettings, "concurrency", "timeout", "rpm", "tpm"))
def audit(
    sources: tuple[str, ...],
    dialogues: tuple[str, ...],
    fields: dict[str, str],
    bundle: Path | None,
    output: Path | None,
    write_bundle: Path | None,
    json_path: Path | None,
    model: str,
    store_path: Path,
    rubric_path: Path | None,
    *,
    dry_run: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Ask a judge whether a scorer is still right on a corpus.

    SCORES are what `empathy score` wrote, IN the dialogues that were scored. The judge is asked about few of them, at
    random, in rounds, until a test is sure that the scorer puts more, or fewer, than --limit of the dialogues into the
    judge's set; the test stands however often one looks. Then come, with 95 % intervals for the whole corpus, the
    judge's mean scores and set sizes and the scorer's agreement, and a verdict: trust, recalibrate, label and retrain,
    or not sure. Every answer is kept in the store: the same command after a crash or a limit asks for the rest.

    Exit codes: 0 trust, 1 any other verdict, 2 usage, server or file error, 130 interrupted, 143 terminated.
    """
    from distill.auditing.corpus import limit_of, read_rows, read_scored
    from distill.auditing.report import Request, check_outputs
    from distill.auditing.rounds import Rounds
    from distill.judge.rubric import read_rubric
    from distill.judge.store import MEMORY, Store
    from scorer.cli.progress import Bar

    settings = AuditSettings(**opt.chosen({name: given.pop(name) for name in _AUDIT}))
    label = LabelSettings(model=model, **opt.chosen(given))
    scores, inputs = _parted(sources, dialogues)
    check_outputs(output, write_bundle)
    rubric = read_rubric(rubric_path)
    scored = read_scored(scores, bundle)
    limit = limit_of(scored, settings)
    if write_bundle is not None and scored.bundle is None:
        fail("--write-bundle needs the scorer of these scores; name its bundle with --scorer")
    rows = scored.order(settings.seed)[: settings.most]
    texts = read_rows(scored, rows, inputs, fields)
    if dry_run:
        from distill.cli.label import estimate_lines

        with Store(store_path if store_path.exists() else MEMORY) as store:
            rounds = Rounds(scored, rows, texts, rubric, label, settings, store)
            say(f"at most {len(rows):,} of {len(scored):,} dialogues, fewer where the answer is sure before:")
            say(*estimate_lines(rounds.labelling(len(rows))))
        return
    request = Request(
        scores=scores,
        inputs=inputs,
        fields=fields,
        scorer=bundle,
        output=output,
        write_bundle=write_bundle,
        store=store_path,
        rubric=rubric_path,
    )
    with Bar(sys.stderr, quiet=quiet) as bar, Store(store_path) as store, store.locked():
        rounds = Rounds(scored, rows, texts, rubric, label, settings, store, bar)
        _conclude(rounds, limit, request, json_path, quiet=quiet)


def _parted(sources: tuple[str, ...], dialogues: tuple[str, ...]) -> tuple[list[Path], list[str]]:
    """Return the score files and the dialogues among the arguments: with --dialogues all arguments are scores."""
    from distill.auditing.corpus import is_score_file

    if dialogues:
        return [Path(name) for name in sources], list(dialogues)
    scores = [name for name in sources if is_score_file(Path(name))]
    inputs = [name for name in sources if name not in scores]
    if not scores:
        fail(f"{', '.join(sources)}: no scores among them; give the output of `empathy score` first")
    if not inputs:
        fail("no dialogues: name those that were scored after SCORES, or with --dialogues")
    return [Path(name) for name in scores], inputs


def _conclude(rounds: Rounds, limit: float, request: Request, json_path: Path | None, *, quiet: bool) -> None:
    from distill.auditing.audit import audit_sample
    from distill.auditing.report import audit_lines, write_audit
    from scorer.outputs import write_json

    try:
        asked = rounds.run(limit)
    except KeyboardInterrupt as stop:
        kept = f"what was answered is in {rounds.store.path}: run the same command again to continue"
        raise type(stop)(kept) from None
    try:
        found = audit_sample(asked.sample, limit, rounds.settings)
    except ValueError as error:
        why = f"; stopped by {asked.stopped}" if asked.stopped else ""
        say(f"empathy: error: nothing can be said: {error}{why}", err=True)
        sys.exit(EXIT_NOT_TRUSTED)
    report, steps = write_audit(found, asked, rounds, request)
    if json_path:
        write_json(json_path, report)
    say(*(() if quiet else (*audit_lines(found, asked, rounds), *steps)))
    if found.verdict != "trust":
        sys.exit(EXIT_NOT_TRUSTED)
