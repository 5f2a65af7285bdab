"""Which dialogues a report shows, and how much of each: typical, clear and borderline ones of every set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from scorer.arrays import Ints
from scorer.dialogue import HEADS, Dialogue, Turn
from selection.deciding.stability import most_doubtful
from selection.files.labels import LabelTable
from selection.report.numbers import Section
from selection.report.sources.rows import Rows

EXAMPLE_KINDS = {"typical": 12, "clear": 8, "borderline": 16}
"""Kinds of examples of a set, and how many of each are shown at most."""

CHARACTERS = 2400
"""Characters of a dialogue that are shown: of its response first, then of its latest turns."""


class Pick(NamedTuple):
    """A row that is shown, and what it is an example of."""

    row: int
    kind: str


def choose_examples(rows: Rows) -> list[Pick]:
    """Return the rows to show, set by set.

    Borderline ones are the most doubtful; clear ones lie farthest from both thresholds; typical ones are of the half
    nearest to the set's median scores, in the order of their ids' hashes: a rerun shows the same. Of several with
    the very same scores one is shown, unless those are a judge's whole numbers.
    """
    threshold = np.array(rows.info.threshold)
    picks = []
    for number in range(len(rows.names)):
        mine = np.flatnonzero(rows.sets == number)
        values, hashes = rows.judge_scale[mine], rows.hashes[mine]
        depth = np.abs(values - threshold).min(axis=1)
        middle = np.abs(values - np.median(values, axis=0)).max(axis=1) if len(mine) else depth
        half = np.argsort(middle, kind="stable")[: (len(mine) + 1) // 2]
        orders = {
            "borderline": mine[_doubtful(rows, mine)],
            "clear": mine[np.lexsort((hashes, -depth))],
            "typical": mine[half[np.argsort(hashes[half])]],
        }
        seen: set[bytes] = set()  # what is borderline is shown as such, and not again as clear or typical
        taken = {kind: list(_distinct(rows, order, EXAMPLE_KINDS[kind], seen)) for kind, order in orders.items()}
        picks += [Pick(row, kind) for kind in EXAMPLE_KINDS for row in taken[kind]]
    return picks


def _doubtful(rows: Rows, mine: Ints) -> Ints:
    """Return the places among ``mine`` of the borderline ones, most doubtful first."""
    places = np.flatnonzero(rows.borderline[mine])
    chance = np.full(len(rows), 0.5) if rows.chance is None else rows.chance
    return places[most_doubtful(chance[mine[places]], rows.hashes[mine[places]], len(places))]


def _distinct(rows: Rows, order: Ints, count: int, seen: set[bytes]) -> Iterator[int]:
    for row in order.tolist():
        if count == 0:
            return
        key = (rows.hashes if rows.judged[row] else rows.scores)[row].tobytes()
        if key not in seen:
            seen.add(key)
            count -= 1
            yield row


def example_sections(
    rows: Rows, picks: Sequence[Pick], dialogues: Mapping[int, Dialogue], labels: LabelTable | None
) -> dict[int, Section]:
    """Return what the page shows of each pick that has a dialogue, by row; ``judge`` is its label, if there is one."""
    known = np.full(len(picks), -1) if labels is None else labels.rows_of(rows.hashes[[pick.row for pick in picks]])
    found = {}
    for (row, kind), label in zip(picks, known.tolist(), strict=True):
        if (dialogue := dialogues.get(row)) is None:
            continue
        turns, left_out = shown_turns(dialogue.turns)
        found[row] = {
            "id": dialogue.id[:80],
            "set": rows.names[rows.sets[row]],
            "kind": kind,
            "scores": dict(zip(HEADS, rows.scores[row].tolist(), strict=True)),
            "judge": None if labels is None or label < 0 else labels.scores[label].tolist(),
            "judged": bool(rows.judged[row]),
            "borderline": bool(rows.borderline[row]),
            "chance": None if rows.chance is None else float(rows.chance[row]),
            "reason": rows.texts[rows.reasons[row]],
            "category": dialogue.category and dialogue.category[:60],
            "turns": turns,
            "turns_left_out": left_out,
        }
    return found


def shown_turns(turns: Iterable[Turn], room: int = CHARACTERS) -> tuple[list[Section], int]:
    """Return the latest turns that fit into ``room`` characters, and how many earlier ones were left out.

    ``cut`` counts the characters of a turn that are not shown. The response gets two thirds of the room at least.
    """
    *context, response = turns
    limit = room - min(room // 3, sum(len(turn.content) for turn in context))
    kept = [_clipped(response, limit)]
    room -= len(kept[0]["content"])
    for turn in reversed(context):
        if room <= 0:
            break
        kept.append(_clipped(turn, room))
        room -= max(1, len(kept[-1]["content"]))
    return kept[::-1], len(context) + 1 - len(kept)


def _clipped(turn: Turn, room: int) -> Section:
    return {"role": turn.role, "content": turn.content[:room], "cut": max(0, len(turn.content) - room)}
