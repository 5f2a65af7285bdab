"""The model card: what a checkpoint or a bundle says of itself to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {
    "sensibility.pearson": "Pearson, sensibility",
    "rationality.pearson": "Pearson, rationality",
    "sensibility.spearman": "Spearman, sensibility",
    "rationality.spearman": "Spearman, rationality",
    "sensibility.mae": "mean absolute error, sensibility",
    "rationality.mae": "mean absolute error, rationality",
    "sensibility.quadratic_kappa": "quadratic kappa, sensibility",
    "rationality.quadratic_kappa": "quadratic kappa, rationality",
    "paper.kappa": "kappa of the paper's three sets",
    "paper.f1.sensibility": "F1 of the sensibility set",
    "paper.share.sensibility": "share kept, scorer",
    "paper.judge_share.sensibility": "share kept, judge",
}


def agreement_rows(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, value) of the figures that people read first."""
    rows = [(name, f"{measured[key]:.3f}") for key, name in _NAMES.items() if key in measured]
    if "coverage" in measured:
        covered = " / ".join(f"{value:.1%}" for value in measured["coverage"].values())
        rows.append(("labels within the uncertainty", f"{covered} (aim {measured['coverage_aim']:.0%})"))
    return rows


def checkpoint_card(info: Mapping[str, Any]) -> str:
    """Return the README.md of a checkpoint or bundle, in Markdown, from its empathy.json or scorer.json."""
    training, measured, settings = info["training"], info["measured"], info["settings"]
    figures = "\n".join(f"| {name} | {value} |" for name, value in agreement_rows(measured))
    taught = ""
    if training["teachers"]:
        taught = (
            f", taught by {' and '.join(training['teachers'])} on these and {training['unlabelled']:,} unlabelled "
            "dialogues"
        )
    kept = f", cut to depth {settings['layers']}, its lowest layers" if settings.get("layers") else ""
    licence = f"\n- **Licence**: {info['licence']}." if "licence" in info else ""
    return f"""# {info.get("name", "A scorer of sensibility and rationality")}

Scores the last assistant turn of a dialogue for sensibility (emotional depth) and rationality (logical thought), 0 to
10, as a judge scored them who rated dialogues for *Efficient-Empathy* (arXiv 2407.01937) or by a rubric of that kind.

- **Backbone**: {info["backbone"]}{kept}, fine-tuned for {settings["epochs"]} epochs{taught}.
- **Training data**: {training["dialogues"]:,} labelled dialogues of {training["conversations"]:,} conversations
  ({training["data"]}).{licence}
- **Use**: on dialogues like those it was trained on. On text of another kind its scores mean little, and neither its
  uncertainty nor its figures hold; `empathy score` warns of that. It repeats the judge's taste and mistakes.

## Agreement with the judge

{measured["how"][0].upper()}{measured["how"][1:]}; calibration, cuts and uncertainty of each fold come from the others.

| figure | value |
|---|---|
{figures}
"""
