"""`empathy agree`: a judge against a scorer, scores or another judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.cli import options as opt
from scorer.cli.main import fail
from scorer.cli.streams import say

if TYPE_CHECKING:
    from distill.agreement.compare import Agreement
    from distill.labelled import LabelledSet


@opt.command(
    examples=(
        "empathy agree labels.jsonl --scorer my-scorer --unseen",
        "empathy agree labels.jsonl --against other-judge.jsonl --json agreement.json",
    )
)
@opt.inputs_argument("LABELS...")
@opt.option_group("Input", opt.map_option)
@opt.option_group(
    "Compare with",
    opt.scorer_option,
    opt.option(
        "--scores",
        metavar="FILE",
        type=click.Path(path_type=Path, exists=True),
        help="Compare with these scores: `empathy score`'s output or a checkpoint's oof.parquet.",
    ),
    opt.option("--against", metavar="LABELS", multiple=True, help="Compare with these labels of the same dialogues."),
    opt.option("--unseen", is_flag=True, help="Leave out the dialogues that the scorer was trained on."),
)
@opt.option_group(
    "Figures",
    opt.option(
        "--baselines", is_flag=True, help="Beside it: a constant and TF-IDF + ridge, cross-validated on LABELS."
    ),
    opt.option(
        "--embeddings", metavar="ID_OR_FOLDER", help="With --baselines: ridge on this encoder's embeddings too."
    ),
    opt.option("--threshold", type=click.IntRange(1, 9), default=5, help="T of the selection rules."),
    opt.option(
        "--bootstrap",
        "draws",
        type=click.IntRange(min=0),
        default=1000,
        help="Replicates for the intervals; 0 leaves them out.",
    ),
)
@opt.option_group(
    "Output",
    opt.json_option("intervals_95"),
    opt.option("--pictures", metavar="DIR", type=click.Path(path_type=Path), help="Draw scatter and confusion here."),
)
def agree(
    inputs: tuple[str, ...],
    bundle: Path | None,
    scores: Path | None,
    against: tuple[str, ...],
    embeddings: str | None,
    threshold: int,
    draws: int,
    json_path: Path | None,
    pictures: Path | None,
    fields: dict[str, str],
    *,
    unseen: bool,
    baselines: bool,
) -> None:
    """Compare a judge's labels with a scorer or other labels.

    Per head and selection rule, with 95 % intervals over conversations; beside the judge's own self-agreement where
    LABELS has dialogues that were judged twice. Where LABELS has several judges: each pair's agreement, each judge's
    with itself, and how reliable each is.

    Exit codes: 0 done, 2 usage, label or file error.
    """
    if sum(map(bool, (bundle, scores, against))) > 1:
        fail("--scorer, --scores and --against are three things to compare with; give one of them")
    from distill.agreement import compare
    from distill.agreement.table import agreement_lines
    from distill.labelled import read_labelled
    from scorer.model import Scorer
    from scorer.outputs import write_json

    if pictures:
        from distill.agreement.pictures import check_pictures, draw_agreement

        check_pictures(pictures)
    labelled = read_labelled(inputs, fields)
    if against:
        names = (", ".join(inputs), ", ".join(against))
        found = compare.judge_against_judge(labelled, read_labelled(against, fields), names, threshold)
    elif scores:
        found = compare.judge_against_scores(labelled, scores, threshold)
    else:
        found = compare.judge_against_scorer(labelled, Scorer.load(bundle), threshold, unseen=unseen)
    found.measure(draws)
    _add_beside(found, labelled, embeddings, baselines=baselines)
    say(*agreement_lines(found))
    say(*(f"empathy: warning: {line}" for line in found.warnings), err=True)
    if json_path:
        write_json(json_path, found.to_json())
    if pictures:
        for path in draw_agreement(found, pictures):
            say(f"drew {path}", err=True)


def _add_beside(found: Agreement, labelled: LabelledSet, embeddings: str | None, *, baselines: bool) -> None:
    """Put the judge's self-agreement and the baselines beside an agreement, and say what was left out."""
    from distill.agreement.compare import self_agreement
    from distill.panel.agreement import compare_judges

    if labelled.rejects:
        count = len(labelled.rejects)
        found.notes.append(f"{count} records had no dialogue or label; the first: {labelled.rejects[0]}")
    found.panel = compare_judges(labelled, found.threshold)
    if found.panel is None and (repeated := self_agreement(labelled, found.threshold)):
        found.rows[repeated[0]] = repeated[1]
    if baselines:
        from distill.agreement.baselines import baseline_figures
        from distill.pretrained import quiet_transformers

        quiet_transformers()

        found.rows |= baseline_figures(labelled, embeddings, found.threshold)
