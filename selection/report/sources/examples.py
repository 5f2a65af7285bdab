"""Which dialogues a report shows, and how much of each: typical, clear and borderline ones of every set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.dialogue import HEADS, Turn
from selection.deciding.stability import most_doubtful
from selection.files.labels import LabelTable
from selection.report.sources.rows import Rows

KINDS = {"typical": 12, "clear": 8, "borderline": 16}
"""Kinds of examples of a set, and how many of each are shown at most."""

CHARACTERS = 2400
"""Characters of a dialogue that are shown: of its response first, then of its latest turns."""

Order = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pick:
    """A row that is shown, and what it is an example of."""

    row: int
    kind: str


@dataclass(frozen=True, slots=True)
class Text:
    """A dialogue's words, as a file has them; ``id`` as a person reads it."""

    id: str
    turns: tuple[Turn, ...]
    category: str | None = None


def choose(rows: Rows) -> list[Pick]:
    """Return the rows to show, set by set.

    Borderline ones are the most doubtful; clear ones lie farthest from both thresholds; typical ones are of the half
    nearest to the set's median scores, in the order of their ids' hashes: a rerun shows the same. Of several with
    the very same scores one is shown, unless those are a judge's whole numbers.
    """
    threshold = np.array(rows.threshold)
    picks = []
    for number in range(len(rows.names)):
        mine = np.flatnonzero(rows.sets == number)
        values = rows.judge_scale[mine]
        hashes = rows.hashes[mine]
        depth = np.abs(values - threshold).min(axis=1)
        middle = np.abs(values - np.median(values, axis=0)).max(axis=1) if len(mine) else depth
        half = np.argsort(middle, kind="stable")[: (len(mine) + 1) // 2]
        orders = {
            "borderline": mine[_doubtful(rows, mine)],
            "clear": mine[np.lexsort((hashes, -depth))],
            "typical": mine[half[np.argsort(hashes[half])]],
        }
        taken: dict[str, list[int]] = {}
        seen: set[bytes] = set()
        for kind, order in orders.items():
            taken[kind] = list(_distinct(rows, order, KINDS[kind], seen))
        picks += [Pick(row, kind) for kind in KINDS for row in taken[kind]]
    return picks


def _doubtful(rows: Rows, mine: Order) -> Order:
    """Return the places among ``mine`` of the borderline ones, most doubtful first."""
    places = np.flatnonzero(rows.borderline[mine])
    chance = np.full(len(rows), 0.5) if rows.chance is None else rows.chance
    order = most_doubtful(chance[mine[places]], rows.hashes[mine[places]], len(places))
    return np.asarray(places[order])


def _distinct(rows: Rows, order: Order, count: int, seen: set[bytes]) -> Iterator[int]:
    for row in order.tolist():
        if count == 0:
            return
        key = rows.hashes[row].tobytes() if rows.judged[row] else rows.scores[row].tobytes()
        if key not in seen:
            seen.add(key)
            count -= 1
            yield row


def to_json(rows: Rows, picks: Sequence[Pick], texts: dict[int, Text], labels: LabelTable | None) -> Iterator[Any]:
    """Yield what the page shows of each pick that has a text; ``judge`` is its label, if there is one."""
    known = np.full(len(picks), -1) if labels is None else labels.rows_of(rows.hashes[[pick.row for pick in picks]])
    for pick, label in zip(picks, known.tolist(), strict=True):
        if pick.row not in texts:
            continue
        text, row = texts[pick.row], pick.row
        turns, left_out = shown(text.turns)
        judge = None if labels is None or label < 0 else [float(value) for value in labels.scores[label]]
        yield {
            "id": text.id[:80],
            "set": rows.names[rows.sets[row]],
            "kind": pick.kind,
            "scores": dict(zip(HEADS, (float(value) for value in rows.scores[row]), strict=True)),
            "judge": judge,
            "judged": bool(rows.judged[row]),
            "borderline": bool(rows.borderline[row]),
            "chance": None if rows.chance is None else float(rows.chance[row]),
            "reason": rows.texts[rows.reasons[row]],
            "category": text.category and text.category[:60],
            "turns": turns,
            "turns_left_out": left_out,
        }


def shown(turns: Iterable[Turn], room: int = CHARACTERS) -> tuple[list[dict[str, Any]], int]:
    """Return the latest turns that fit into ``room`` characters, and how many earlier ones were left out.

    ``cut`` counts the characters of a turn that are not shown. The response gets two thirds of the room at least.
    """
    *context, response = turns
    limit = room - min(room // 3, sum(len(turn.content) for turn in context))
    kept = [_clipped(response, limit)]
    room -= len(kept[0]["content"])
    left_out = len(context)
    for turn in reversed(context):
        if room <= 0:
            break
        kept.append(_clipped(turn, room))
        room -= max(1, len(kept[-1]["content"]))
        left_out -= 1
    return kept[::-1], left_out


def _clipped(turn: Turn, room: int) -> dict[str, Any]:
    return {"role": turn.role, "content": turn.content[:room], "cut": max(0, len(turn.content) - room)}
