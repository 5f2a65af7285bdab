"""`empathy check`: a regression test of scores, and what it looks like in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scorer.cli.main import fail
from scorer.cli.options import engine_option

if TYPE_CHECKING:
    from selection.golden import Check

EXIT_MOVED = 1
ROWS = 20
"""So many of the scores that moved are shown."""

_LEFT = 2  # columns of text, set to the left
_HEADINGS = ("id", "head", "expected", "got", "difference", "tolerance", "decision")


@click.command()
@click.argument("golden", metavar="GOLDEN", type=click.Path(path_type=Path))
@click.option(
    "--scorer",
    "bundle",
    metavar="BUNDLE",
    type=click.Path(path_type=Path),
    help="The scorer to check.  [default: the starter]",
)
@engine_option
@click.option(
    "--write",
    "inputs",
    metavar="IN",
    multiple=True,
    help="Make GOLDEN from these dialogues and the scores that the scorer gives them now.",
)
@click.option(
    "--tolerance",
    type=float,
    help="How far a score may move; a line's own tolerance comes first. With --write, GOLDEN keeps it."
    "  [default: GOLDEN's, else 0.001 in fp32, 0.02 in one lower precision, 0.25 between two]",
)
@click.option(
    "--max-flips", type=float, help="Share of selection decisions that may change.  [default: 0 in fp32, else 0.01]"
)
@click.option("--json", "json_path", metavar="FILE", type=click.Path(path_type=Path), help="Write all that moved here.")
@click.option("--overwrite", is_flag=True, help="With --write: replace GOLDEN, keeping its lines' own tolerances.")
def check(
    golden: Path,
    bundle: Path | None,
    engine: str,
    inputs: tuple[str, ...],
    tolerance: float | None,
    max_flips: float | None,
    json_path: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Check that a scorer still gives the scores in GOLDEN: a regression test.

    GOLDEN is JSON lines: dialogues with the sensibility and rationality expected of them and, optional, a tolerance
    of their own; GOLDEN.meta.json beside it says which scorer gave these scores. Make both with --write. Decisions
    are those of the paper rule, each side's scores read with its own cuts.

    Exit codes: 0 all as expected, 1 scores or decisions moved, 2 usage or file error.
    """
    from scorer.model import Scorer
    from selection.golden import Limits, compare, read_golden, write_golden

    limits = Limits(tolerance=tolerance, max_flips=max_flips)
    if inputs:
        if json_path or max_flips is not None:
            fail("--json and --max-flips are of a check and --write makes a golden file; leave them out")
        scorer = Scorer.load(bundle, engine=engine)
        count = write_golden(golden, inputs, scorer, tolerance=tolerance, overwrite=overwrite)
        click.echo(f"wrote {golden}: {count} dialogues with the scores of {_named(scorer)}")
        _warn([scorer.engine.notice])
        return
    if overwrite:
        fail("--overwrite is about a golden file that is written; name its dialogues with --write")
    expected = read_golden(golden)
    scorer = Scorer.load(bundle, engine=engine)
    found = compare(expected, scorer, limits)
    if json_path:
        _write_json(found, json_path)
    for line in check_lines(found):
        click.echo(line)
    _warn([scorer.engine.notice, *check_warnings(found)])
    if not found.passed:
        sys.exit(EXIT_MOVED)


def check_lines(check: Check, rows: int = ROWS) -> Iterator[str]:
    """Yield the lines of a check: one where all is as expected, else a table of what moved, largest first."""
    count, flips = len(check.scores), int(check.flipped.sum())
    beyond = int(check.beyond.any(axis=1).sum())
    decisions = f"{flips} of {count} decisions changed ({flips / count:.2%}, at most {check.max_flips:.2%} may)"
    if check.passed:
        largest = float(abs(check.differences).max())
        yield (
            f"{check.golden.path}: {count} dialogues as expected; scores moved by {largest:.3g} at most "
            f"({_tolerances(check)}), {decisions}"
        )
        return
    yield f"{check.golden.path}: {beyond} of {count} dialogues moved beyond {_tolerances(check)}; {decisions}"
    yield ""
    moved = list(check.moved())
    cells = [_HEADINGS, *(_row(entry) for entry in islice(moved, rows))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEADINGS))]
    for row in cells:
        numbers = slice(_LEFT, len(_HEADINGS) - 1)
        left = [cell.ljust(width) for cell, width in zip(row[:_LEFT], widths[:_LEFT], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[numbers], widths[numbers], strict=True)]
        yield "  ".join([*left, *right, row[-1]])
    if len(moved) > rows:
        yield f"... and {len(moved) - rows} more scores; --json FILE writes all"
    if flips:
        changes = ", ".join(f"{before} -> {after} {n}" for (before, after), n in check.changes())
        yield ""
        yield f"decisions changed (paper rule, threshold {check.golden.threshold:g}): {changes}"


def check_warnings(check: Check) -> Iterator[str]:
    """Yield what of the scorer that ran differs from the one that wrote the golden file, and may explain the rest."""
    expected, got = check.golden.metadata, check.metadata
    if expected["sha256"] != got["sha256"]:
        yield (
            f"{check.golden.path} has the scores of another scorer: {expected['name']} {expected['sha256'][:12]}, "
            f"and {got['name']} {got['sha256'][:12]} is checked"
        )
    if expected["precision"] != got["precision"] and not check.passed:
        yield (
            f"{check.golden.path} was written in {expected['precision']} and this is {got['precision']}: its scores "
            "differ by design; write a golden file in each precision, or say --tolerance"
        )


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    before, after = entry["set_before"], entry["set_after"]
    decision = "same" if before == after else f"{before} -> {after}"
    return (
        _shown(entry["id"]),
        entry["head"],
        f"{entry['expected']:.4f}",
        f"{entry['got']:.4f}",
        f"{entry['difference']:+#.3g}",
        f"{entry['tolerance']:g}",
        decision,
    )


def _tolerances(check: Check) -> str:
    low, high = float(check.tolerances.min()), float(check.tolerances.max())
    return f"tolerance {low:g}" if low == high else f"tolerances {low:g} to {high:g}"


def _shown(id_: str) -> str:
    text = id_ if id_.isprintable() else ascii(id_)[1:-1]
    return text if len(text) <= 40 else text[:37] + "..."


def _named(scorer: Any) -> str:
    engine, bundle = scorer.engine, scorer.bundle
    return f"{bundle.name} {bundle.sha256[:12]} ({engine.name} {engine.precision})"


def _warn(lines: list[str]) -> None:
    for line in filter(None, lines):
        click.echo(f"empathy: warning: {line}", err=True)


def _write_json(found: Check, path: Path) -> None:
    import json

    from scorer.outputs import replacing, writing

    with writing(path), replacing(path) as file:
        file.write(json.dumps(found.to_json(), indent=1) + "\n")
