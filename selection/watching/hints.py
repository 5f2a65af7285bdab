"""What to do about what is seen: a sentence, and the command that follows."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selection.watching.alerts import Finding
from selection.watching.counting.counts import Counts
from selection.watching.counting.reference import Reference, first_rows

_MODEL = "--model MODEL --max-cost 1"


@dataclass(frozen=True, slots=True)
class Hint:
    """A sentence, and a command where one follows; ``weight`` is 2 for what an alert is about, 1 for a suspicion."""

    text: str
    command: str | None = None
    weight: int = 0


def hints(
    counts: Counts,
    found: Sequence[Finding],
    alerts: Sequence[str],
    given: Reference | None,
    sources: Sequence[str],
    largest: dict[str, Any] | None,
) -> Iterator[Hint]:
    """Yield hints, the most urgent first.

    ``found`` are the figures with their 95 % intervals, ``alerts`` the names of those with an open alert, ``largest``
    the category that moved most beyond chance.
    """
    scores = " ".join(shlex.quote(source) for source in sources if source != "-") or "SCORES"
    reference = shlex.quote(given.name) if given is not None else None
    by_name = {one.name: one for one in found}
    urgent = [one for one in found if one.name in alerts]
    seen = [one for one in found if one.name not in alerts and one.is_beyond]
    yield from _grouped(urgent, 2, "", scores, reference)
    yield from _grouped(seen, 1, " (not sure enough for an alert)", scores, reference)
    if largest is not None and any(one.name.startswith(("drift", "set")) for one in urgent):
        yield Hint(
            f"The category “{largest['name']}” moved most: its {largest['head']} by {largest['value']:+.2f} points on "
            "average. Look at it first.",
            None,
            1,
        )
    if counts.moved:
        yield Hint(
            f"{len(counts.moved)} or more dialogues have other scores than in the reference, by up to "
            f"{counts.moved[0]['moved']:.1f} points. If no new scorer is meant to be in use, find out what changed.",
            "empathy check golden.jsonl --write dialogues.jsonl",
            1,
        )
    if given is None and counts.total and first_rows(counts) is None:
        known = sum(map(len, counts.reference.values()))
        yield Hint(
            f"{known:,} of the first {counts.wanted:,} dialogues are here that drift will be against. A reference "
            "of your own is better.",
            f"empathy watch {scores} --reference SCORES_FROM_BEFORE",
        )
    if counts.total and "outside" not in by_name:
        yield Hint(
            "How many dialogues are outside the training domain is not known: lines of scores do not say it, a folder "
            "of scores does, for every part.",
            "empathy score IN -o FOLDER",
        )


def _grouped(found: Sequence[Finding], weight: int, sure: str, scores: str, reference: str | None) -> Iterator[Hint]:
    """Yield a hint for each kind of figure: what is to be done about two of one kind is the same."""
    for kind in dict.fromkeys(one.name.split()[0] for one in found):
        text = "; ".join(one.text for one in found if one.name.split()[0] == kind)
        yield Hint(f"{_capital(text)}{sure}. {_ADVICE[kind]}", _command(kind, scores, reference), weight)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_ADVICE = {
    "outside": "Trust their scores less, and ask a judge about some of them: audit them.",
    "low": "They are neither warm nor sound, and the paper's rule keeps them in the rationality set: leave them out.",
    "drift": "See what changed, against the scores from before.",
    "set": "A selection by the same threshold will be of another kind: see what changed, and audit it.",
}


def _command(kind: str, scores: str, reference: str | None) -> str:
    if kind == "low":
        return f"empathy select dialogues.jsonl --scores {scores} --both-low discard -o sets"
    if kind == "drift":
        return f"empathy report {reference or 'SCORES_FROM_BEFORE'} {scores} -o drift.html"
    return f"empathy audit {scores} --dialogues dialogues.jsonl -o audit {_MODEL}"
