"""`empathy look`: what would be scored, and how it was read, before anything is scored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.cli import options as opt
from scorer.cli.streams import say
from scorer.text import plain

if TYPE_CHECKING:
    from scorer.dialogue import Dialogue
    from scorer.run.look import SourceLook

_CHARACTERS = 400  # of a turn are shown


@opt.command(
    examples=("empathy look dialogues.jsonl", "empathy look odd.csv --map response=answer --map context=question")
)
@opt.inputs_argument()
@opt.option_group("Input", opt.map_option, opt.scorer_option)
@opt.option_group(
    "Output",
    opt.option("--show", type=click.IntRange(min=0), default=3, help="So many dialogues are shown."),
    opt.json_option("sources"),
)
def look(
    inputs: tuple[str, ...], bundle: Path | None, fields: dict[str, str], show: int, json_path: Path | None
) -> None:
    """Show what `empathy score` would judge, without scoring.

    Per source: the layout, the keys that were read and left aside, counts, and the first reject of each reason. Then
    the first dialogues as the scorer sees them, the judged turn marked.

    Exit codes: 0 nothing to warn of, 1 a warning stands, 2 usage or file error.
    """
    from scorer.bundle.encode import Encoder
    from scorer.bundle.trial import open_bundle
    from scorer.cli.lines import skipped_warning
    from scorer.cli.table import table_lines
    from scorer.dialogue import Dialogue
    from scorer.inputs.corpus import Corpus
    from scorer.outputs import write_json
    from scorer.reading.chunks import runs
    from scorer.run.look import Look, tally_warnings

    scorer = open_bundle(bundle)
    encoder = Encoder(scorer.tokenizer, scorer.info.max_length)
    corpus, found = Corpus(inputs, fields=fields), Look()
    shown: list[Dialogue] = []
    for window in runs(corpus):
        found.add(window, encoder, scorer.info.domain)
        shown += [record for record in window if isinstance(record, Dialogue)][: max(0, show - len(shown))]
    for name, source in found.sources.items():
        say(_short(name), *(f"  {line}" for line in table_lines(_rows(source), left=(0, 1))))
        for reason, reject in source.first_rejects.items():
            say(f"  the first {reason}, line {reject.line}: {_short(reject.detail)}")
    for number, dialogue in enumerate(shown, start=1):
        say("", f"dialogue {number}: {_short(dialogue.id)} (line {dialogue.line})")
        for turn in dialogue.turns:
            mark = "judged >" if turn is dialogue.turns[-1] else "        "
            say(f"{mark} {turn.role}: {_short(turn.content)}")
    whole = found.whole
    for line in skipped_warning(corpus):
        say("", _short(line))
    warned = list(tally_warnings(whole.tally, scorer.info.domain))
    for line in warned:
        say(f"empathy: warning: {line}", err=True)
    if json_path:
        parts = {name: source.to_json() for name, source in found.sources.items()}
        write_json(json_path, {"all": whole.to_json(), "sources": parts, "warnings": warned})
    if warned:
        sys.exit(1)


def _rows(found: SourceLook) -> Iterator[tuple[str, str]]:
    """Yield name and value of each fact of a source; those that are zero are left out."""
    for name, value in found.to_json().items():
        if name == "first_rejects":
            continue  # one line each, below
        if isinstance(value, dict) and value:
            yield name.replace("_", " "), ", ".join(f"{_short(str(key))} {count:,}" for key, count in value.items())
        elif isinstance(value, int) and (value or name == "dialogues"):
            yield name.replace("_", " "), f"{int(value):,}"


def _short(text: str) -> str:
    """Return a text on one line that is not too long."""
    line = plain(" ".join(text.split()))
    return line if len(line) <= _CHARACTERS else f"{line[:_CHARACTERS]}... ({len(line):,} characters)"
