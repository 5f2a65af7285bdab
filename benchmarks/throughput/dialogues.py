"""Dialogues to measure on: any number, every text distinct, of real lengths, the same in every run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from scorer.dialogue import Dialogue, render
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import to_messages
from scorer.text import digest


def real_dialogues(source: Path) -> list[Dialogue]:
    """Return the dialogues of a published release, its files mixed; ClickException if there are none."""
    found = [record for record in Corpus([str(source)]) if isinstance(record, Dialogue)]
    if not found:
        raise click.ClickException(f"{source}: holds no dialogues, expected a folder of the published release")
    random.Random(0).shuffle(found)
    return found


def varied(real: Sequence[Dialogue], count: int) -> Iterator[Dialogue]:
    """Yield ``count`` dialogues whose rendered texts all differ.

    The first pass is the dialogues as they are. In pass p the context of dialogue i gets the response of dialogue
    i + p, so contexts and responses, and with them all lengths, stay real. ClickException if there are too few pairs.
    """
    seen: set[int] = set()
    for shift in range(len(real)):
        for row, dialogue in enumerate(real):
            turns = (*dialogue.context, real[(row + shift) % len(real)].turns[-1])
            pair = Dialogue(id=f"{shift}-{row}", turns=turns, conversation=dialogue.conversation)
            text = int(digest(render(pair))[:16], 16)
            if text in seen:  # some published rows have the same text
                continue
            if len(seen) == count:
                return
            seen.add(text)
            yield pair
    if len(seen) < count:
        raise click.ClickException(f"{len(real)} dialogues pair up to {len(seen)} texts, expected {count}")


def with_repeats(dialogues: Sequence[Dialogue], share: float) -> list[Dialogue]:
    """Return as many dialogues, of which a ``share`` repeat the text of another one, in random places; ids differ."""
    rng = random.Random(1)
    distinct = list(dialogues[: max(1, round(len(dialogues) * (1 - share)))])
    again = rng.choices(distinct, k=len(dialogues) - len(distinct))
    rows = [*distinct, *again]
    rng.shuffle(rows)
    return [Dialogue(id=str(number), turns=row.turns, conversation=row.conversation) for number, row in enumerate(rows)]


def write(dialogues: Iterator[Dialogue] | Sequence[Dialogue], path: Path) -> Path:
    """Write JSON lines of ``id`` and ``messages``."""
    with open(path, "w", encoding="utf-8") as file:
        for dialogue in dialogues:
            messages = to_messages(dialogue.turns)
            file.write(json.dumps({"id": dialogue.id, "messages": messages}) + "\n")
    return path


def check_distinct(path: Path, count: int) -> None:
    """Raise ClickException unless a file holds ``count`` dialogues whose ids and whose rendered texts differ."""
    ids: set[str] = set()
    texts: set[int] = set()
    for record in Corpus([str(path)]):
        if isinstance(record, Dialogue):
            ids.add(record.id)
            texts.add(int(digest(render(record))[:16], 16))
    if not len(ids) == len(texts) == count:
        raise click.ClickException(f"{path}: {len(ids)} ids and {len(texts)} texts, expected {count} of each")
