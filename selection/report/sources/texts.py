"""The words behind scores: lines of a selection folder, or one pass over a corpus."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.dialogue import Dialogue, Turn
from scorer.inputs.corpus import Corpus, id_hash
from selection.errors import SelectionError
from selection.files.labels import Index
from selection.report.sources.examples import Text
from selection.report.sources.rows import UNKNOWN, Facts, Rows

WINDOW = 8192

_ROLES = {"human": "user", "gpt": "assistant"}


def of_selection(path: Path, rows: Rows, wanted: Sequence[int]) -> dict[int, Text]:
    """Return the texts of some rows of a selection folder, found by their line; other lines are not parsed.

    SelectionError where a set's file is not the one that belongs to the folder's table.
    """
    texts = {}
    for number, name in enumerate(rows.names):
        file = path / str(rows.info["sets"][name].get("file"))
        if file.parent != path:
            raise SelectionError(f"{path}: names the file {file}, expected one of its own; select again")
        place = np.cumsum(rows.sets == number) - 1
        line_of = {int(place[row]): row for row in wanted if rows.sets[row] == number}
        for line, raw in _lines(file, line_of):
            row = line_of[line]
            try:
                text = _text(json.loads(raw))
                known = id_hash(text.id)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise SelectionError(f"{file}: line {line + 1} is no dialogue ({error!r}); select again") from None
            if known != int(rows.hashes[row]):
                raise SelectionError(
                    f"{file}: line {line + 1} is dialogue {text.id[:80]!a}, and another one belongs there; the file "
                    "was changed after the selection, select again"
                )
            texts[row] = text
    return texts


def _lines(path: Path, wanted: dict[int, int]) -> Iterator[tuple[int, bytes]]:
    """Yield the wanted lines of a file, by number from 0."""
    last, found = max(wanted, default=-1), 0
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(islice(file, last + 1)):
                if number in wanted:
                    found += 1
                    yield number, line
    except OSError as error:
        raise SelectionError(f"{path}: cannot be read ({error.strerror}); select again") from None
    if found < len(wanted):
        raise SelectionError(f"{path}: ends before line {last + 1}, which is in the selection; select again")


def _text(record: dict[str, Any]) -> Text:
    """Return a line of any of the formats that `empathy select` writes."""
    if "messages" in record:
        turns = [Turn(str(turn["role"]), str(turn["content"])) for turn in record["messages"]]
    elif "conversations" in record:
        turns = [
            Turn(_ROLES.get(turn["from"], str(turn["from"])), str(turn["value"])) for turn in record["conversations"]
        ]
    else:
        turns = [Turn("system", str(record["system"]))] if "system" in record else []
        for user, assistant in [*record.get("history", []), [record["instruction"], record["output"]]]:
            turns += [Turn("user", str(user)), Turn("assistant", str(assistant))]
    return Text(str(record["id"]), (*turns[:-1], turns[-1]), record.get("category"))


@dataclass(slots=True)
class Gathered:
    """What a pass over a corpus found for one source: facts a row, and the texts of the rows that are shown.

    ``found`` counts the dialogues with a score, ``unknown`` those without.
    """

    facts: Facts
    texts: dict[int, Text]
    found: int
    unknown: int


@dataclass(slots=True)
class _Pass:
    index: Index
    wanted: frozenset[int]
    rows: array[int] = field(default_factory=lambda: array("q"))
    categories: array[int] = field(default_factory=lambda: array("i"))
    turns: array[int] = field(default_factory=lambda: array("i"))
    words: array[int] = field(default_factory=lambda: array("i"))
    texts: dict[int, Text] = field(default_factory=dict)


def of_corpus(corpus: Corpus, sources: Sequence[Rows], wanted: Sequence[Sequence[int]]) -> list[Gathered]:
    """Return for each source what its dialogues in ``corpus`` say, in one pass; ``wanted`` rows keep their text.

    SelectionError where no dialogue has an id of a source.
    """
    passes = [_Pass(Index(rows.hashes), frozenset(shown)) for rows, shown in zip(sources, wanted, strict=True)]
    codes: dict[str, int] = {}
    dialogues = (record for record in corpus if isinstance(record, Dialogue))
    seen = 0
    while window := list(islice(dialogues, WINDOW)):
        seen += len(window)
        hashes = np.fromiter((id_hash(dialogue.id) for dialogue in window), dtype=np.uint64, count=len(window))
        for one in passes:
            _add(one, window, one.index.rows_of(hashes), codes)
    return [_gathered(one, rows, tuple(codes), seen) for one, rows in zip(passes, sources, strict=True)]


def _add(one: _Pass, window: list[Dialogue], rows: npt.NDArray[np.int64], codes: dict[str, int]) -> None:
    for dialogue, row in zip(window, rows.tolist(), strict=True):
        if row < 0:
            continue
        category = dialogue.category
        one.rows.append(row)
        one.categories.append(UNKNOWN if category is None else codes.setdefault(category, len(codes)))
        one.turns.append(len(dialogue.turns))
        one.words.append(len(dialogue.response.split()))
        if row in one.wanted:
            one.texts[row] = Text(dialogue.id, dialogue.turns, category)


def _gathered(one: _Pass, rows: Rows, names: tuple[str, ...], seen: int) -> Gathered:
    if not seen:
        raise SelectionError("--dialogues holds no dialogue, all of its records are rejects (see `empathy score`)")
    if not one.rows:
        raise SelectionError(
            f"none of the {seen:,} dialogues is in {rows.name}: their ids do not match; give the dialogues that were "
            "scored"
        )
    places = np.array(one.rows, dtype=np.int64)

    def column(values: array[int]) -> npt.NDArray[np.int32]:
        full = np.full(len(rows), UNKNOWN, dtype=np.int32)
        full[places] = np.array(values, dtype=np.int32)
        return full

    facts = Facts(categories=column(one.categories), names=names, turns=column(one.turns), words=column(one.words))
    return Gathered(facts, one.texts, len(places), seen - len(places))
