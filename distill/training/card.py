"""The model card: what a checkpoint or a bundle says of itself to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from distill.robustness.kinds import CEILINGS
from scorer.bundle.probed import Probed, probe_table, probe_verdict
from scorer.dialogue import HEADS

if TYPE_CHECKING:
    from distill.training.checkpoint import CheckpointInfo

_PER_HEAD = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "mae": "mean absolute error",
    "quadratic_kappa": "quadratic kappa",
}
_NAMES = {
    **{f"{head}.{key}": f"{title}, {head}" for key, title in _PER_HEAD.items() for head in HEADS},
    "paper.kappa": "kappa of the paper's three sets",
    "paper.f1.sensibility": "F1 of the sensibility set",
    "paper.share.sensibility": "share kept, scorer",
    "paper.judge_share.sensibility": "share kept, judge",
}
_FOLLOWS = {"follows_held_out": "r with teachers, held out", "follows_learnt": "r with teachers, learnt"}
_BY_HEART = 0.05
_BAD_REPLIES = f"""
- **Bad replies**: it learnt counter-examples too, {{share:.0%}} as many as real dialogues
  ({", ".join(CEILINGS)}). That these score low was said by the rubric, not by the judge."""


def agreement_rows(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, value) of the figures that people read first."""
    rows = [(name, f"{measured[key]:.3f}") for key, name in _NAMES.items() if measured.get(key) is not None]
    if "coverage" in measured:
        covered = " / ".join(f"{value:.1%}" for value in measured["coverage"].values())
        rows.append(("labels within the uncertainty", f"{covered} (aim {measured['coverage_aim']:.0%})"))
    for name, title in _FOLLOWS.items():
        if name in measured:
            rows.append((title, " / ".join(f"{value:.3f}" for value in measured[name].values())))
    return rows


def knows_by_heart(measured: Mapping[str, Any]) -> str:
    """Return what to do where a student follows its teachers only on what it learnt, "" elsewhere."""
    if not all(name in measured for name in _FOLLOWS):
        return ""
    held_out, learnt = (measured[name] for name in _FOLLOWS)
    if all(learnt[head] - held_out[head] <= _BY_HEART for head in HEADS):
        return ""
    return (
        "it knows its teachers' scores by heart and follows them less on other dialogues; more dialogues (--unlabelled "
        "or --pairs for the teachers) would help it more than more epochs"
    )


def behaviour_card(found: Probed) -> str:
    """Return what a probe found, as a section of the card."""
    heading, *rows = probe_table(found)
    lines = [f"| {' | '.join(row)} |" for row in (heading, ("---",) * len(heading), *rows)]
    return f"""
## Behaviour

`empathy probe` replaced the response of {found.contexts:,} contexts ({found.data}) by replies that no selection should
keep, and edited it in ways that should not matter. *Kept* is the share in the sensibility set of the paper's rule
(threshold 5), *changed* the share whose set differs. Of the real responses the mean scores are given, of each kind the
mean change against them.
**{probe_verdict(found).capitalize()}.**

{chr(10).join(lines)}
"""


def checkpoint_card(
    info: CheckpointInfo, name: str = "A scorer of sensibility and rationality", licence: str = ""
) -> str:
    """Return the README.md of a checkpoint or of its bundle, in Markdown."""
    training, measured, settings = info.training, info.measured, info.settings
    assert measured is not UNSET  # a single fit has no card
    how = str(measured["how"])
    figures = "\n".join(f"| {title} | {value} |" for title, value in agreement_rows(measured))
    taught = f", taught by {' and '.join(training.teachers)} on these and {training.unlabelled:,} unlabelled dialogues"
    kept = f", cut to depth {settings.layers}, its lowest layers" if settings.layers else ""
    epochs = f"{settings.epochs} epochs"
    if info.epochs_before:
        epochs += f" after {info.epochs_before} of an earlier training"
    licensed = f"\n- **Licence**: {licence}." if licence else ""
    bad = _BAD_REPLIES.format(share=settings.counterexamples) if settings.counterexamples else ""
    return f"""# {name}

Scores the last assistant turn of a dialogue for sensibility (emotional depth) and rationality (logical thought), 0 to
10, as a judge scored them who rated dialogues for *Efficient-Empathy* (arXiv 2407.01937) or by a rubric of that kind.

- **Backbone**: {info.backbone}{kept}, fine-tuned for {epochs}{taught if training.teachers else ""}.
- **Training data**: {training.dialogues:,} labelled dialogues of {training.conversations:,} conversations
  ({training.data}).{bad}{licensed}
- **Use**: on dialogues like those it was trained on. On text of another kind its scores mean little, and neither its
  uncertainty nor its figures hold; `empathy score` warns of that. It repeats the judge's taste and mistakes.

## Agreement with the judge

{how[0].upper()}{how[1:]}; calibration, cuts and uncertainty of each fold come from the others.

| figure | value |
|---|---|
{figures}
"""
