"""`empathy check`: a regression test of scores or of a test of rubrics, and what it looks like in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields as fields_of
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say
from scorer.cli.table import table_lines
from scorer.settings import setting_of
from selection.settings import CheckSettings, RunLimits

if TYPE_CHECKING:
    from selection.golden import Check

EXIT_MOVED = 1
ROWS = 20
"""So many of the scores that moved are shown."""

_HEADINGS = ("id", "head", "expected", "got", "difference", "tolerance", "decision")


@opt.command(
    "check",
    examples=(
        "empathy check golden.jsonl --write dialogues.jsonl",
        "empathy check golden.jsonl --scorer my-scorer --json moved.json",
        "empathy check rubrics.json later.json",
    ),
)
@opt.argument("golden", metavar="GOLDEN", type=click.Path(path_type=Path))
@opt.argument(
    "later", metavar="[LATER]", type=click.Path(path_type=Path), required=False, help="A later test of rubrics."
)
@opt.option_group("Scorer", opt.scorer_option, opt.engine_option)
@opt.option_group("Limits", *opt.settings_options(CheckSettings))
@opt.option_group("Limits of a test of rubrics", *opt.settings_options(RunLimits))
@opt.option_group(
    "Output",
    opt.json_option("beyond_tolerance"),
    opt.option(
        "--write",
        "inputs",
        metavar="IN",
        multiple=True,
        help="Make GOLDEN from these dialogues and the scores that the scorer gives them now.",
    ),
    opt.map_option,
    opt.option(
        "--overwrite", is_flag=True, help="With --write: replace GOLDEN; its lines keep tolerances of their own."
    ),
)
def check_golden(
    golden: Path,
    later: Path | None,
    bundle: Path | None,
    engine: str,
    inputs: tuple[str, ...],
    fields: dict[str, str],
    json_path: Path | None,
    *,
    overwrite: bool,
    **limits: Any,
) -> None:
    """Check that a scorer still gives the scores in GOLDEN.

    GOLDEN is JSON lines: dialogues with the sensibility and rationality expected of them and, optional, a tolerance
    of their own; GOLDEN.meta.json beside it says which scorer gave these scores. Make both with --write. Decisions
    are those of the paper rule, each side's scores read with its own cuts.

    Or GOLDEN and LATER are JSON of `empathy rubric test`, on the same dialogues: a changed rubric or model, worse
    agreement, more failures and moved means are one line each.

    Exit codes: 0 all as expected, 1 scores or decisions moved, a rubric or model changed or got worse, 2 usage or file
    error.
    """
    from selection.rubrics.run import is_rubric_run

    run_limits = {name: value for name in _OF_RUNS if (value := limits.pop(name)) is not None}
    if later is not None or is_rubric_run(golden):
        if inputs or fields or overwrite or bundle or engine != "auto" or limits["tolerance"] is not None:
            fail("a test of rubrics is held against a later one, without a scorer; leave all but its own limits out")
        flips = opt.chosen({"max_flips": limits["max_flips"]})
        _check_runs(golden, later, RunLimits(**run_limits, **flips), json_path)
        return
    if run_limits:
        fail(f"--{next(iter(run_limits)).replace('_', '-')} is a limit of a test of rubrics; leave it out")
    from scorer.model import Scorer
    from scorer.outputs import write_json
    from selection.golden import check_scorer, read_golden, write_golden

    settings = CheckSettings(**limits)
    if inputs:
        if json_path or settings.max_flips is not None:
            fail("--json and --max-flips are of a check and --write makes a golden file; leave them out")
        scorer = Scorer.load(bundle, engine=engine)
        count = write_golden(golden, inputs, scorer, tolerance=settings.tolerance, overwrite=overwrite, fields=fields)
        ran = f"{scorer.bundle.info.name} {scorer.bundle.sha256[:12]} ({scorer.engine.name} {scorer.engine.precision})"
        say(f"wrote {golden}: {count} dialogues with the scores of {ran}")
        _warn([scorer.engine.notice])
        return
    if fields:
        fail("--map is about the dialogues that make a golden file; name them with --write")
    if overwrite:
        fail("--overwrite is about a golden file that is written; name its dialogues with --write")
    expected = read_golden(golden)
    scorer = Scorer.load(bundle, engine=engine)
    found = check_scorer(expected, scorer, settings)
    if json_path:
        write_json(json_path, found.to_json())
    say(*check_lines(found))
    _warn([scorer.engine.notice, *check_warnings(found)])
    if not found.passed:
        sys.exit(EXIT_MOVED)


_OF_RUNS = [entry.name for entry in fields_of(RunLimits) if setting_of(entry) is not None]


def _check_runs(golden: Path, later: Path | None, limits: RunLimits, json_path: Path | None) -> None:
    from scorer.outputs import write_json
    from selection.rubrics.check import check_run

    if later is None:
        fail(f"{golden}: is a test of rubrics; name the later one to hold against it, as its second argument")
    found = check_run(golden, later, limits)
    if json_path:
        write_json(json_path, found.to_json())
    if found.passed:
        say(f"{golden}: {found.variants} variants on {found.dialogues} dialogues as expected in {later}")
    else:
        say(*(finding.text for finding in found.findings))
    _warn(found.notes)
    if not found.passed:
        sys.exit(EXIT_MOVED)


def check_lines(found: Check, rows: int = ROWS) -> Iterator[str]:
    """Yield the lines of a check: one where all is as expected, else a table of what moved, largest first."""
    count, flips = len(found.scores), int(found.flipped.sum())
    beyond = int(found.beyond.any(axis=1).sum())
    decisions = f"{flips} of {count} decisions changed ({flips / count:.2%}, at most {found.max_flips:.2%} may)"
    low, high = float(found.tolerances.min()), float(found.tolerances.max())
    tolerance = f"tolerance {low:g}" if low == high else f"tolerances {low:g} to {high:g}"
    path = found.golden.path
    if found.passed:
        largest = float(abs(found.differences).max())
        yield f"{path}: {count} dialogues as expected; scores moved by {largest:.3g} at most ({tolerance}), {decisions}"
        return
    yield f"{path}: {beyond} of {count} dialogues moved beyond {tolerance}; {decisions}"
    yield ""
    moved = list(found.moved())
    yield from table_lines([_HEADINGS, *map(_row, islice(moved, rows))], left=(0, 1, 6))
    if len(moved) > rows:
        yield f"... and {len(moved) - rows} more scores; --json FILE writes all"
    if flips:
        changes = ", ".join(f"{before} -> {after} {n}" for (before, after), n in found.changes())
        yield ""
        yield f"decisions changed (paper rule, threshold {found.golden.info.threshold:g}): {changes}"


def check_warnings(found: Check) -> Iterator[str]:
    """Yield what of the scorer that ran differs from the one that wrote the golden file, and may explain the rest."""
    path, expected, got = found.golden.path, found.golden.info, found.scorer
    if expected.sha256 != got.sha256:
        yield (
            f"{path} has the scores of another scorer: {expected.name} {expected.sha256[:12]}, "
            f"and {got.name} {got.sha256[:12]} is checked"
        )
    if expected.precision != got.precision and not found.passed:
        yield (
            f"{path} was written in {expected.precision} and this is {got.precision}: its scores differ by design; "
            "write a golden file in each precision, or say --tolerance"
        )


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    before, after = entry["set_before"], entry["set_after"]
    id_ = entry["id"] if entry["id"].isprintable() else ascii(entry["id"])[1:-1]
    return (
        id_ if len(id_) <= 40 else id_[:37] + "...",
        entry["head"],
        f"{entry['expected']:.4f}",
        f"{entry['got']:.4f}",
        f"{entry['difference']:+#.3g}",
        f"{entry['tolerance']:g}",
        "same" if before == after else f"{before} -> {after}",
    )


def _warn(lines: Iterable[str]) -> None:
    say(*(f"empathy: warning: {line}" for line in lines if line), err=True)
