"""The words behind scores: lines of a selection folder, or one pass over a corpus."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from scorer.arrays import Ints
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus, id_hash
from scorer.inputs.parse import RecordError, parse_json, parse_record
from selection.errors import SelectionError
from selection.files.labels import Index
from selection.report.sources.rows import UNKNOWN, Facts, Rows

_WINDOW = 8192


def of_selection(path: Path, rows: Rows, wanted: Sequence[int]) -> dict[int, Dialogue]:
    """Return the dialogues of some rows of a selection folder, found by their line; other lines are not parsed.

    SelectionError where a set's file is not the one that belongs to the folder's table.
    """
    found = {}
    for number, name in enumerate(rows.names):
        file = path / rows.info.sets[name].file
        if file.parent != path:
            raise SelectionError(f"{path}: names the file {file}, expected one of its own; select again")
        place = np.cumsum(rows.sets == number) - 1
        row_at = {int(place[row]): row for row in wanted if rows.sets[row] == number}
        for line, raw in _lines(file, row_at):
            try:
                dialogue = parse_record(parse_json(raw.decode()))
            except (RecordError, UnicodeDecodeError) as error:
                raise SelectionError(f"{file}: line {line + 1} is no dialogue ({error}); select again") from None
            if id_hash(dialogue.id) != int(rows.hashes[row_at[line]]):
                raise SelectionError(
                    f"{file}: line {line + 1} is dialogue {dialogue.id[:80]!a}, and another one belongs there; the "
                    "file was changed after the selection, select again"
                )
            found[row_at[line]] = dialogue
    return found


def _lines(path: Path, wanted: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matched:
    """What a pass over a corpus found for one source: facts per row, and the dialogues of the rows that are shown.

    ``found`` counts the dialogues with a score, ``unknown`` those without.
    """

    facts: Facts
    dialogues: dict[int, Dialogue]
    found: int
    unknown: int


@dataclass(slots=True)
class _Pass:
    index: Index
    wanted: frozenset[int]
    known: array[int] = field(default_factory=lambda: array("q"))  # row, category, turns, words of each dialogue
    shown: dict[int, Dialogue] = field(default_factory=dict)


def of_corpus(corpus: Corpus, sources: Sequence[Rows], wanted: Sequence[Sequence[int]]) -> list[Matched]:
    """Return for each source what its dialogues in ``corpus`` say, in one pass; ``wanted`` rows keep their dialogue.

    SelectionError where no dialogue has an id of a source.
    """
    passes = [_Pass(Index(rows.hashes), frozenset(shown)) for rows, shown in zip(sources, wanted, strict=True)]
    codes: dict[str, int] = {}
    dialogues = (record for record in corpus if isinstance(record, Dialogue))
    seen = 0
    while window := list(islice(dialogues, _WINDOW)):
        seen += len(window)
        hashes = np.fromiter((id_hash(dialogue.id) for dialogue in window), dtype=np.uint64, count=len(window))
        for one in passes:
            _add(one, window, one.index.rows_of(hashes), codes)
    return [_matched(one, rows, tuple(codes), seen) for one, rows in zip(passes, sources, strict=True)]


def _add(one: _Pass, window: list[Dialogue], rows: Ints, codes: dict[str, int]) -> None:
    for dialogue, row in zip(window, rows.tolist(), strict=True):
        if row < 0:
            continue
        category = UNKNOWN if dialogue.category is None else codes.setdefault(dialogue.category, len(codes))
        one.known.extend((row, category, len(dialogue.turns), len(dialogue.response.split())))
        if row in one.wanted:
            one.shown[row] = dialogue


def _matched(one: _Pass, rows: Rows, names: tuple[str, ...], seen: int) -> Matched:
    if not seen:
        raise SelectionError("--dialogues holds no dialogue, all of its records are rejects (see `empathy score`)")
    if not one.known:
        raise SelectionError(
            f"none of the {seen:,} dialogues is in {rows.name}: their ids do not match; give the dialogues that were "
            "scored"
        )
    known = np.array(one.known).reshape(-1, 4)
    columns = np.full((3, len(rows)), UNKNOWN, dtype=np.int32)
    columns[:, known[:, 0]] = known[:, 1:].T
    categories, turns, words = columns
    facts = Facts(categories=categories, names=names, turns=turns, words=words)
    return Matched(facts=facts, dialogues=one.shown, found=len(known), unknown=seen - len(known))
