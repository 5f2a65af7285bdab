"""Compare the scores of the same dialogues in two spellings: as published, and as people type.

    python -m benchmarks.spelling val_results.json [--scorer BUNDLE]

The published text is lower-case and tokenised ("i was n't ready ."). This script makes its natural form by rules that
are independent of the scorer's own normalisation: capitals, joined contractions, no space before punctuation, curly
quotes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from scorer.dialogue import Dialogue, Turn
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from selection.rules import PAPER

_CONTRACTION = re.compile(r"\s+(n't|'s|'m|'re|'ve|'ll|'d)\b", re.IGNORECASE)
_BEFORE = re.compile(r"\s+([.,!?;:)\]}])")
_AFTER = re.compile(r"([(\[{])\s+")
_SENTENCE = re.compile(r"(^|[.!?]\s+)([a-z])")


def natural(text: str) -> str:
    """Return text as people type it, from its lower-case, tokenised form."""
    text = _CONTRACTION.sub(r"\1", text)
    text = _AFTER.sub(r"\1", _BEFORE.sub(r"\1", text))
    text = re.sub(r"\bi\b", "I", text)
    text = _SENTENCE.sub(lambda match: match[1] + match[2].upper(), text)
    return text.replace("'", "’")


def naturally(dialogue: Dialogue) -> Dialogue:
    """Return the dialogue with every turn as people type it."""
    return replace(dialogue, turns=tuple(Turn(turn.role, natural(turn.content)) for turn in dialogue.turns))


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--scorer", "bundle", type=click.Path(path_type=Path))
def main(inputs: tuple[str, ...], bundle: Path | None) -> None:
    """Score both forms and print how much the scores differ."""
    scorer = Scorer.load(bundle)
    dialogues = [record for record in Corpus(inputs) if isinstance(record, Dialogue)]
    typed = [naturally(dialogue) for dialogue in dialogues]
    changed = sum(a.turns != b.turns for a, b in zip(dialogues, typed, strict=True))
    first, second = scorer.score(dialogues), scorer.score(typed)
    difference = np.abs(first - second)
    flips = (PAPER.apply(first, scorer.bundle.info.cuts) != PAPER.apply(second, scorer.bundle.info.cuts)).mean()
    print(f"{len(dialogues)} dialogues, {changed} spelt differently")
    (mean_s, mean_r), (max_s, max_r) = difference.mean(axis=0), difference.max(axis=0)
    print(f"mean difference {mean_s:.4f} / {mean_r:.4f}, largest {max_s:.3f} / {max_r:.3f}")
    print(f"selection decisions that change: {flips:.2%}")


if __name__ == "__main__":
    main()
