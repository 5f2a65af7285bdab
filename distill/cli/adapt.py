"""`empathy adapt`: labels of one's own domain in, a recalibrated scorer out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scorer.cli import options as opt
from scorer.cli.streams import say

if TYPE_CHECKING:
    from distill.auditing.adapt import Adapted

_SHOWN = {
    "sensibility.pearson": "r sensibility",
    "rationality.pearson": "r rationality",
    "sensibility.mae": "error sensibility",
    "rationality.mae": "error rationality",
    "paper.kappa": "kappa of the sets",
    "paper.share.sensibility": "share kept",
}


@opt.command(
    examples=(
        "empathy adapt labels.jsonl -o my-scorer",
        "empathy adapt labels.jsonl more.jsonl --scorer their-scorer -o my-scorer",
    )
)
@opt.inputs_argument("LABELS...")
@opt.option_group("Input", opt.map_option)
@opt.option_group("Output", opt.output_option("BUNDLE", "The adapted scorer, a new folder."), opt.quiet_option)
@opt.option_group(
    "Begin with",
    opt.scorer_option,
    opt.option("--seed", type=int, default=0, help="Decides which conversations are in which fold."),
)
def adapt(
    inputs: tuple[str, ...], fields: dict[str, str], output: Path, bundle: Path | None, *, seed: int, quiet: bool
) -> None:
    """Recalibrate a scorer by some labels of your own domain.

    LABELS are some 200 dialogues, drawn at random, with sensibility and rationality: `empathy label`'s output, or any
    form that is read with labels. New are the cuts, the uncertainty, a line from scores to labels and, where
    cross-validation by conversation proves it, a ridge on the scorer's embedding, folded into its last layer. It takes
    seconds and loads no torch.

    Exit codes: 0 done, 2 usage, label or file error.
    """
    from distill.auditing.adapt import adapt_bundle
    from distill.labelled import read_labelled
    from scorer.bundle.trial import open_bundle

    labelled = read_labelled(inputs, fields)
    names = ", ".join(Path(name).name for name in inputs)
    found = adapt_bundle(open_bundle(bundle), labelled, names, output, seed=seed)
    if labelled.rejects and not quiet:
        say(f"{len(labelled.rejects)} records had no label; the first: {labelled.rejects[0]}", err=True)
    say(*(() if quiet else _lines(found, output)), err=True)


def _lines(found: Adapted, output: Path) -> list[str]:
    from scorer.cli.table import table_lines

    info = found.bundle.info
    assert info.adapted_from is not None
    rows = [("", "before", "after, held out")]
    rows += [(name, _figure(found.before.get(key)), _figure(found.after.get(key))) for key, name in _SHOWN.items()]
    judge = _figure(found.after.get("paper.judge_share.sensibility"))
    rows.append(("share kept by the judge", judge, judge))
    lines = [
        f"adapted {info.adapted_from.name} with {info.adapted_from.labels:,} labels: {info.adapted_from.changed}",
        *table_lines(rows),
    ]
    for head, (share, sure) in found.gain.items():
        taken = "taken" if head in found.ridge else "not taken, 1.6 are wanted"
        lines.append(f"ridge {head}: {share:+.1%} of the squared error saved, {sure:.1f} standard errors; {taken}")
    return [*lines, *found.notes, f"wrote {output}"]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
