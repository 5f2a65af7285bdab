"""`empathy look`: what would be scored, and how it was read, before anything is scored."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scorer.cli.options import command, inputs_argument, json_option, map_option, option, option_group, scorer_option

if TYPE_CHECKING:
    from scorer.dialogue import Dialogue
    from scorer.run.look import Look

_WINDOW = 4096
_CHARACTERS = 400  # of a turn are shown


@command(examples=("empathy look dialogues.jsonl", "empathy look odd.csv --map response=answer --map context=question"))
@inputs_argument()
@option_group("Input", map_option, scorer_option)
@option_group(
    "Output", option("--show", type=click.IntRange(min=0), default=3, help="So many dialogues are shown."), json_option
)
def look(
    inputs: tuple[str, ...], bundle: Path | None, fields: dict[str, str], show: int, json_path: Path | None
) -> None:
    """Show what `empathy score` would judge, without scoring.

    Per source: the layout, the keys that were read and left aside, and counts; then the first dialogues as the scorer
    sees them, the judged turn marked.

    Exit codes: 0 nothing to warn of, 1 a warning stands, 2 usage or file error.
    """
    from scorer.bundle.bundle import load_bundle
    from scorer.bundle.encode import Encoder
    from scorer.cli.table import table_lines
    from scorer.dialogue import Dialogue
    from scorer.inputs.corpus import Corpus
    from scorer.outputs import write_json
    from scorer.run.look import Look
    from scorer.run.prepare import windows

    scorer = load_bundle(bundle)
    encoder = Encoder(scorer.tokenizer, scorer.info.max_length)
    whole = Look()
    sources: dict[str, Look] = {}
    shown: list[Dialogue] = []
    for window in windows(Corpus(inputs, fields=fields), _WINDOW):
        whole.add(window, encoder)
        for name in dict.fromkeys(record.source for record in window):
            mine = [record for record in window if record.source == name]
            sources.setdefault(name, Look()).add(mine, encoder)
        shown += [record for record in window if isinstance(record, Dialogue)][: max(0, show - len(shown))]
    for name, found in sources.items():
        click.echo(_plain(name))
        for line in table_lines(_rows(found), left=(0, 1)):
            click.echo(f"  {line}")
    for number, dialogue in enumerate(shown, start=1):
        click.echo(f"\ndialogue {number}: {_plain(dialogue.id)} (line {dialogue.line})")
        for turn in dialogue.turns:
            mark = "judged >" if turn is dialogue.turns[-1] else "        "
            click.echo(f"{mark} {turn.role}: {_plain(turn.content)}")
    warned = list(whole.warnings())
    for line in warned:
        click.echo(f"empathy: warning: {line}", err=True)
    if json_path:
        parts = {name: found.to_json() for name, found in sources.items()}
        write_json(json_path, {"all": whole.to_json(), "sources": parts})
    if warned:
        sys.exit(1)


def _rows(found: Look) -> Iterator[tuple[str, str]]:
    """Yield name and value of each fact of a source; those that are zero are left out."""
    for name, value in found.to_json().items():
        if isinstance(value, dict) and value:
            yield name.replace("_", " "), ", ".join(f"{_plain(str(key))} {count:,}" for key, count in value.items())
        elif isinstance(value, int) and (value or name == "dialogues"):
            yield name.replace("_", " "), f"{int(value):,}"


def _plain(text: str) -> str:
    """Return a text on one line, without control characters, and not too long."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    return line if len(line) <= _CHARACTERS else f"{line[:_CHARACTERS]}... ({len(line):,} characters)"
